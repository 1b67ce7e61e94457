"""The worker's side of encryption: what it trusts, what it repeats, and that it always answers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from sqlalchemy import func, select

from tests.factories import make_account
from tests.worker.sample_images import noise
from unveil.app.broker import EncryptedMessageCodec, RpcMessage, reply_key, request_key
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Key
from unveil.models.core.images import to_png
from unveil.worker.encryption import handlers


def make_request(account, keys, op="encrypt", draw=True, images=None, **metadata):
    data = [to_png(image) for image in (images or [noise(8, 8)] * len(keys))]
    files = [{"name": f"{i}.png", "type": "image/png"} for i in range(len(data))]
    base_metadata = {"op": op, "account": account, "scheme": "tanaka", "params": {"variant": "paper", "block": 4}}
    return RpcMessage({**base_metadata, "keys": keys, "draw": draw, "files": files, **metadata}, data)


def test_the_same_ids_make_the_same_bytes_and_one_key(runtime, account):
    request = make_request(account, [new_id("key")] * 2)
    first, again = handlers.process_request(runtime, request), handlers.process_request(runtime, request)
    assert list(first.attachments) == list(again.attachments)
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Key)) == 1
        assert session.scalar(select(Key.uses)) == 2, "a repeat is no second use"


def test_a_key_of_another_account_is_refused_here_too(runtime, account):
    id = new_id("key")
    handlers.process_request(runtime, make_request(make_account(runtime.sessions, "other"), [id]))
    answer = handlers.process_request(runtime, make_request(account, [id], draw=False))
    assert answer.metadata["refused"][0][0] == "unknown_key"


def test_a_drawn_id_that_belongs_to_another_account_gives_nothing_away(runtime, account):
    id = new_id("key")
    handlers.process_request(runtime, make_request(make_account(runtime.sessions, "other"), [id]))
    answer = handlers.process_request(runtime, make_request(account, [id]))
    assert answer.metadata["refused"][0][0] == "unknown_key"


def test_images_keep_their_order_whatever_their_sizes_and_keys(runtime, account):
    one, two = new_id("key"), new_id("key")
    plain = [noise(8, 8), noise(4, 8, seed=1), noise(8, 8, seed=2), noise(4, 8, seed=3)]
    keys = [one, two, two, one]
    sent = handlers.process_request(runtime, make_request(account, keys, images=plain))
    back = handlers.process_request(
        runtime, RpcMessage({**make_request(account, keys, op="decrypt", draw=False).metadata}, sent.attachments)
    )
    assert list(back.attachments) == [to_png(image) for image in plain]
    assert [image["key_id"] for image in back.metadata["images"]] == keys


def test_where_one_key_is_refused_no_use_is_counted(runtime, account):
    good, destroyed = new_id("key"), new_id("key")
    handlers.process_request(runtime, make_request(account, [good, destroyed]))
    with runtime.sessions.begin() as session:
        row = session.get_one(Key, destroyed)
        row.encrypted_secret, row.destroyed_at = None, func.clock_timestamp()
    answer = handlers.process_request(runtime, make_request(account, [good, destroyed], draw=False))
    assert answer.metadata["refused"][0][0] == "key_destroyed"
    with runtime.sessions() as session:
        assert session.get_one(Key, good).uses == 1


def test_requests_that_share_keys_in_any_order_are_all_counted(runtime, account):
    one, two = new_id("key"), new_id("key")
    handlers.process_request(runtime, make_request(account, [one, two]))
    orders = [make_request(account, keys, draw=False) for keys in ([one, two, two], [two, two, one]) * 20]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda request: handlers.process_request(runtime, request), orders))
    assert all("images" in answer.metadata for answer in answers)
    with runtime.sessions() as session:
        assert (session.get_one(Key, one).uses, session.get_one(Key, two).uses) == (1 + 40, 1 + 80)


def test_a_secret_moved_to_another_row_does_not_open(runtime, account):
    one, two = new_id("key"), new_id("key")
    handlers.process_request(runtime, make_request(account, [one, two]))
    with runtime.sessions.begin() as session:
        session.get_one(Key, one).encrypted_secret = session.get_one(Key, two).encrypted_secret
    answer = handlers.process_request(runtime, make_request(account, [one], draw=False))
    assert answer.metadata == {"failed": True}


@pytest.mark.parametrize("metadata", [{"op": "format-disk"}, {"scheme": "nope"}, {"files": []}])
def test_a_failure_is_an_answer(runtime, account, metadata, caplog):
    answer = handlers.process_request(runtime, make_request(account, [new_id("key")], **metadata))
    assert answer.metadata == {"failed": True}
    assert "request failed" in caplog.text


def test_a_request_is_done_once_and_only_while_it_is_wanted(runtime, account, settings):
    client, message_codec = redis.Redis.from_url(settings.redis_url), EncryptedMessageCodec(runtime.keyring)
    client.set(request_key("w1"), message_codec.encode(make_request(account, [new_id("key")]), "request/w1"))
    handlers.handle_request(runtime, "w1")
    handlers.handle_request(runtime, "w1")
    handlers.handle_request(runtime, "never-asked")
    assert client.llen(reply_key("w1")) == 1
    assert client.llen(reply_key("never-asked")) == 0
    assert 0 < client.ttl(reply_key("w1")) <= 60
    sealed = client.lindex(reply_key("w1"), 0)
    assert b"\x89PNG" not in sealed
    assert len(message_codec.decode(sealed, "answer/w1").attachments) == 1
    client.close()
