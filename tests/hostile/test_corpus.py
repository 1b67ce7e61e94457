"""Every hostile upload gets the answer that was defined for it, leaves nothing behind and takes bounded memory."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.hostile.conftest import Target
from tests.hostile.corpus import CORPUS
from tests.hostile.corpus.kind import HostileCase
from tests.hostile.corpus.protected import with_key
from tests.hostile.memory import peak_bytes, reset_peak
from tests.hostile.tenant_fixtures import count_stored

MOST_BYTES = 512 * 2**20  # for service and worker together, on top of what they had


@pytest.fixture(scope="module")
def http(target: Target) -> Iterator[httpx.Client]:
    with target.client(target.account("hostile")) as made:
        yield made


@pytest.fixture(scope="module")
def key_id(http: httpx.Client) -> str:
    return str(http.post("/keys", json={"scheme": "tanaka"}).json()["id"])


def test_no_two_kinds_are_the_same() -> None:
    assert len(CORPUS) >= 60
    assert len({kind.name for kind in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("kind", CORPUS, ids=lambda kind: kind.name)
def test_it_is_answered_as_defined_and_leaves_nothing(
    target: Target, http: httpx.Client, key_id: str, kind: HostileCase
):
    sent = with_key(kind.make(), key_id)
    before, held = count_stored(target.engine, target.settings), reset_peak()
    answer = http.post(kind.path, content=sent.content, headers=sent.headers)
    problem = answer.json() if kind.code else {}
    assert (answer.status_code, problem.get("code")) == (kind.status, kind.code), answer.text[:500]
    if kind.code:
        assert problem["detail"]
        assert answer.headers["Content-Type"] == "application/problem+json"
    after = count_stored(target.engine, target.settings)
    after.subtract(before)
    assert {name: count for name, count in after.items() if count} == dict(kind.makes)
    assert peak_bytes() - held < MOST_BYTES
