"""Messages between API and workers: they survive the journey, and nobody else reads or alters them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from unveil.app.rpc.codec import EncryptedMessageCodec, UndecodableMessage
from unveil.app.rpc.messages import (
    ImageFile,
    Operation,
    PngReply,
    PreviewReply,
    PreviewScores,
    Rejection,
    RequestRejected,
    TransformRequest,
)
from unveil.app.security.envelope import Keyring, new_keyring

KEYRING = new_keyring()
CODEC = EncryptedMessageCodec(KEYRING)
TYPES = (TransformRequest, PreviewReply, RequestRejected)

images = st.lists(
    st.builds(ImageFile, st.text(), st.binary(max_size=2000), st.none() | st.tuples(st.integers(), st.integers())),
    max_size=5,
)


@given(images, st.sampled_from(Operation), st.dictionaries(st.text(), st.integers() | st.booleans() | st.text()))
def test_a_message_arrives_as_it_was_sent(files, operation, scheme_settings):
    request = TransformRequest(
        account_id="acct_1", request_id="req_1", operation=operation, scheme="tanaka", settings=scheme_settings,
        key_ids=["key_1"] * len(files), draw_keys=True, images=files,
    )  # fmt: skip
    assert CODEC.decode(CODEC.encode(request, "m", "request"), "m", "request", TYPES) == request


def test_replies_arrive_as_they_were_sent():
    scores = PreviewScores(0.5, 0.25, True, 3, 17, False, None, 0.1)
    reply = PreviewReply(scores, None, [b"\x00\xff", b""])
    assert CODEC.decode(CODEC.encode(reply, "m", "reply"), "m", "reply", TYPES) == reply
    rejections = [Rejection("unknown_key", "/key_id", "there is no key key_1")]
    decoded = CODEC.decode(CODEC.encode(RequestRejected(rejections), "m", "reply"), "m", "reply", TYPES)
    assert isinstance(decoded, RequestRejected)
    assert decoded.rejections == rejections


def test_the_attachment_is_encrypted_and_not_under_the_master_key():
    payload = CODEC.encode(PngReply(b"plain image " * 10), "m", "reply")
    assert b"plain image" not in payload
    header, nonce, body = payload[:15], payload[3:15], payload[15:]
    with pytest.raises(InvalidTag):
        AESGCM(KEYRING.master_keys[1]).decrypt(nonce, body, header)


@pytest.mark.parametrize(
    ("message_id", "direction"), [("another", "reply"), ("m", "request")], ids=["another id", "another direction"]
)
def test_each_message_and_direction_has_a_key_of_its_own(message_id, direction):
    payload = CODEC.encode(PngReply(b"x"), "m", "reply")
    with pytest.raises(UndecodableMessage):
        CODEC.decode(payload, message_id, direction, [PngReply])


@given(st.data())
def test_an_altered_message_is_rejected(data):
    payload = bytearray(CODEC.encode(PngReply(b"x" * 10), "m", "reply"))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(UndecodableMessage):
        CODEC.decode(bytes(payload), "m", "reply", [PngReply])


@given(st.binary(max_size=100))
def test_anything_else_is_rejected(raw):
    with pytest.raises(UndecodableMessage):
        CODEC.decode(raw, "m", "reply", [PngReply])


def test_a_message_of_the_format_before_is_rejected():
    nonce = os.urandom(12)
    old = AESGCM(KEYRING.master_keys[1]).encrypt(nonce, b"\x00\x00\x00\x02\x00\x00\x00\x00{}", b"message/request/m")
    with pytest.raises(UndecodableMessage, match="another format"):
        CODEC.decode((1).to_bytes(2, "big") + nonce + old, "m", "request", TYPES)


def test_a_message_of_an_unexpected_type_or_with_other_fields_is_rejected():
    with pytest.raises(UndecodableMessage, match="'PngReply' is not expected"):
        CODEC.decode(CODEC.encode(PngReply(b"x"), "m", "reply"), "m", "reply", TYPES)
    later: Any = dataclass(type("PngReply", (), {"__annotations__": {"webp": str}}))
    with pytest.raises(UndecodableMessage, match="other fields"):
        CODEC.decode(CODEC.encode(later("x"), "m", "reply"), "m", "reply", [PngReply])


def test_after_a_rotation_messages_under_the_old_master_key_are_still_read():
    payload = CODEC.encode(PngReply(b"x"), "m", "reply")
    rotated = KEYRING.with_new_master_key()
    assert EncryptedMessageCodec(rotated).decode(payload, "m", "reply", [PngReply]) == PngReply(b"x")
    only_new = Keyring(rotated.pepper, {2: rotated.master_keys[2]})
    with pytest.raises(UndecodableMessage, match="not in the keyring"):
        EncryptedMessageCodec(only_new).decode(payload, "m", "reply", [PngReply])
