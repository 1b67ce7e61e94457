"""A plug-in attack runs in a process that holds neither the key nor the originals."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import psutil
import pytest

from unveil.models import catalog, registry
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.errors import AttackFailed, Cancelled, DoesNotApply, OutOfMemory
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.evaluation.attack_messages import send
from unveil.models.evaluation.attacker_view import build_attack_input, protect_function, split_images
from unveil.models.evaluation.isolation import _request, run_attack
from unveil.models.schemes.base import seed_secret

PLUGIN = '''
import gc, os, time
import numpy as np
from unveil.models.core import errors
from unveil.plugins import *

class Settings:
    pass

class Search(Attack):
    """Looks for the secret bytes and for a row of an original in everything it can reach."""

    name = "acme/search"
    threat_model = ThreatModel.of(Capability.ORACLE, Capability.PAIRS, Capability.MODEL)

    def run(self, attack_input, context):
        print("what an attack prints goes to the log")
        oracle = attack_input.oracle(attack_input.targets[:2])
        needles = [bytes((37 * i + 11) % 256 for i in range(32)), bytes.fromhex("ROW"[::-1])]
        found = 0
        reachable = gc.get_objects() + [c.cell_contents for c in attack_input.oracle.__closure__ or ()]
        holders = {id(o): o for o in gc.get_referents(*reachable) if type(o) in (bytes, bytearray, np.ndarray)}
        for item in holders.values():
            data = item.tobytes() if type(item) is np.ndarray else item
            if not any(data is needle for needle in needles):
                found += any(needle in data for needle in needles)
        context.report(0.5, "searched")
        context.metric("found", 1, found)
        secrets = [name for name in os.environ if name.startswith("UNVEIL_") and name != "UNVEIL_PLUGINS"]
        store = context.checkpoints.child("deep")
        store.write("state", b"saved")
        return AttackResult(
            reconstructed=attack_input.targets,
            metrics={"found": found, "variables": len(secrets), "oracle": float(oracle.mean()),
                     "probability": float(attack_input.model(attack_input.targets)[:, 1].sum()),
                     "pairs": len(attack_input.pairs.plain), "ablation": float(context.ablation)},
            notes=(store.read("state").decode(), str(store.read("none"))),
            ablation=[("curve", 1.0, attack_input.targets[:1])],
        )

class Floats(Attack):
    name = "acme/floats"
    threat_model = ThreatModel.KNOWN_PLAINTEXT
    takes = "ciphertext"

    def run(self, attack_input, context):
        views = attack_input.scheme.view(attack_input.targets, attack_input.images.shape)
        kinds = {a.dtype.str for a in (attack_input.targets, attack_input.observed, attack_input.pairs.protected)}
        return AttackResult(views, notes=tuple(kinds))

class Faulty(Attack):
    name = "acme/faulty"
    threat_model = ThreatModel.CIPHERTEXT_ONLY

    def run(self, attack_input, context):
        if len(attack_input.targets) == 1:
            print("silent", flush=True)
            time.sleep(60)
        if len(attack_input.targets) == 2:
            os._exit(3)
        if len(attack_input.targets) == 3:
            return AttackResult(reconstructed=attack_input.targets.astype(float))
        if context.seed:
            raise (errors.OutOfMemory if context.seed == 1 else errors.DoesNotApply)("as the seed says")
        raise KeyError("nothing")
'''
SECRET = seed_secret(bytes((37 * i + 11) % 256 for i in range(32)))
DATA = sample().take(8, 4)


@pytest.fixture
def attacks(tmp_path, monkeypatch):
    catalog.schemes()
    monkeypatch.setitem(registry._registry, "attack", dict(registry._registry["attack"]))
    path = tmp_path / "search.py"
    path.write_text(PLUGIN.replace("ROW", DATA.test[0, 40].tobytes().hex()[::-1]))
    monkeypatch.setenv("UNVEIL_PLUGINS", str(path))
    monkeypatch.setenv("UNVEIL_KEYRING_FILE", "/secret/place")
    for cls, origin in registry.load_source(str(path)):
        registry.register("attack", cls, origin)
    return registry.registered("attack")


def make_input(attack, count=4):
    scheme = catalog.make_scheme("pixelwise", {})
    split = split_images(attack, DATA.test[:count], DATA.train, labels=np.arange(len(DATA.train)) % 2)
    return build_attack_input(scheme, attack, split, lambda images, first: scheme.protect(images, SECRET, first))


def test_keys_and_variables_of_the_service_are_out_of_reach_and_the_oracle_answers(attacks, tmp_path):
    attack = catalog.make_attack("acme/search", {})
    attack_input, curve, phases = make_input(attack), [], []
    context = RunContext(
        ablation=False,
        checkpoints=DirectoryStore(tmp_path / "checkpoints"),
        report=lambda fraction, phase: phases.append(phase),
        metric=lambda *point: curve.append(point),
    )
    result = run_attack(attack, attack_input, context)
    assert result.metrics["found"] == result.metrics["variables"] == 0
    assert result.metrics["oracle"] == pytest.approx(attack_input.oracle(attack_input.targets[:2]).mean())
    assert result.metrics["probability"] == pytest.approx(attack_input.model(attack_input.targets)[:, 1].sum())
    assert result.metrics["ablation"] == 0.0
    assert result.metrics["pairs"] == len(attack_input.pairs.plain)
    assert (result.reconstructed == attack_input.targets).all()
    assert (result.ablation[0][2] == attack_input.targets[:1]).all()
    assert result.notes == ("saved", "None")
    assert curve == [("found", 1, 0.0)]
    assert "searched" in phases
    assert (tmp_path / "checkpoints" / "deep" / "state").read_bytes() == b"saved"


def test_an_attack_that_takes_ciphertexts_receives_them_in_its_process(attacks):
    attack, scheme = catalog.make_attack("acme/floats", {}), catalog.make_scheme("block-orthogonal", {})
    split = split_images(attack, DATA.test, DATA.train)
    attack_input = build_attack_input(scheme, attack, split, protect_function(scheme, attack, SECRET))
    result = run_attack(attack, attack_input, RunContext())
    assert result.notes == ("<f4",)
    assert (result.reconstructed == scheme.protect(DATA.test, SECRET)).all()


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (2, "ended without a result, exit code 3"),
        (3, r"returned float64 \[3, 96, 96, 3\] as `reconstructed`; expected uint8"),
        (4, r"acme/faulty raised KeyError in search.py line \d+: 'nothing'"),
    ],
)
def test_a_fault_of_the_attack_ends_its_cell_with_the_reason(attacks, count, message):
    attack = catalog.make_attack("acme/faulty", {})
    with pytest.raises(AttackFailed, match=message):
        run_attack(attack, make_input(attack, count), RunContext())


@pytest.mark.parametrize(("seed", "kind"), [(1, OutOfMemory), (2, DoesNotApply)])
def test_a_failure_keeps_its_kind(attacks, seed, kind):
    """The kind decides the error code of the cell, and whether it failed or does not apply."""
    attack = catalog.make_attack("acme/faulty", {})
    with pytest.raises(AttackFailed) as failure:
        run_attack(attack, make_input(attack), RunContext(seed=seed))
    assert type(failure.value) is kind


def test_a_silent_attack_is_cancelled(attacks):
    attack = catalog.make_attack("acme/faulty", {})

    def cancel(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        run_attack(attack, make_input(attack, 1), RunContext(report=cancel))


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "unveil.models.evaluation.attack_process"])
print(child.pid, flush=True)
child.wait()
"""


def test_a_silent_attack_ends_with_its_killed_worker(attacks):
    attack = catalog.make_attack("acme/faulty", {})
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=pipe, stdout=pipe, stderr=pipe) as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        send(parent.stdin, _request(attack, make_input(attack, 1), RunContext()))
        while b"silent" not in (line := parent.stderr.readline()):
            assert line, "the process of the attack ended"
        parent.kill()
        assert psutil.wait_procs([child], timeout=30) == ([child], [])


def test_a_built_in_runs_here(monkeypatch):
    attack = catalog.make_attack("none", {})
    monkeypatch.setattr("subprocess.Popen", None)
    attack_input = replace(make_input(attack), oracle=None)
    assert np.array_equal(run_attack(attack, attack_input, RunContext()).reconstructed, attack_input.targets)
