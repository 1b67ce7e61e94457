"""One import name: `unveil/` links to the real directories, in the checkout as in wheel, service and workers."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from alembic.config import Config
from alembic.script import ScriptDirectory
from celery.bin.celery import celery as celery_command

from tests.sample_images import png
from tests.wheels import build_sdist, build_wheel
from unveil.app.client.client import Client
from unveil.app.local.stack import LocalStack

ROOT = Path(__file__).parents[1]
PACKAGES = ("app", "worker", "models", "migrations")
PRODUCT = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_unveil_holds_relative_links_to_the_packages() -> None:
    links = {path.name: path.readlink() for path in (ROOT / "unveil").iterdir() if path.is_symlink()}
    assert links == {name: Path("..") / name for name in PACKAGES}


# --- one copy of every module ---


@cache
def _tree(file: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(file.read_text())))


def _bare_names(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names = [node.module]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            dotted = re.fullmatch(r"([a-z_]+(?:\.\w+)+)(?::\w+)?", node.value)
            names = [dotted[1]] if dotted else []
        for name in names:
            first, _, rest = name.partition(".")
            if first in PACKAGES and (not isinstance(node, ast.Constant) or _is_module(first, rest)):
                yield name


def _is_module(package: str, rest: str) -> bool:
    """Whether a dotted string names a module or something in one, and not, say, an event in a log."""
    path = ROOT / package / rest.partition(".")[0]
    return path.is_dir() or path.with_suffix(".py").is_file()


@pytest.mark.parametrize(
    "source",
    [
        "import app",
        "import models.core",
        "from worker.main import app",
        "x = 'app.main:create_app'",
        "'models.catalog'",
    ],
)
def test_the_search_for_bare_names_finds_them(source: str) -> None:
    assert list(_bare_names(ast.walk(ast.parse(source))))


@pytest.mark.parametrize("source", ["from unveil.app import main", "from . import app", "log('worker.lost')"])
def test_the_search_for_bare_names_finds_nothing_else(source: str) -> None:
    assert not list(_bare_names(ast.walk(ast.parse(source))))


def test_the_product_names_its_modules_by_their_one_import_name() -> None:
    assert len(PRODUCT) > 150
    sources = [*PRODUCT, *(ROOT / "unveil").glob("*.py")]
    found = {f"{file.relative_to(ROOT)}: {name}" for file in sources for name in _bare_names(_tree(file))}
    assert found == set()


def test_the_product_imports_no_facade() -> None:
    facades = {"unveil", "unveil._audit", "unveil._audit_report", "unveil.plugins", "unveil.testing"}
    found = set()
    for file in PRODUCT:
        for node in _tree(file):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = (
                    [f"unveil.{alias.name}" for alias in node.names] if node.module == "unveil" else [node.module or ""]
                )
            found |= {f"{file.relative_to(ROOT)}: {name}" for name in names if name in facades}
    assert found == set()


@pytest.mark.parametrize("name", ["Dockerfile", "docker-compose.yml", "Makefile", "alembic.ini", ".ci/run"])
def test_a_file_of_the_deployment_names_modules_by_their_one_import_name(name: str) -> None:
    text = (ROOT / name).read_text()
    named = re.findall(r"(?:-m[\", ]+|--app[\", ]+|--factory[\", ]+)([a-z_]+(?:\.\w+)+)", text)
    for module in named:
        assert module.startswith(("unveil.", "benchmarks", "docs")), module
        assert importlib.util.find_spec(module) is not None, module
    assert not re.findall(rf"(?<![\w./-])(?:{'|'.join(PACKAGES)})\.[a-z_]+\b(?!\.py)", text)


def test_no_package_path_is_resolved_through_the_links() -> None:
    """`Path(__file__).resolve()` would leave `unveil/` for the real directory, which a wheel does not have."""
    search = re.compile(r"__file__\).*\.resolve\(|realpath\(__file__")
    assert search.search("Path(__file__).parent.resolve()")
    assert [file for file in PRODUCT if search.search(file.read_text())] == []


def test_service_workers_and_pool_children_load_one_copy_of_every_module(stack: LocalStack) -> None:
    with Client(stack.url, stack.token) as client:
        client.encrypt([png(0)], "tanaka")
    events = Path(stack.environment["IMPORT_LOG"]).read_text().splitlines()
    for process in ("main() serve --port", "celery --app unveil.worker.main", "billiard.spawn"):
        assert any(" start in " in event and process in event for event in events), f"no process {process!r} was seen"
    assert [event for event in events if " import " in event.partition(" in ")[0]] == []


def test_the_log_of_imports_shows_a_bare_import(tmp_path: Path) -> None:
    log = tmp_path / "log"
    path = os.pathsep.join([str(ROOT / "tests" / "import_log"), str(ROOT)])
    subprocess.run(
        [sys.executable, "-c", "import models"], env={"PYTHONPATH": path, "IMPORT_LOG": str(log)}, check=True
    )
    assert [line.split()[1:3] for line in log.read_text().splitlines()] == [["start", "in"], ["import", "models"]]


# --- entry points ---


@pytest.mark.parametrize("package", ["models", "models/evaluation"])
def test_a_package_that_runs_under_two_names_holds_no_code(package: str) -> None:
    body = ast.parse((ROOT / package / "__init__.py").read_text()).body
    assert [node for node in body if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))] == []


def test_the_evaluation_runs_in_a_checkout_under_the_short_name_and_loads_no_second_copy() -> None:
    code = (
        "import runpy, sys\nsys.argv[1:] = ['--help']\n"
        "try: runpy.run_module('models.evaluation', run_name='__main__', alter_sys=True)\n"
        "except SystemExit as end: code = end.code\n"
        "print('bare:', sorted(name for name in sys.modules if name.partition('.')[0] == 'models'))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--scheme" in done.stdout
    assert "bare: ['models', 'models.evaluation']" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "models.evaluation", "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "--scheme" in done.stdout


def test_celery_finds_the_application_and_tasks_with_explicit_names(capsys: pytest.CaptureFixture[str]) -> None:
    from celery.app.utils import find_app

    application = find_app("unveil.worker.main")
    application.loader.import_default_modules()
    ours = [name for name in application.tasks if not name.startswith("celery.")]
    assert ours
    assert not [name for name in ours if name.startswith(PACKAGES)], "named after a module, which may move"
    with pytest.raises(SystemExit) as end:
        celery_command.main(["--app", "unveil.worker.main", "--version"], prog_name="celery")
    assert end.value.code == 0


def test_the_application_factory_is_where_the_server_looks_for_it() -> None:
    from unveil.app import main

    assert callable(main.create_app)
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert compose["migrate"]["command"] == "python -m unveil.app.db.migrate"
    assert 'CMD ["unveil", "serve"' in (ROOT / "Dockerfile").read_text()
    assert '"unveil.app.main:create_app"' in (ROOT / "app" / "cli" / "server.py").read_text()


def test_alembic_finds_the_migrations_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Config(ROOT / "alembic.ini")
    assert config.get_main_option("script_location") == "unveil:migrations"
    revisions = {file.stem[:4] for file in (ROOT / "migrations" / "versions").glob("0*.py")}
    assert {str(script.revision)[:4] for script in ScriptDirectory.from_config(config).walk_revisions()} == revisions


# --- tools ---


def test_each_tool_reads_every_file_once() -> None:
    assert "unveil" in PYPROJECT["tool"]["mypy"]["files"]
    assert not set(PACKAGES) & set(PYPROJECT["tool"]["mypy"]["files"]), "mypy would check each file under two names"
    for pattern in PYPROJECT["tool"]["ruff"]["lint"]["per-file-ignores"]:
        files = list(ROOT.glob(pattern))
        assert files, f"no file matches {pattern}"
        assert all(file == file.resolve() for file in files), f"{pattern}: ruff does not follow links"
    assert PYPROJECT["tool"]["pytest"]["ini_options"]["testpaths"] == ["tests"]
    assert PYPROJECT["tool"]["importlinter"]["root_package"] == "unveil"


def test_the_container_build_gets_the_packages_and_the_links() -> None:
    first, *rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    assert first == "*"
    assert {rule for rule in rules if rule.startswith("!")} == {
        f"!{name}"
        for name in (
            *PACKAGES, "unveil", "pyproject.toml", "requirements.lock", "requirements-*.lock", "README.md", "LICENSE",
            "NOTICE",
        )
    }  # fmt: skip
    assert (ROOT / "Dockerfile").read_text().count("COPY . .") == 2


# --- wheel and source distribution ---


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_sdist(tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def _package_files() -> dict[str, bytes]:
    """Every file that git would commit, by its path in the wheel."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *PACKAGES, "unveil"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    prefix = {True: "", False: "unveil/"}
    names = [str(file.relative_to(ROOT)) for file in files if not file.is_symlink()]
    return {prefix[name.startswith("unveil/")] + name: (ROOT / name).read_bytes() for name in names}


