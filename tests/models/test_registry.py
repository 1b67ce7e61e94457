"""Built-ins and plug-ins pass through one registration; a plug-in that fails is recorded and harms nothing."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from unveil.models import catalog, registry
from unveil.models.registry import Origin, Rejected
from unveil.models.schemes.base import Scheme

SCHEME = """
from unveil.models.schemes.base import Scheme

class Shift(Scheme):
    name = "acme/shift"

    def derive(self, seed, height, width):
        return seed[0]

    def encrypt(self, images, key):
        return images + key
"""
ORIGIN = Origin("acme", "1.0", "0" * 64)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a plug-in file; what it registers disappears after the test."""
    catalog.schemes()
    for kind, known in registry._registry.items():
        monkeypatch.setitem(registry._registry, kind, dict(known))

    def write_file(text, name="plugin.py"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def load(path):
    return [registry._register_plugin(registry.kind_of(cls), cls, origin) for cls, origin in registry.load_source(path)]


def test_built_ins_have_the_products_origin_and_the_hash_of_their_file():
    for kind in ("scheme", "attack"):
        for name, cls in registry.registered(kind).items():
            origin = registry.origin_of(kind, name)
            assert origin.distribution == "unveil"
            source = Path(sys.modules[cls.__module__].__file__)
            assert origin.source_sha256 == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_file_is_a_plugin(write):
    path = write(SCHEME)
    (plugin,) = load(str(path))
    assert (plugin.name, plugin.kind, plugin.status, plugin.error) == ("acme/shift", "scheme", "loaded", None)
    assert (plugin.distribution, plugin.version) == ("plugin.py", None)
    assert plugin.source_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    described = catalog.describe_scheme("acme/shift")
    assert described["title"] == "acme/shift"
    assert not described["invertible"]
    assert described["variants"][0]["key_space_bits"] is None
    assert described["origin"]["source_sha256"] == plugin.source_sha256
    assert {"none", "fr", "itn"} <= set(described["attacks"])
    assert "brute-force" not in described["attacks"]


def test_built_ins_come_first_and_are_not_shadowed(write):
    load(str(write(SCHEME)))
    assert list(catalog.schemes())[-1] == "acme/shift"
    for name in ("tanaka", "unveil/tanaka", "ACME/x", "acme", "acme/x/y", "acme/../x"):
        (plugin,) = load(str(write(SCHEME.replace("acme/shift", name), f"{hash(name)}.py")))
        assert plugin.status == "failed"
        assert "must have the form vendor/name" in plugin.error
    assert catalog.schemes()["tanaka"].__module__ == "unveil.models.schemes.tanaka"


def test_the_same_class_again_is_no_conflict_and_another_of_its_name_is(write):
    cls = catalog.schemes()["tanaka"]
    registry.register("scheme", cls, ORIGIN)
    with pytest.raises(Rejected, match="'tanaka' is already registered by unveil"):
        registry.register("scheme", type("Impostor", (cls,), {}), ORIGIN)
    for kind, wrong in (("attack", cls), ("scheme", Scheme)):
        with pytest.raises(Rejected, match="must be a concrete subclass"):
            registry.register(kind, wrong, ORIGIN)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("    name =", "    api_version = 2\n    name ="), "version 2 of the plug-in API.*has 1: upgrade"),
        (("    name =", "    size_multiple = property(lambda self: 1 / 0)\n    name ="), "ZeroDivisionError"),
    ],
)
def test_a_class_that_the_catalog_cannot_use_is_recorded_with_the_reason(write, change, expected):
    (plugin,) = load(str(write(SCHEME.replace(*change))))
    assert plugin.status == "failed"
    assert re.search(expected, plugin.error)
    assert "acme/shift" not in catalog.schemes()


@pytest.mark.parametrize(
    "line",
    ["import torch", "from torch import nn", "try:\n    import torchvision.models\nexcept ImportError:\n    pass"],
)
def test_torch_at_module_level_is_refused_with_its_line(write, line):
    with pytest.raises(Rejected, match=r"line \d+ imports torch(vision)? at module level"):
        load(str(write(line + "\n" + SCHEME)))
    late = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\ndef f():\n    import torch\n"
    (plugin,) = load(str(write(late + SCHEME, "late.py")))
    assert plugin.status == "loaded"


def test_a_file_without_plugins_and_one_that_does_not_exist_are_refused(write):
    with pytest.raises(Rejected, match="defines no concrete subclass"):
        load(str(write("x = 1\n")))
    with pytest.raises(Rejected, match="there is no file"):
        load("/nowhere/x.py")
    with pytest.raises(Rejected, match="there is no module 'no_such_module'"):
        load("no_such_module")


def test_the_variable_is_read_in_every_process_and_failures_are_not_fatal(write, tmp_path):
    good, broken = write(SCHEME), write("raise RuntimeError('boom')", "broken.py")
    indirect = write("import helper\n" + SCHEME.replace("acme/shift", "acme/heavy"), "indirect.py")
    (tmp_path / "helper.py").write_text("import torch\n")
    code = (
        "import json, sys; from unveil.models import catalog; catalog.load_plugins(torch_free=True);"
        "print(json.dumps([[p.name, p.status, p.error] for p in catalog.plugins()]))"
    )
    env = {
        **os.environ,
        "UNVEIL_PLUGINS": f"{good}, {broken},{indirect}",
        "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}{os.pathsep}{tmp_path}",
    }
    out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    by_name = {name: (status, error) for name, status, error in json.loads(out)}
    assert by_name["acme/shift"] == ("loaded", None)
    assert by_name[str(broken)] == ("failed", "RuntimeError: boom")
    assert "its import loads torch" in by_name[str(indirect)][1]
