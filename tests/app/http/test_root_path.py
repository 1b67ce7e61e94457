"""What the middleware of the root path changes in requests and answers, and what it leaves alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from unveil.app.board.assets import STATIC_DIR as BOARD_STATIC_DIR
from unveil.app.dashboard.rendering import DASHBOARD_DIR
from unveil.app.http.root_path import RootPathMiddleware

pytestmark = pytest.mark.anyio
ROOT = "/science/unveil"


async def answer_json(_: Request) -> Response:
    links = {"self": "/evaluations/ev_1", "report": "/evaluations/ev_1/report.html"}
    body = {"name": '"self":"/x', "links": links, "errors": [{"pointer": "/keys"}], "plain": None}
    return JSONResponse(body, status_code=202, headers={"Location": "/evaluations/ev_1"})


async def answer_page(request: Request) -> Response:
    return Response(
        f'<a href="/dashboard/keys">/keys</a><img src="/static/a.png"><form action="/sign-in"><a href="//other/x">'
        f'<a href="#top">{request.base_url}evaluations {request.url.path}',
        media_type="text/html",
    )


async def answer_script(_: Request) -> Response:
    return Response(
        'fetch("/encrypt"); const e = { e: "/", "/": search }; a.split("/"); `/keys/${id}`',
        media_type="text/javascript",
    )


async def answer_stream(_: Request) -> Response:
    async def lines() -> AsyncIterator[bytes]:
        yield b'data: {"self":"/x"}\n\n'

    return StreamingResponse(lines(), media_type="text/event-stream")


ROUTES = [
    Route("/json", answer_json), Route("/", answer_page), Route("/script.js", answer_script),
    Route("/events", answer_stream), Route("/elsewhere", lambda _: RedirectResponse("https://example.org/x")),
    Route("/again", lambda _: RedirectResponse(f"{ROOT}/x")), Route("/text", lambda _: PlainTextResponse("/keys")),
]  # fmt: skip


@pytest.fixture(params=[ROOT, ""], ids=["kept by the proxy", "stripped by the proxy"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[httpx.AsyncClient]:
    app = RootPathMiddleware(Starlette(routes=ROUTES), ROOT)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://unveil.test{request.param}") as client:
        yield client


async def test_links_and_location_get_the_path_and_pointers_and_texts_do_not(client: httpx.AsyncClient) -> None:
    answer = await client.get("/json")
    assert answer.headers["Location"] == f"{ROOT}/evaluations/ev_1"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert answer.json() == {
        "name": '"self":"/x',
        "links": {"self": f"{ROOT}/evaluations/ev_1", "report": f"{ROOT}/evaluations/ev_1/report.html"},
        "errors": [{"pointer": "/keys"}],
        "plain": None,
    }


async def test_pages_and_scripts_name_addresses_below_the_path(client: httpx.AsyncClient) -> None:
    assert (await client.get("/")).text == (
        f'<a href="{ROOT}/dashboard/keys">/keys</a><img src="{ROOT}/static/a.png"><form action="{ROOT}/sign-in">'
        f'<a href="//other/x"><a href="#top">http://unveil.test{ROOT}/evaluations /'
    )
    assert (await client.get("/script.js")).text == (
        f'fetch("{ROOT}/encrypt"); const e = {{ e: "{ROOT}/", "/": search }}; a.split("/"); `{ROOT}/keys/${{id}}`'
    )


async def test_every_address_in_the_scripts_of_the_dashboard_gets_the_path() -> None:
    """The middleware rewrites what it recognises in the text of a script."""
    scripts = [*(DASHBOARD_DIR / "static").glob("*.js"), *BOARD_STATIC_DIR.glob("*.js")]
    assert scripts

    async def answer_file(request: Request) -> Response:
        return FileResponse(scripts[int(request.path_params["number"])], media_type="text/javascript")

    app = RootPathMiddleware(Starlette(routes=[Route("/{number}", answer_file)]), ROOT)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://unveil.test") as client:
        texts = {script.name: (await client.get(f"/{number}")).text for number, script in enumerate(scripts)}
    assert f'"{ROOT}/#search"' in texts["shortcuts.js"]
    not_rewritten = {name: re.findall(rf"""["'`](?!{ROOT})/[\w#][^"'`]*""", text) for name, text in texts.items()}
    assert not any(not_rewritten.values()), not_rewritten


async def test_streams_other_sites_and_complete_paths_stay_as_they_are(client: httpx.AsyncClient) -> None:
    assert (await client.get("/events")).text == 'data: {"self":"/x"}\n\n'
    assert (await client.get("/elsewhere")).headers["Location"] == "https://example.org/x"
    assert (await client.get("/again")).headers["Location"] == f"{ROOT}/x"
    assert (await client.get("/text")).text == "/keys"
