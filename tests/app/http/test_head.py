"""HEAD is GET without the body, but for what a GET uses up."""

from __future__ import annotations

import pytest

from unveil.app.accounts import service as accounts

pytestmark = pytest.mark.anyio


async def test_a_preview_of_a_sign_in_link_does_not_use_it_up(service):
    app_state = service.app_state
    await service.create_account("person")
    async with app_state.sessions() as session:
        person = await accounts.get(session, "person")
        code = await accounts.create_sign_in_code(session, app_state.keyring, person.id, 15)
    async with service.client() as browser:
        looked = await browser.head(f"/sign-in?code={code}")
        assert looked.status_code == 405
        assert looked.headers["allow"] == "GET, POST"
        assert "set-cookie" not in looked.headers
        assert (await browser.get(f"/sign-in?code={code}")).status_code == 200


def test_the_openapi_document_lists_no_head(service):
    assert not [path for path, operations in service.app.openapi()["paths"].items() if "head" in operations]
