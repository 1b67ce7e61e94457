"""A project with its own `models/` and `app/` installs the wheel without extras, and uses and type-checks it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import PIL.Image
import pytest

from tests.sample_images import pixels, png
from tests.test_packaging import SERVER_PACKAGES, TORCH_PACKAGES
from tests.wheels import ROOT, UV, build_wheel
from unveil.app.local.stack import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCRIPT = """
import sys
from pathlib import Path

import app
import models
import unveil

assert (app.OWNER, models.OWNER) == ("the project", "the project")


def encrypt(url: str, token: str, image: Path, out: Path) -> int:
    with unveil.Client(url, token) as client:
        encrypted = client.encrypt([image], "tanaka")
        out.write_bytes(encrypted[0].data)
        return len(client.decrypt(encrypted))


print(encrypt(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])))
"""


class Project:
    """A user's project: its folder, and an environment of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / ".venv" / "bin"
        self.environment = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}

    def run(self, *command: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            cwd=self.folder, env={**self.environment, **(environment or {})},
            capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("project")
    for package in ("models", "app"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text('OWNER = "the project"\n')
    (folder / "encrypt.py").write_text(SCRIPT)
    (folder / "image.png").write_bytes(png(0))
    wheel = build_wheel(tmp_path_factory.mktemp("wheel"))
    # Not `python -m venv`: its seed packages need pip. uv takes the packages of the lock from its cache.
    subprocess.run([*UV, "venv", "--quiet", "--python", sys.executable, str(folder / ".venv")], check=True)
    subprocess.run(
        [*UV, "pip", "install", "--quiet", "--python", str(folder / ".venv" / "bin" / "python"),
         "--constraint", str(ROOT / "requirements.lock"), str(wheel), "mypy"],
        check=True,
    )  # fmt: skip
    return Project(folder)


@pytest.fixture(scope="module")
def service(stack: LocalStack) -> dict[str, str]:
    return {"UNVEIL_URL": stack.url, "UNVEIL_TOKEN": stack.token}


def test_it_brings_no_server_package_and_no_torch(project: Project) -> None:
    listed = subprocess.run(
        [*UV, "pip", "list", "--format", "json", "--python", str(project.bin / "python")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    installed = {package["name"] for package in json.loads(listed.stdout)}
    assert {"unveil", "numpy", "scikit-image"} <= installed
    assert not installed & (SERVER_PACKAGES | TORCH_PACKAGES)


def test_import_unveil_takes_less_than_a_second_and_loads_no_framework(project: Project) -> None:
    code = (
        "import sys, time\nstarted = time.process_time()\nimport unveil\n"
        "print(time.process_time() - started, unveil.__version__, unveil.Client.__name__)\n"
        "print(sorted({'torch', 'fastapi', 'celery', 'skimage', 'scipy'} & set(sys.modules)))"
    )
    done = project.run("python", "-c", code)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert float(first.split()[0]) < 1
    assert first.endswith("Client")
    assert second == "[]"


def test_a_script_encrypts_with_the_client_beside_packages_of_the_same_names(
    project: Project, stack: LocalStack
) -> None:
    done = project.run("python", "encrypt.py", stack.url, stack.token, "image.png", "encrypted.png")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    with PIL.Image.open(project.folder / "encrypted.png") as encrypted:
        assert encrypted.size == (24, 24)
        assert encrypted.tobytes() != pixels(0).tobytes()


def test_mypy_checks_the_script_strictly(project: Project) -> None:
    done = project.run("mypy", "--strict", "encrypt.py", "app", "models")
    assert done.returncode == 0, done.stdout
    (project.folder / "wrong.py").write_text("import unveil\n\nunveil.Client(url=1).encrypt(2, 3)\n")
    done = project.run("mypy", "--strict", "wrong.py")
    assert done.returncode == 1, "the package has no types here"
    assert done.stdout.count("arg-type") >= 2


def test_the_command_line_encrypts_and_evaluates(project: Project, service: dict[str, str]) -> None:
    assert project.run("unveil", "--help").returncode == 0
    done = project.run("unveil", "encrypt", "image.png", "--scheme", "tanaka", "--out", "out", environment=service)
    assert done.returncode == 0, done.stderr
    assert list((project.folder / "out").glob("*.png"))
    done = project.run(
        "unveil", "evaluate", "--schemes", "tanaka", "--attacks", "none", "--dataset", "sample", "--profile", "smoke",
        "--watch", environment=service,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = project.run("unveil", "doctor", environment=service)
    assert done.returncode == 0, done.stdout
    assert re.search(r"sqlalchemy: not installed; .*unveil\[server\]", done.stdout)


@pytest.mark.parametrize(
    "command",
    ["local", "serve", "worker", "migrate", "accounts list", "retention --older-than 1d", "backup all.tar",
     "restore encrypt.py --state new", "keys new-ring ring", "keys rotate-master"],
)  # fmt: skip
def test_a_server_command_names_the_extra_to_install(project: Project, command: str) -> None:
    done = project.run("unveil", *command.split())
    assert done.returncode == 1
    assert re.search(
        r"^error: this command needs \w+, which is not installed: pip install 'unveil\[server\]'", done.stderr
    )
    assert "Traceback" not in done.stderr


def test_an_attack_without_torch_runs_and_one_with_torch_names_the_extra(project: Project) -> None:
    evaluation = ["python", "-m", "unveil.models.evaluation"]
    assert project.run(*evaluation, "--help").returncode == 0
    given = ["--scheme", "tanaka", "--data", "sample", "--profile", "smoke", "--out", "cell"]
    done = project.run(*evaluation, *given, "--attack", "fr")
    assert done.returncode == 0, done.stderr
    assert json.loads((project.folder / "cell" / "result.json").read_text())["result"]["verdict"]
    done = project.run(*evaluation, *given, "--attack", "itn")
    assert done.returncode == 1
    assert done.stderr.endswith("failed: torch is not installed: pip install 'unveil[torch]'\n")
