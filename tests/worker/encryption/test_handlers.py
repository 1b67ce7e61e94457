"""The worker's side of encryption: what it trusts, what it repeats, and that it always answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from sqlalchemy import func, select

from tests.factories import make_account
from tests.worker.sample_images import noise
from unveil.app.broker import Parcel, Parcels, answer_key, request_key
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Key
from unveil.models.core.images import to_png
from unveil.worker.encryption import handlers


def order(account, keys, op="encrypt", draw=True, images=None, **head):
    data = [to_png(image) for image in (images or [noise(8, 8)] * len(keys))]
    files = [{"name": f"{i}.png", "type": "image/png"} for i in range(len(data))]
    known = {"op": op, "account": account, "scheme": "tanaka", "params": {"variant": "paper", "block": 4}}
    return Parcel({**known, "keys": keys, "draw": draw, "files": files, **head}, data)


def test_the_same_ids_make_the_same_bytes_and_one_key(tools, account):
    request = order(account, [new_id("key")] * 2)
    first, again = handlers.answer(tools, request), handlers.answer(tools, request)
    assert list(first.parts) == list(again.parts)
    with tools.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Key)) == 1
        assert session.scalar(select(Key.uses)) == 2, "a repeat is no second use"


def test_a_key_of_another_account_is_refused_here_too(tools, account):
    id = new_id("key")
    handlers.answer(tools, order(make_account(tools.sessions, "other"), [id]))
    answer = handlers.answer(tools, order(account, [id], draw=False))
    assert answer.head["refused"][0][0] == "unknown_key"


def test_a_drawn_id_that_belongs_to_another_account_gives_nothing_away(tools, account):
    id = new_id("key")
    handlers.answer(tools, order(make_account(tools.sessions, "other"), [id]))
    answer = handlers.answer(tools, order(account, [id]))
    assert answer.head["refused"][0][0] == "unknown_key"


def test_images_keep_their_order_whatever_their_sizes_and_keys(tools, account):
    one, two = new_id("key"), new_id("key")
    plain = [noise(8, 8), noise(4, 8, seed=1), noise(8, 8, seed=2), noise(4, 8, seed=3)]
    keys = [one, two, two, one]
    sent = handlers.answer(tools, order(account, keys, images=plain))
    back = handlers.answer(tools, Parcel({**order(account, keys, op="decrypt", draw=False).head}, sent.parts))
    assert list(back.parts) == [to_png(image) for image in plain]
    assert [image["key_id"] for image in back.head["images"]] == keys


def test_where_one_key_is_refused_no_use_is_counted(tools, account):
    good, destroyed = new_id("key"), new_id("key")
    handlers.answer(tools, order(account, [good, destroyed]))
    with tools.sessions.begin() as session:
        row = session.get_one(Key, destroyed)
        row.sealed, row.destroyed_at = None, func.clock_timestamp()
    answer = handlers.answer(tools, order(account, [good, destroyed], draw=False))
    assert answer.head["refused"][0][0] == "key_destroyed"
    with tools.sessions() as session:
        assert session.get_one(Key, good).uses == 1


def test_requests_that_share_keys_in_any_order_are_all_counted(tools, account):
    one, two = new_id("key"), new_id("key")
    handlers.answer(tools, order(account, [one, two]))
    orders = [order(account, keys, draw=False) for keys in ([one, two, two], [two, two, one]) * 20]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda request: handlers.answer(tools, request), orders))
    assert all("images" in answer.head for answer in answers)
    with tools.sessions() as session:
        assert (session.get_one(Key, one).uses, session.get_one(Key, two).uses) == (1 + 40, 1 + 80)


def test_a_secret_moved_to_another_row_does_not_open(tools, account):
    one, two = new_id("key"), new_id("key")
    handlers.answer(tools, order(account, [one, two]))
    with tools.sessions.begin() as session:
        session.get_one(Key, one).sealed = session.get_one(Key, two).sealed
    answer = handlers.answer(tools, order(account, [one], draw=False))
    assert answer.head == {"failed": True}


@pytest.mark.parametrize("head", [{"op": "format-disk"}, {"scheme": "nope"}, {"files": []}])
def test_a_failure_is_an_answer(tools, account, head, caplog):
    answer = handlers.answer(tools, order(account, [new_id("key")], **head))
    assert answer.head == {"failed": True}
    assert "request failed" in caplog.text


def test_a_request_is_done_once_and_only_while_it_is_wanted(tools, account, settings):
    client, parcels = redis.Redis.from_url(settings.redis_url), Parcels(tools.ring)
    client.set(request_key("w1"), parcels.seal(order(account, [new_id("key")]), "request/w1"))
    handlers.handle(tools, "w1")
    handlers.handle(tools, "w1")
    handlers.handle(tools, "never-asked")
    assert client.llen(answer_key("w1")) == 1
    assert client.llen(answer_key("never-asked")) == 0
    assert 0 < client.ttl(answer_key("w1")) <= 60
    sealed = client.lindex(answer_key("w1"), 0)
    assert b"\x89PNG" not in sealed
    assert len(parcels.open(sealed, "answer/w1").parts) == 1
    client.close()
