"""HEAD is GET without the body, but for what a GET uses up."""

from __future__ import annotations

import pytest

from unveil.app.accounts import service as accounts

pytestmark = pytest.mark.anyio


async def test_a_preview_of_a_sign_in_link_does_not_use_it_up(service):
    svc = service.services
    await service.account("person")
    async with svc.sessions() as session:
        person = await accounts.find(session, "person")
        code = await accounts.sign_in_code(session, svc.ring, person.id, 15)
    async with service.client() as browser:
        looked = await browser.head(f"/sign-in?code={code}")
        assert looked.status_code == 405
        assert looked.headers["allow"] == "GET, POST"
        assert "set-cookie" not in looked.headers
        assert (await browser.get(f"/sign-in?code={code}")).status_code == 303


def test_the_openapi_document_lists_no_head(service):
    assert not [path for path, operations in service.app.openapi()["paths"].items() if "head" in operations]
