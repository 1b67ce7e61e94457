"""`unveil plugins list | check | new`: plug-ins of this installation, without a server."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from unveil.app.cli.common import Json, UsageError, print_items, stdout
from unveil.app.cli.groups import CommandGroup

plugins = CommandGroup(help="List, check and create plug-ins: schemes, attacks and metrics outside Unveil.")

_TEMPLATE = '''"""{title}: replace the cipher with your own. `unveil plugins check` tests the contract."""

from dataclasses import dataclass

import numpy as np

from unveil.plugins import Images, Scheme, setting


@dataclass(frozen=True)
class {cls}Settings:
    strength: int = setting(255, "Largest value of the mask", minimum=1, maximum=255)


class {cls}(Scheme[{cls}Settings, np.ndarray]):
    """Every channel value is combined with a secret mask by XOR; one mask serves all images of a size."""

    name = "{name}"
    title = "{title}"
    source = "unpublished"
    Settings = {cls}Settings

    def key_space_bits(self, height: int, width: int) -> float:
        """log2 of the number of keys."""
        return float(height * width * 3 * np.log2(self.settings.strength + 1))

    def derive(self, seed: bytes, height: int, width: int) -> np.ndarray:
        """The key of one image size from 32 secret bytes."""
        random = np.random.Generator(np.random.Philox(int.from_bytes(seed, "big") % 2**128))
        return random.integers(0, self.settings.strength + 1, (height, width, 3), np.uint8)

    def encrypt(self, images: Images, key: np.ndarray) -> Images:
        """uint8 [N, H, W, 3] -> the same shape."""
        return images ^ key

    def decrypt(self, images: Images, key: np.ndarray) -> Images:
        """The exact inverse. Delete this method if the scheme has no inverse."""
        return images ^ key
'''

_PYPROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{distribution}"
version = "0.1.0"
dependencies = ["unveil"]

[project.entry-points."unveil.schemes"]
{name} = "{module}:{cls}"

[tool.hatch.build.targets.wheel]
include = ["{module}.py"]
"""


def register(app: typer.Typer) -> None:
    app.add_typer(plugins, name="plugins")


@plugins.command("list")
def list_plugins(as_json: Json = False) -> None:
    """List the installed plug-ins, with the reason for each one that could not be loaded."""
    from unveil.models import catalog  # imported late: it loads NumPy

    found = catalog.plugins()
    rows = []
    for plugin in found:
        status = plugin.status if plugin.error is None else f"{plugin.status}: {plugin.error}"
        rows.append((plugin.name, plugin.kind or "", plugin.distribution or "", plugin.version or "", status))
    headings = ("plug-in", "kind", "distribution", "version", "status")
    print_items(as_json, [vars(plugin) for plugin in found], headings, rows, ["status"])


@plugins.command()
def check(source: Annotated[str, typer.Argument(metavar="FILE|MODULE", help="Plug-in to check")]) -> None:
    """Run the contract tests on a plug-in. A failure names the expected and the actual value, and the consequence."""
    # A process of its own: whether an import loads torch shows in a fresh one only.
    raise typer.Exit(subprocess.run([sys.executable, "-m", "unveil.testing", source], check=False).returncode)


@plugins.command()
def new(
    name: Annotated[str, typer.Argument(help="vendor/name, such as acme/my-cipher")],
    folder: Annotated[Path | None, typer.Option(help="Folder to create; default: the name of the scheme")] = None,
) -> None:
    """Create a plug-in package with one scheme that passes `unveil plugins check`."""
    from unveil.models import catalog

    try:
        catalog.check_plugin_name(name)
    except TypeError as error:
        raise UsageError(str(error)) from None
    short = name.partition("/")[2]
    module = re.sub(r"\W", "_", short)
    module = f"_{module}" if module[0].isdigit() else module
    words = re.split(r"[^a-z0-9]+", short)
    cls = "".join(word.capitalize() for word in words if word)
    cls = f"Scheme{cls}" if cls[0].isdigit() else cls
    target = folder or Path(short)
    if target.exists():
        raise UsageError(f"{target} already exists; choose another --folder")
    target.mkdir(parents=True)
    (target / f"{module}.py").write_text(_TEMPLATE.format(name=name, cls=cls, title=" ".join(words).capitalize()))
    values = {"distribution": name.replace("/", "-"), "name": short, "module": module, "cls": cls}
    (target / "pyproject.toml").write_text(_PYPROJECT.format(**values))
    stdout().print(f"wrote {target / module}.py; next: unveil plugins check {target / module}.py", soft_wrap=True)