def test_the_wheel_installs_unveil_alone_and_every_file_of_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        assert {name.partition("/")[0] for name in names} == {"unveil"}
        assert {name: archive.read(name) for name in names} == _package_files()


def test_the_wheel_holds_the_notice_and_the_notice_names_every_weight_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/NOTICE")]
        notice = archive.read(name).decode()
    files = sorted(path.name for path in (ROOT / "models" / "weights").iterdir() if path.is_file())
    assert [file for file in files if file not in notice] == []


def test_the_source_distribution_holds_everything(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        files = [member for member in archive.getmembers() if not member.isdir()]
        assert all(member.isfile() for member in files), "a link would point out of the archive"
        names = {member.name.partition("/")[2] for member in files}
    assert names >= {*_package_files(), "README.md", "pyproject.toml", "requirements.lock", "PKG-INFO"}


def test_the_wheel_of_the_source_distribution_equals_that_of_the_tree(sdist: Path, wheel: Path, tmp_path: Path) -> None:
    contents = []
    for path in (wheel, build_wheel(tmp_path, sdist)):
        with zipfile.ZipFile(path) as archive:
            contents.append({name: archive.read(name) for name in archive.namelist()})
    assert contents[0].keys() == contents[1].keys()
    assert contents[0] == contents[1]
