"""Images in, protected images out, and back bit for bit."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import func, select, text

from tests.worker.sample_images import encode_animation, encode_pixels, noise, png
from unveil.app import broker
from unveil.app.db.tables import Key
from unveil.models.core.images import to_png

pytestmark = pytest.mark.anyio

MAP = {
    "width": 10,
    "height": 12,
    "reversed": base64.b64encode(bytes(360)).decode(),
    "orders": base64.b64encode(bytes(120)).decode(),
}


def images(*files):
    return [("images", file) for file in files]


def an_image(name="a.png", **size):
    return name, to_png(noise(**size)), "image/png"


def pixels(entry):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(entry["data"]))))


async def encrypt(client, files, scheme="pixelwise", params=None, **data):
    form = {"scheme": scheme, "params": json.dumps(params or {}), **data}
    return await client.post("/encrypt", files=files, data={name: value for name, value in form.items() if value})


async def decrypt(client, entries, **data):
    files = images(*((f"e{i}.png", base64.b64decode(entry["data"]), "image/png") for i, entry in enumerate(entries)))
    return await client.post("/decrypt", files=files, data={"key_id": [entry["key_id"] for entry in entries], **data})


async def keys(service):
    async with service.app_state.sessions() as session:
        return await session.scalar(select(func.count()).select_from(Key))


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("scheme", "params"),
    [
        ("pixelwise", {"key_mode": "same"}),
        ("pixelwise", {"key_mode": "different"}),
        ("tanaka", {"variant": "paper"}),
        ("tanaka", {"variant": "icce2018"}),
    ],
)
async def test_what_was_encrypted_comes_back_bit_for_bit(client, scheme, params):
    plain = [noise(97, 101), noise(8, 8, seed=1), noise(97, 101, seed=2)]
    answer = await encrypt(
        client, images(*((f"{i}.png", to_png(p), "image/png") for i, p in enumerate(plain))), scheme, params
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["scheme"] == scheme
    assert body["params"].items() >= params.items()
    protected = body["images"]
    assert [entry["filename"] for entry in protected] == ["0.png", "1.png", "2.png"]
    assert len({entry["key_id"] for entry in protected}) == (3 if params.get("key_mode") == "different" else 1)
    for entry, original in zip(protected, plain, strict=True):
        assert pixels(entry).shape == (entry["height"], entry["width"], 3)
        assert (entry["original_height"], entry["original_width"]) == original.shape[:2]
        assert not np.array_equal(pixels(entry)[: original.shape[0], : original.shape[1]], original)
    restored = (await decrypt(client, protected)).json()["images"]
    for entry, original in zip(restored, plain, strict=True):
        np.testing.assert_array_equal(pixels(entry), original)


async def test_padding_is_noted_and_removed_by_given_or_embedded_sizes(client):
    (entry,) = (await encrypt(client, images(an_image(height=101, width=97)), "tanaka")).json()["images"]
    assert (entry["width"], entry["height"]) == (100, 104)
    assert entry["notes"] == ["padded to 100x104 by edge replication"]
    bare = {**entry, "data": base64.b64encode(to_png(pixels(entry))).decode()}
    whole = (await decrypt(client, [bare])).json()["images"][0]
    assert (whole["width"], whole["height"]) == (100, 104)
    given = (await decrypt(client, [bare], original_width="97", original_height="101")).json()["images"][0]
    assert pixels(given).shape == (101, 97, 3)
    written = (await decrypt(client, [entry])).json()["images"][0]
    assert written["data"] == given["data"]


async def test_one_key_serves_every_size_and_many_requests_and_counts_its_uses(client):
    (first,) = (await encrypt(client, images(an_image()))).json()["images"]
    again = await encrypt(client, images(an_image(height=5, width=6), an_image()), scheme=None, key_id=first["key_id"])
    assert again.status_code == 200, again.text
    assert again.json()["scheme"] == "pixelwise"
    assert again.json()["images"][1]["data"] == first["data"]
    assert (await client.get(f"/keys/{first['key_id']}")).json()["uses"] == 3


@pytest.mark.parametrize("width", [70_001, 1_000_001])
async def test_as_wide_an_image_as_encryption_takes_comes_back(client, width):
    (entry,) = (await encrypt(client, images(an_image(height=1, width=width)), "tanaka")).json()["images"]
    sides = {name: str(entry[name]) for name in ("original_width", "original_height")}
    assert sides == {"original_width": str(width), "original_height": "1"}
    for given in (sides, {}):
        answer = await decrypt(client, [entry], **given)
        assert answer.status_code == 200, answer.text
        np.testing.assert_array_equal(pixels(answer.json()["images"][0]), noise(1, width))


async def test_a_zip_holds_the_images_and_a_manifest(client):
    files = images(an_image("../../etc/a b.png"), an_image("../../etc/a b.png"))
    form = {"scheme": "tanaka"}
    answer = await client.post("/encrypt", files=files, data=form, headers={"Accept": "application/zip"})
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        assert archive.namelist() == ["000-a_b.png", "001-a_b.png", "manifest.json"]
        for entry in manifest["images"]:
            assert Image.open(io.BytesIO(archive.read(entry["file"]))).size == (entry["width"], entry["height"])
            assert entry["key_id"].startswith("key_")


async def test_one_image_may_be_answered_as_bare_png(client):
    headers = {"Accept": "image/png"}
    answer = await client.post("/encrypt", files=images(an_image()), data={"scheme": "pixelwise"}, headers=headers)
    assert answer.headers["content-type"] == "image/png"
    back = await client.post(
        "/decrypt", files=images(("e.png", answer.content, "image/png")), data={"key_id": answer.headers["key-id"]},
        headers=headers,
    )  # fmt: skip
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(back.content))), noise())
    two = await client.post(
        "/encrypt", files=images(an_image(), an_image()), data={"scheme": "tanaka"}, headers=headers
    )
    problem(two, 406, "not_acceptable")


async def test_a_repeat_with_the_same_idempotency_key_gives_the_same_keys_and_bytes(service, client):
    request = {
        "files": images(an_image(), an_image(seed=1)),
        "data": {"scheme": "pixelwise", "params": '{"key_mode":"different"}'},
        "headers": {"Idempotency-Key": "upload-1"},
    }
    first = await client.post("/encrypt", **request)
    again = await client.post("/encrypt", **request)
    assert first.status_code == 200
    assert first.content == again.content
    assert await keys(service) == 2
    other = await client.post("/encrypt", **{**request, "files": images(an_image(), an_image(seed=2))})
    problem(other, 422, "idempotency_mismatch")


async def test_a_form_is_known_by_its_type_however_it_is_written(client):
    request = client.build_request("POST", "/encrypt", files=images(an_image()), data={"scheme": "tanaka"})
    request.headers["Content-Type"] = request.headers["Content-Type"].replace("multipart/form", "Multipart/Form")
    request.headers["Idempotency-Key"] = "u"
    assert (await client.send(request)).status_code == 200


async def test_twenty_at_once_with_one_idempotency_key_draw_one_key(service, client):
    async def once():
        return await client.post(
            "/encrypt", files=images(an_image()), data={"scheme": "tanaka"}, headers={"Idempotency-Key": "u"}
        )

    answers = await asyncio.gather(*(once() for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    assert await keys(service) == 1


async def test_after_a_worker_that_never_answered_a_repeat_goes_through_under_the_same_ids(service, client):
    request = {"files": images(an_image()), "data": {"scheme": "tanaka"}, "headers": {"Idempotency-Key": "u"}}
    service.worker.paused = True
    object.__setattr__(
        service.app_state, "settings", service.app_state.settings.model_copy(update={"encrypt_timeout_s": 0.2})
    )
    answer = await client.post("/encrypt", **request)
    problem(answer, 503, "no_worker")
    assert answer.headers["retry-after"] == "5"
    assert await service.app_state.redis.keys("unveil:request:*") == []
    service.worker.paused = False
    object.__setattr__(
        service.app_state, "settings", service.app_state.settings.model_copy(update={"encrypt_timeout_s": 30})
    )
    assert (await client.post("/encrypt", **request)).status_code == 200
    assert await keys(service) == 1


async def test_plain_images_and_secrets_are_nowhere_in_clear(service, client, monkeypatch):
    seen = []

    pop_request = broker.pop_request

    def spy(client, message_id):
        seen.append(pop_request(client, message_id))
        return seen[-1]

    monkeypatch.setattr(broker, "pop_request", spy)
    plain = an_image(height=40, width=40)
    (entry,) = (await encrypt(client, images(plain))).json()["images"]
    assert len(seen) == 1
    assert plain[1][100:140] not in seen[0]
    async with service.app_state.sessions() as session:
        sealed = await session.scalar(select(Key.encrypted_secret).where(Key.id == entry["key_id"]))
        owner = await session.scalar(select(Key.account_id))
        row = await session.scalar(text("SELECT k::text FROM keys k"))
    secret = service.app_state.keyring.open(sealed, purpose="key", owner=owner, id=entry["key_id"])
    assert secret[1:].hex() not in row


async def test_notes_say_what_was_done_to_an_image(client):
    grey = encode_pixels(noise()[..., 0])
    (entry,) = (await encrypt(client, images(("g.png", grey, "image/png")))).json()["images"]
    assert entry["notes"] == ["grey became RGB"]


@pytest.mark.parametrize(
    "declared",
    [
        "image/*",
        "binary/octet-stream",
        "application/octet-stream",
        "image/x-png",
        "image/jpeg",
        "IMAGE/JPEG; q=1",
        "",
    ],
)
async def test_the_content_of_a_file_decides_and_not_its_declared_image_type(client, declared):
    answer = await encrypt(client, images(("a.jpg", to_png(noise()), declared)))
    assert answer.status_code == 200, answer.text


async def test_files_declared_as_something_else_than_images_are_refused(client):
    declared = ("image/png", "text/html", "application/pdf; charset=binary")
    answer = await encrypt(client, images(*((f"{i}.png", to_png(noise()), type) for i, type in enumerate(declared))))
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_image")
    errors = answer.json()["errors"]
    assert [error["pointer"] for error in errors] == ["/images/1", "/images/2"]
    assert "2.png is declared as 'application/pdf'" in errors[1]["detail"]


async def test_a_blank_field_is_an_absent_one(client):
    blank = {"params": " ", "key_id": "", "allow_changed": ""}
    answer = await client.post("/encrypt", files=images(an_image()), data={"scheme": "tanaka", **blank})
    assert answer.status_code == 200, answer.text


async def test_a_bare_png_comes_with_its_notes_in_a_header(client):
    headers = {"Accept": "image/png"}
    grey = ("g.png", encode_pixels(noise(9, 9)[..., 0]), "image/png")
    answer = await client.post("/encrypt", files=images(grey), data={"scheme": "tanaka"}, headers=headers)
    assert answer.headers["unveil-notes"] == "grey became RGB; padded to 12x12 by edge replication"


def saved_anew(image):
    """As an image program stores it: the pixels alone."""
    return base64.b64encode(encode_pixels(np.ascontiguousarray(image))).decode()


async def test_a_changed_ciphertext_is_distinguished_from_an_unchanged_one(client):
    (entry,) = (await encrypt(client, images(an_image(height=16, width=16)), "tanaka")).json()["images"]
    assert (await decrypt(client, [entry])).json()["images"][0]["notes"] == []
    with Image.open(io.BytesIO(base64.b64decode(entry["data"]))) as stored:
        text = {name: value for name, value in stored.info.items() if name.startswith("unveil:")}
    image = pixels(entry).copy()
    image[5, 5, 1] ^= 1
    changed = {**entry, "data": base64.b64encode(to_png(image, text)).decode()}
    body = problem(await decrypt(client, [entry, changed]), 422, "ciphertext_changed")
    assert [error["pointer"] for error in body["errors"]] == ["/images/1"]
    assert "allow_changed=true" in body["errors"][0]["detail"]
    assert (await client.get(f"/keys/{entry['key_id']}")).json()["uses"] == 2, "a refused request uses no key"
    allowed = (await decrypt(client, [changed], allow_changed="true")).json()["images"][0]
    assert "was changed" in allowed["notes"][0]
    bare = (await decrypt(client, [{**entry, "data": saved_anew(pixels(entry))}])).json()["images"][0]
    assert "without a tag" in bare["notes"][0]
    assert "must be true or false" in problem(
        await decrypt(client, [entry], allow_changed="perhaps"), 422, "invalid_request"
    )["errors"][0]["detail"]  # fmt: skip


async def test_a_cropped_ciphertext_is_refused_as_changed_and_decrypted_on_demand(client):
    (entry,) = (await encrypt(client, images(an_image(height=16, width=16)), "tanaka")).json()["images"]
    with Image.open(io.BytesIO(base64.b64decode(entry["data"]))) as stored:
        text = {name: value for name, value in stored.info.items() if name.startswith("unveil:")}
    cropped = np.ascontiguousarray(pixels(entry)[4:, :12])
    changed = {**entry, "data": base64.b64encode(to_png(cropped, text)).decode()}
    problem(await decrypt(client, [changed]), 422, "ciphertext_changed")
    allowed = (await decrypt(client, [changed], allow_changed="true")).json()["images"][0]
    assert pixels(allowed).shape == (12, 12, 3)
    assert "was changed" in allowed["notes"][0]


@pytest.mark.parametrize("scheme", ["tanaka", "pixelwise", "etc", "ele", "vit-permutation"])
async def test_the_wrong_key_of_the_right_scheme_is_noticed(client, scheme):
    (entry,) = (await encrypt(client, images(an_image(height=64, width=64)), scheme)).json()["images"]
    other = (await client.post("/keys", json={"scheme": scheme})).json()["id"]
    body = problem(await decrypt(client, [{**entry, "key_id": other}]), 422, "ciphertext_changed")
    assert f"was encrypted with {entry['key_id']}, not with {other}" in body["errors"][0]["detail"]


async def test_a_key_below_80_bits_gets_no_tag(client):
    """An attacker could test guesses of a short key with it."""
    (entry,) = (await encrypt(client, images(an_image(height=2, width=2)))).json()["images"]
    assert "without a tag" in (await decrypt(client, [entry])).json()["images"][0]["notes"][0]


async def test_an_image_encrypted_twice_comes_back_in_two_steps(client):
    plain = an_image(height=11, width=9)
    (inner,) = (await encrypt(client, images(plain), "tanaka")).json()["images"]
    file = ("inner.png", base64.b64decode(inner["data"]), "image/png")
    (outer,) = (await encrypt(client, images(file), "tanaka")).json()["images"]
    (once,) = (await decrypt(client, [outer])).json()["images"]
    assert once["data"] == inner["data"]
    (twice,) = (await decrypt(client, [{**once, "key_id": inner["key_id"]}])).json()["images"]
    np.testing.assert_array_equal(pixels(twice), noise(11, 9))
    assert twice["notes"] == ["cropped to 9x11"]


# --- refusals ---

BAD_FILES = [
    (("a.png", b"", "image/png"), 422, "broken_image"),
    (("a.png", b"hello", "image/png"), 415, "unsupported_image"),
    (("a.png", to_png(noise())[:100], "image/png"), 422, "broken_image"),
    (("a.gif", encode_animation("GIF"), "image/gif"), 422, "animated_image"),
    (("a.png", png(60_000, 60_000, 8, 2, b""), "image/png"), 413, "image_too_large"),
]


@pytest.mark.parametrize(("bad", "status", "code"), BAD_FILES)
async def test_a_bad_file_is_named_and_nothing_is_stored(service, client, bad, status, code):
    body = problem(await encrypt(client, images(an_image(), bad, an_image())), status, code)
    assert [error["pointer"] for error in body["errors"]] == ["/images/1"]
    assert bad[0] in body["errors"][0]["detail"]
    assert await keys(service) == 0


async def test_every_file_with_a_bad_header_is_named_at_once(client):
    body = problem(await encrypt(client, images(*(bad for bad, _, _ in BAD_FILES))), 422, "broken_image")
    # the file that is cut off has a good header, and nothing is decoded yet
    assert [error["pointer"] for error in body["errors"]] == [f"/images/{i}" for i in (0, 1, 3, 4)]


@pytest.mark.parametrize(
    ("data", "pointer", "code"),
    [
        ({}, "/scheme", "invalid_request"),
        ({"scheme": "rot13"}, "/scheme", "unknown_scheme"),
        ({"scheme": ["tanaka", "tanaka"]}, "/scheme", "invalid_request"),
        ({"scheme": "tanaka", "params": "[]"}, "/params", "invalid_request"),
        ({"scheme": "tanaka", "params": "{"}, "/params", "invalid_request"),
        ({"scheme": "tanaka", "params": '{"block":8}'}, "/params/block", "invalid_request"),
        ({"scheme": "tanaka", "params": '{"key_mode":"same"}'}, "/params/key_mode", "invalid_request"),
        ({"scheme": "tanaka", "colour": "red"}, "/colour", "invalid_request"),
        ({"scheme": "tanaka", "original_width": "3"}, "/original_width", "invalid_request"),
        ({"scheme": "tanaka", "key_id": ["key_a", "key_b"]}, "/key_id", "invalid_request"),
        ({"scheme": "tanaka", "images": "text"}, "/images", "invalid_request"),
    ],
)
async def test_a_bad_field_is_named(client, data, pointer, code):
    body = problem(await client.post("/encrypt", files=images(an_image()), data=data), 422, code)
    assert body["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("path", ["/encrypt", "/decrypt"])
async def test_a_key_id_with_a_nul_is_unknown(client, path):
    answer = await client.post(path, files=images(an_image()), data={"key_id": "key_\0"})
    assert problem(answer, 404, "unknown_key")["errors"][0]["pointer"] == "/key_id"


@pytest.mark.parametrize("field", ["key_id", "original_width"])
async def test_more_values_than_the_one_image_are_counted_in_the_singular(client, field):
    data = {"key_id": "key_a", field: ["1", "2"]}
    body = problem(await client.post("/decrypt", files=images(an_image()), data=data), 422, "invalid_request")
    assert body["errors"] == [{"pointer": f"/{field}", "detail": "send one for the one image; got 2"}]


async def test_a_request_without_files_or_with_too_many(client):
    problem(await client.post("/encrypt", data={"scheme": "tanaka"}), 415, "unsupported_media")
    problem(await client.post("/encrypt", files={"wrong": b"x"}), 422, "invalid_request")
    problem(await encrypt(client, images(*(an_image(height=1, width=1) for _ in range(65)))), 413, "too_many_files")
    fields = [("key_id", (None, "k")) for _ in range(10_000)]
    problem(await client.post("/encrypt", files=[*images(an_image()), *fields]), 413, "too_many_files")


async def test_all_images_together_have_a_limit_of_pixels(client):
    big = png(4000, 4000, 8, 2, b"")
    body = problem(
        await encrypt(client, images(*(("b.png", big, "image/png") for _ in range(3)))), 413, "image_too_large"
    )
    assert body["errors"][0]["pointer"] == "/images"


async def test_a_lossy_or_converted_ciphertext_is_refused_with_the_reason(client):
    (entry,) = (await encrypt(client, images(an_image(height=16, width=16)))).json()["images"]
    for name, data, type in (
        ("e.jpg", encode_pixels(pixels(entry), "JPEG"), "image/jpeg"),
        ("e.png", encode_pixels(np.dstack([pixels(entry), np.full((16, 16), 255, np.uint8)])), "image/png"),
    ):
        answer = await client.post("/decrypt", files=images((name, data, type)), data={"key_id": entry["key_id"]})
        assert name in problem(answer, 422, "not_exact")["detail"]


async def test_sizes_that_cannot_be(client):
    (entry,) = (await encrypt(client, images(an_image(height=8, width=8)), "tanaka")).json()["images"]
    problem(await decrypt(client, [entry], original_width="9", original_height="8"), 422, "size_mismatch")
    problem(await decrypt(client, [entry], original_width="8"), 422, "invalid_request")
    for side in ("0", "-1", "x", "9" * 30, "８"):
        answer = await decrypt(client, [entry], original_width=side, original_height="8")
        assert problem(answer, 422, "invalid_request")["errors"][0]["pointer"] == "/original_width/0"
    odd = {**entry, "data": base64.b64encode(to_png(noise(7, 8))).decode()}
    problem(await decrypt(client, [odd]), 422, "size_mismatch")


async def test_explicit_maps_fit_one_size_only(client):
    key = (await client.post("/keys", json={"scheme": "pixelwise", "material": MAP})).json()
    fitting = await encrypt(client, images(an_image()), scheme=None, key_id=key["id"])
    assert fitting.status_code == 200, fitting.text
    np.testing.assert_array_equal(pixels(fitting.json()["images"][0]), noise())  # the map that changes nothing
    other = await encrypt(client, images(an_image(), an_image("b.png", height=9)), scheme=None, key_id=key["id"])
    body = problem(other, 422, "size_mismatch")
    assert [error["pointer"] for error in body["errors"]] == ["/images/1"]
    assert (await client.get(f"/keys/{key['id']}")).json()["uses"] == 1


async def test_a_key_of_another_scheme_or_with_other_params(client):
    (entry,) = (await encrypt(client, images(an_image()))).json()["images"]
    problem(await encrypt(client, images(an_image()), "tanaka", key_id=entry["key_id"]), 422, "wrong_key")
    problem(
        await encrypt(client, images(an_image()), None, {"key_mode": "different"}, key_id=entry["key_id"]),
        422,
        "wrong_key",
    )
    problem(await client.post("/decrypt", files=images(an_image())), 422, "key_needed")


async def test_the_key_of_one_image_does_not_serve_two(client):
    (entry,) = (await encrypt(client, images(an_image()), params={"key_mode": "different"})).json()["images"]
    files = images(an_image(), an_image())
    problem(await client.post("/encrypt", files=files, data={"key_id": entry["key_id"]}), 422, "wrong_key")


async def test_a_foreign_an_unknown_and_a_destroyed_key(service, client):
    (entry,) = (await encrypt(client, images(an_image()))).json()["images"]
    async with service.client(await service.create_account("stranger")) as stranger:
        problem(await decrypt(stranger, [entry]), 404, "unknown_key")
        problem(await encrypt(stranger, images(an_image()), None, key_id=entry["key_id"]), 404, "unknown_key")
    problem(await decrypt(client, [{**entry, "key_id": "key_nope"}]), 404, "unknown_key")
    assert (await client.delete(f"/keys/{entry['key_id']}")).status_code == 204
    problem(await decrypt(client, [entry]), 410, "key_destroyed")


async def test_a_ciphertext_that_no_image_holds_is_refused(client):
    refused = problem(await encrypt(client, images(an_image()), "instahide"), 422, "not_an_image")
    assert "float32 50 x H x W x 3, which no image holds without loss" in refused["detail"]
    refused = problem(await encrypt(client, images(an_image()), "partialface"), 422, "not_an_image")
    assert "float32 27 x H x W, which no image holds without loss" in refused["detail"]
    key = (await client.post("/keys", json={"scheme": "instahide", "params": {}})).json()
    problem(await encrypt(client, images(an_image()), None, key_id=key["id"]), 422, "not_an_image")
    problem(
        await decrypt(client, [{"data": base64.b64encode(to_png(noise())), "key_id": key["id"]}]), 422, "not_invertible"
    )


async def test_a_failing_worker_gives_500_at_once_and_reveals_no_secret(client, monkeypatch):
    monkeypatch.setattr("unveil.worker.encryption.handlers.new_secret", lambda: 1 / 0)
    answer = await encrypt(client, images(an_image()))
    problem(answer, 500, "internal")
    assert "division" not in answer.text
