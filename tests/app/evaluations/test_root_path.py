"""The service below a path of a reverse proxy, which runs as a process of its own here."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.evaluations.conftest import ORDER as SMALL_ORDER
from unveil.app.client.client import Client
from unveil.app.http.root_path import RootPathMiddleware
from unveil.app.main import create_app
from unveil.app.settings import Settings

PROXY = Path(__file__).parents[2] / "reverse_proxy.py"
PREFIX = "/science/unveil"
_NOT_FOLLOWED = ("/sign-out", "/sign-in", "/train", ".png")  # forms, and images that a worker draws
ORDER = {**SMALL_ORDER, "schemes": [{"name": "tanaka"}], "attacks": [{"name": "none"}], "keys": 1}
_ADDRESS = re.compile(r"""\s(?:href|src|action)="([^"#][^"]*)["#]""")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"root_path": PREFIX})


@pytest.fixture(params=["strip", "keep"])
def proxied(service: Any, client: httpx.Client, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """A client of the service through a proxy that strips the path, and through one that passes it on."""
    command = [sys.executable, str(PROXY), service.url, PREFIX, request.param]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout is not None
        token = client.headers["Authorization"]
        with httpx.Client(base_url=proxy.stdout.readline().strip(), headers={"Authorization": token}, timeout=300) as c:
            yield c
        proxy.terminate()


def test_location_and_every_link_of_an_answer_lead_through_the_proxy(proxied: httpx.Client, run_cells) -> None:
    created = proxied.post(f"{PREFIX}/evaluations", json=ORDER)
    assert created.status_code == 202
    assert created.headers["Location"].startswith(f"{PREFIX}/evaluations/ev_")
    run_cells(created.json())
    evaluation = proxied.get(created.headers["Location"]).json()
    assert evaluation["status"] == "succeeded"
    links = [evaluation["links"][name] for name in ("self", "report", "events")]
    cell = next(cell for cell in evaluation["cells"] if cell["samples"])
    links += [cell["links"]["scores"], cell["samples"][0]["protected"], cell["samples"][0]["reconstructed"]]
    for link in links:
        assert link.startswith(f"{PREFIX}/evaluations/")
        assert proxied.get(link).status_code == 200, link
    wrong = proxied.post(f"{PREFIX}/evaluations", json={**ORDER, "attacks": [{"name": "fr", "b": 7}]}).json()
    assert [error["pointer"] for error in wrong["errors"]] == ["/attacks/0/b"], "a JSON pointer is no link"
    with Client(f"{proxied.base_url}{PREFIX}", proxied.headers["Authorization"][7:]) as client:
        again = client.evaluations.get(evaluation["id"])
        assert again.fetch(again.cells[0].samples[0].protected).startswith(b"\x89PNG")


def test_the_dashboard_and_all_that_its_pages_name_work_through_the_proxy(proxied: httpx.Client) -> None:
    token = proxied.headers.pop("Authorization")[7:]
    to_sign_in = proxied.get(f"{PREFIX}/dashboard/keys")
    assert to_sign_in.headers["Location"].startswith(f"{PREFIX}/sign-in?next=/dashboard/keys")
    headers = {"Origin": str(proxied.base_url).rstrip("/")}
    form = {"token": token, "next": "/dashboard/keys"}
    signed_in = proxied.post(f"{PREFIX}/sign-in", data=form, headers=headers)
    assert signed_in.headers["Location"] == f"{PREFIX}/dashboard/keys"
    seen, waiting = set[str](), [f"{PREFIX}/", f"{PREFIX}/dashboard/keys"]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        answer = proxied.get(path)
        assert answer.status_code == 200, path
        if answer.headers["Content-Type"].startswith("text/html") and not path.endswith("/docs"):
            found = {unescape(address).partition("?")[0] for address in _ADDRESS.findall(answer.text)}
            pages = {address for address in found if address and not address.startswith(("http", "data:"))}
            assert all(page.startswith(f"{PREFIX}/") for page in pages), (path, pages)
            waiting += [page for page in pages - seen - set(waiting) if not page.endswith(_NOT_FOLLOWED)]
        elif path.endswith(".js"):
            assert not re.search(r"""["'`]/(dashboard|evaluations|keys|datasets|encrypt|decrypt)\b""", answer.text)
    assert {f"{PREFIX}/static/new.js", f"{PREFIX}/dashboard/evaluations/new", f"{PREFIX}/docs"} <= seen
    shortcuts = proxied.get(f"{PREFIX}/static/shortcuts.js").text
    assert f'e: "{PREFIX}/"' in shortcuts


def test_a_service_at_the_root_of_its_host_writes_plain_paths(settings: Settings) -> None:
    app = create_app(settings.model_copy(update={"root_path": ""}))
    assert not [each for each in app.user_middleware if each.cls is RootPathMiddleware]  # type: ignore[comparison-overlap]
    with pytest.raises(ValueError, match="root_path"):
        Settings(root_path="unveil/")
