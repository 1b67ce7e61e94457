"""Compose file, Dockerfile, extras, make targets and lock, checked by reading them: no container engine is needed."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

from unveil.app.broker import QUEUES
from unveil.app.cli import EXTRAS
from unveil.app.settings import Settings

ROOT = Path(__file__).parents[1]
OWN_SERVICES = {"api", "migrate", "worker-encrypt", "worker-attack", "worker-attack-gpu"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    loaded: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return loaded


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def test_compose_has_the_service_its_workers_and_real_servers(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == OWN_SERVICES | {"postgres", "redis"}
    assert compose["services"]["worker-attack"]["profiles"] == ["cpu"]
    assert compose["services"]["worker-attack-gpu"]["profiles"] == ["gpu"]
    gpu = compose["services"]["worker-attack-gpu"]["deploy"]["resources"]["reservations"]["devices"][0]
    assert gpu["capabilities"] == ["gpu"]


def test_every_queue_has_a_worker(compose: dict[str, Any]) -> None:
    commands = {
        name: compose["services"][name].get("command", "") for name in OWN_SERVICES if name.startswith("worker")
    }
    served = {queue for command in commands.values() for queue in command.split("--queues ")[1].split()[0].split(",")}
    assert served == set(QUEUES)


def test_secrets_have_no_default_and_are_in_no_file(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for secret in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "UNVEIL_KEYRING"):
        uses = re.findall(rf"(?<!\$)\$\{{{secret}\b([^}}]*)\}}", text)
        assert uses, f"{secret} is not used"
        assert all(use.startswith(":?") for use in uses)
    for name in OWN_SERVICES:
        environment = compose["services"][name]["environment"]
        assert environment["UNVEIL_ENVIRONMENT"] == "production"


def test_compose_passes_the_settings_of_a_proxy_to_the_api(
    compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = compose["services"]["api"]["environment"]
    names = ("UNVEIL_SECURE_COOKIES", "UNVEIL_FORWARDED_ALLOW_IPS", "UNVEIL_ROOT_PATH")
    for name in names:
        assert environment[name].startswith(f"${{{name}:-")
        monkeypatch.setenv(name, environment[name].removeprefix(f"${{{name}:-").removesuffix("}"))
    defaults = Settings()
    assert (defaults.secure_cookies, defaults.forwarded_allow_ips, defaults.root_path) == (False, "", "")


def test_only_containers_that_decrypt_have_the_keyring(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        needs_keyring = name in OWN_SERVICES - {"migrate"}
        assert ("keyring" in service.get("secrets", [])) == needs_keyring, name
        assert ("UNVEIL_KEYRING_FILE" in service["environment"]) == needs_keyring, name


def test_only_the_api_is_on_a_network_with_a_way_out(compose: dict[str, Any]) -> None:
    networks = {name: service["networks"] for name, service in compose["services"].items()}
    assert networks.pop("api") == ["front", "back"]
    assert set(map(tuple, networks.values())) == {("back",)}
    assert compose["networks"]["back"] == {"internal": True}
    assert [name for name, service in compose["services"].items() if "ports" in service] == ["api"]


def test_every_long_lived_service_has_a_health_check(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name != "migrate":
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name


def test_nothing_starts_before_the_migrations_have_run(compose: dict[str, Any]) -> None:
    assert compose["services"]["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in OWN_SERVICES - {"migrate"}:
        waits = compose["services"][name]["depends_on"]
        assert waits["migrate"] == {"condition": "service_completed_successfully"}
        assert waits["redis"] == {"condition": "service_healthy"}


def test_our_containers_have_a_read_only_root_and_no_capabilities(compose: dict[str, Any]) -> None:
    for name in OWN_SERVICES:
        service = compose["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service, "the image sets the user"


def test_redis_keeps_nothing_on_disk(compose: dict[str, Any]) -> None:
    assert 'appendonly no\\nsave \\"\\"' in compose["services"]["redis"]["command"]
    assert "volumes" not in compose["services"]["redis"]
    assert compose["services"]["redis"]["tmpfs"] == ["/data"]


def test_the_images_have_the_targets_that_compose_builds_and_do_not_run_as_root(
    compose: dict[str, Any], dockerfile: str
) -> None:
    targets = {compose["services"][name]["build"]["target"] for name in OWN_SERVICES}
    assert targets == {"api", "worker"}
    for target in targets:
        stage = dockerfile.split(f" AS {target}\n")[1].split("\nFROM ", maxsplit=1)[0]
        assert "USER 10001" in stage
        assert "HEALTHCHECK" in stage
    assert set(re.findall(r"^FROM (\S+:\S+)", dockerfile, re.MULTILINE)) == {"python:3.11-slim-bookworm"}


def test_the_api_image_has_no_torch_and_the_worker_image_has_it(dockerfile: str) -> None:
    extras = {}
    for target in ("api", "worker"):
        stage = dockerfile.split(f" AS build-{target}\n")[1].split("\nFROM ", maxsplit=1)[0]
        extras[target] = set(re.findall(r"--extra (\w+)", stage))
    assert extras == {"api": {"server", "s3"}, "worker": {"server", "s3", "torch"}}


SERVER_PACKAGES = {
    "alembic", "celery", "cryptography", "fastapi", "fastapi-offline", "fsspec", "prometheus-client",
    "prometheus-fastapi-instrumentator", "psutil", "psycopg", "pydantic-settings", "python-multipart", "redis",
    "sqlalchemy", "starlette", "structlog", "typst", "uvicorn",
}  # fmt: skip
TORCH_PACKAGES = {"safetensors", "torch", "torchvision"}


def test_the_base_install_brings_no_server_package_and_no_torch(project: dict[str, Any]) -> None:
    base = {_name(requirement) for requirement in project["dependencies"]}
    assert base >= {"httpx", "numpy", "pillow", "rich", "scikit-image", "scipy", "typer"}
    assert not base & (SERVER_PACKAGES | TORCH_PACKAGES)


def test_each_extra_brings_what_it_is_named_after(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    assert set(extras) == {"torch", "pdf", "server", "local", "s3", "notebook", "dev"}
    assert {_name(requirement) for requirement in extras["server"]} == SERVER_PACKAGES
    assert {_name(requirement) for requirement in extras["pdf"]} == {"typst"}
    assert {_name(requirement) for requirement in extras["torch"]} == TORCH_PACKAGES
    assert "unveil[server,torch]" in extras["local"]


def test_the_command_line_names_the_extra_of_every_module_that_the_base_install_lacks(project: dict[str, Any]) -> None:
    extras = project["optional-dependencies"]
    for requirement in (*extras["server"], *extras["torch"], *extras["s3"]):
        smallest = EXTRAS[_name(requirement).replace("-", "_")]
        assert _name(requirement) in map(_name, extras[smallest])


def _name(requirement: str) -> str:
    return Requirement(requirement).name


def test_the_lock_pins_everything_by_hash_and_names_no_index() -> None:
    entries = re.split(r"\n(?=\S)", (ROOT / "requirements.lock").read_text().strip())
    entry_form = re.compile(r"([a-z0-9._-]+==[^ ]+)( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+")
    matches = [entry_form.fullmatch(entry) for entry in entries]
    assert all(matches)
    assert {"torch==2.13.0", "torchvision==0.28.0"} <= {match[1] for match in matches}, "a matched pair"


def test_packages_are_installed_by_hash_and_the_project_without_dependencies(dockerfile: str) -> None:
    recipe = subprocess.run(
        ["make", "--dry-run", "--always-make", "setup"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for text in (recipe, dockerfile):
        commands = re.findall(r"(?:uv pip|python -m pip|\| pip) install (?:.*\\\n)*.*", text)
        assert len(commands) in (3, 5)
        for command in commands:
            assert ("--require-hashes" in command) != ("--no-deps --build-constraints" in command), command


# Packages that parse untrusted input, and the first version without their published vulnerabilities.
MIN_VERSIONS = {
    "aiohttp": ("3.13.3", "CVE-2025-69223: decompression bombs in responses"),
    "h11": ("0.16.0", "CVE-2025-43859: request smuggling by malformed chunks"),
    "jinja2": ("3.1.6", "CVE-2025-27516: sandbox escape"),
    "pillow": ("12.3.0", "CVE-2026-25990 (PSD), CVE-2026-40192 (FITS bomb), PYSEC-2026-2253 to 2257"),
    "python-multipart": ("0.0.27", "CVE-2026-24486: path traversal; CVE-2026-42561: unbounded headers"),
    "starlette": ("1.3.1", "CVE-2026-48710: Host header poisons the path; CVE-2025-62727, CVE-2026-54283"),
    "torch": ("2.10.0", "CVE-2025-32434, CVE-2026-24747: bypasses of weights_only"),
    "urllib3": ("2.6.0", "CVE-2025-66418: decompression bombs in responses"),
}


@pytest.mark.parametrize("name", MIN_VERSIONS)
def test_the_lock_pins_no_version_with_a_known_vulnerability_in_parsing(name: str) -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pinned = [line.split(" ")[0].partition("==")[2] for line in lines if line.startswith(f"{name}==")]
    assert pinned
    assert all(Version(version) >= Version(MIN_VERSIONS[name][0]) for version in pinned), MIN_VERSIONS[name][1]


def test_make_demo_does_not_print_its_own_command() -> None:
    assert "\t@$(BIN)/python examples/demo.py" in (ROOT / "Makefile").read_text()


@pytest.mark.parametrize(
    "target", ["setup", "demo", "up", "test", "test-slow", "check", "bench", "chaos", "docs", "lock", "clean"]
)
def test_make_knows(target: str) -> None:
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_every_container_has_a_limit_of_memory_and_of_processes(compose: dict[str, Any]) -> None:
    limits = {
        name: (service.get("mem_limit"), service.get("pids_limit")) for name, service in compose["services"].items()
    }
    assert all(memory and pids for memory, pids in limits.values()), limits
