"""The worker's side of encryption requests: which keys it uses, what it repeats, and that it always replies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import redis
from sqlalchemy import func, select

from tests.factories import make_account, make_key_to_train
from tests.worker.sample_images import noise
from unveil.app.broker import reply_key, request_key
from unveil.app.db.ids import new_id
from unveil.app.db.tables import Key
from unveil.app.rpc.codec import EncryptedMessageCodec
from unveil.app.rpc.messages import (
    ImageFile,
    Operation,
    Rejection,
    RequestRejected,
    ThumbnailsRequest,
    TransformReply,
    TransformRequest,
)
from unveil.app.storage import StorageFullError
from unveil.models.core.images import to_png
from unveil.worker import dataset_loading
from unveil.worker.encryption import handlers


def make_request(account, keys, draw=True, pngs=None, **changes):
    pngs = pngs or [to_png(noise(8, 8))] * len(keys)
    request = TransformRequest(
        account_id=account,
        operation=Operation.ENCRYPT,
        scheme="tanaka",
        settings={"variant": "paper", "block": 4},
        key_ids=keys,
        draw_keys=draw,
        images=[ImageFile(f"{i}.png", png) for i, png in enumerate(pngs)],
    )
    return replace(request, **changes)


def get_pngs(reply):
    return [image.png for image in reply.images]


def get_code(reply):
    assert isinstance(reply, RequestRejected)
    return reply.rejections[0].code


def test_the_same_ids_make_the_same_bytes_and_one_key(runtime, account):
    request = make_request(account, [new_id("key")] * 2)
    first, again = handlers.process_request(runtime, request), handlers.process_request(runtime, request)
    assert get_pngs(first) == get_pngs(again)
    with runtime.sessions() as session:
        assert session.scalar(select(func.count()).select_from(Key)) == 1
        assert session.scalar(select(Key.uses)) == 2, "a repeated request counts once"


def test_the_key_of_another_account_is_unknown(runtime, account):
    id = new_id("key")
    handlers.process_request(runtime, make_request(make_account(runtime.sessions, "other"), [id]))
    assert get_code(handlers.process_request(runtime, make_request(account, [id], draw=False))) == "unknown_key"


def test_a_drawn_id_that_belongs_to_another_account_gives_nothing_away(runtime, account):
    id = new_id("key")
    handlers.process_request(runtime, make_request(make_account(runtime.sessions, "other"), [id]))
    assert get_code(handlers.process_request(runtime, make_request(account, [id]))) == "unknown_key"
    with runtime.sessions() as session:
        assert session.get_one(Key, id).uses == 1


def test_a_key_that_is_not_ready_is_rejected(runtime, account):
    id = make_key_to_train(runtime.sessions, runtime.keyring, account)
    assert get_code(handlers.process_request(runtime, make_request(account, [id], draw=False))) == "key_not_ready"


def test_images_keep_their_order_whatever_their_sizes_and_keys(runtime, account):
    one, two = new_id("key"), new_id("key")
    plain = [to_png(noise(height, 8, seed=seed)) for seed, height in enumerate((8, 4, 8, 4))]
    keys = [one, two, two, one]
    sent = handlers.process_request(runtime, make_request(account, keys, pngs=plain))
    request = make_request(account, keys, draw=False, pngs=get_pngs(sent), operation=Operation.DECRYPT)
    back = handlers.process_request(runtime, request)
    assert get_pngs(back) == plain
    assert [image.key_id for image in back.images] == keys


def test_no_use_is_counted_and_no_key_stored_if_the_request_is_rejected(runtime, account):
    good, destroyed, new = new_id("key"), new_id("key"), new_id("key")
    handlers.process_request(runtime, make_request(account, [good, destroyed]))
    with runtime.sessions.begin() as session:
        row = session.get_one(Key, destroyed)
        row.encrypted_secret, row.destroyed_at = None, func.clock_timestamp()
    request = make_request(account, [good, destroyed], draw=False)
    assert get_code(handlers.process_request(runtime, request)) == "key_destroyed"
    request = make_request(account, [new, destroyed])
    assert get_code(handlers.process_request(runtime, request)) == "key_destroyed"
    with runtime.sessions() as session:
        assert session.get_one(Key, good).uses == 1
        assert session.get(Key, new) is None


def test_requests_that_share_keys_in_any_order_are_all_counted(runtime, account):
    one, two = new_id("key"), new_id("key")
    handlers.process_request(runtime, make_request(account, [one, two]))
    requests = [make_request(account, keys, draw=False) for keys in ([one, two, two], [two, two, one]) * 20]
    with ThreadPoolExecutor(4) as threads:
        replies = list(threads.map(lambda request: handlers.process_request(runtime, request), requests))
    assert all(isinstance(reply, TransformReply) for reply in replies)
    with runtime.sessions() as session:
        assert (session.get_one(Key, one).uses, session.get_one(Key, two).uses) == (1 + 40, 1 + 80)


def test_a_secret_moved_to_another_row_does_not_open(runtime, account):
    one, two = new_id("key"), new_id("key")
    handlers.process_request(runtime, make_request(account, [one, two]))
    with runtime.sessions.begin() as session:
        session.get_one(Key, one).encrypted_secret = session.get_one(Key, two).encrypted_secret
    assert get_code(handlers.process_request(runtime, make_request(account, [one], draw=False))) == "internal"


@pytest.mark.parametrize("changes", [{"scheme": "nope"}, {"images": []}])
def test_an_error_is_a_reply_without_its_text(runtime, account, changes, caplog):
    reply = handlers.process_request(runtime, make_request(account, [new_id("key")], **changes))
    assert reply.rejections == [Rejection("internal", "", "the worker failed on this request; see its log")]
    assert "request failed" in caplog.text


def test_a_storage_error_keeps_its_code(runtime, account, monkeypatch):
    def fail(*_):
        raise StorageFullError

    monkeypatch.setattr(dataset_loading, "thumbnail_strip", fail)
    request = ThumbnailsRequest(account_id=account, dataset="sample")
    assert get_code(handlers.process_request(runtime, request)) == "storage_full"


@pytest.fixture
def client(settings):
    with redis.Redis.from_url(settings.redis_url) as client:
        yield client


def test_a_request_is_handled_once_and_only_before_it_expires(runtime, account, client):
    message_codec = EncryptedMessageCodec(runtime.keyring)
    client.set(request_key("w1"), message_codec.encode(make_request(account, [new_id("key")]), "w1", "request"))
    handlers.handle_request(runtime, "w1")
    handlers.handle_request(runtime, "w1")
    handlers.handle_request(runtime, "expired")
    assert client.llen(reply_key("w1")) == 1
    assert client.llen(reply_key("expired")) == 0
    assert 0 < client.ttl(reply_key("w1")) <= 60
    payload = client.lindex(reply_key("w1"), 0)
    assert b"\x89PNG" not in payload
    assert len(message_codec.decode(payload, "w1", "reply", [TransformReply]).images) == 1


def test_a_request_in_another_format_is_rejected_at_once(runtime, client, caplog):
    client.set(request_key("w1"), (1).to_bytes(2, "big") + bytes(200))  # format 1 began with the key version
    handlers.handle_request(runtime, "w1")
    payload = client.lindex(reply_key("w1"), 0)
    reply = EncryptedMessageCodec(runtime.keyring).decode(payload, "w1", "reply", [RequestRejected])
    assert get_code(reply) == "internal"
    assert "w1 cannot be decoded" in caplog.text
