"""What the text chunks of a ciphertext say, and what is no exact ciphertext."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.worker.sample_images import encode, encode_pixels, noise, png_of_16_bits
from unveil.models.core.images import to_png
from unveil.models.data.decoding import ImageError, decode, inspect
from unveil.worker.encryption.ciphertext import (
    ORIGINAL_SIZE_KEY,
    Layer,
    are_ours,
    compute_tag,
    decode_ciphertext,
    is_unchanged,
    read_layers,
    to_text,
)

KEY, OTHER_KEY = "key_" + "0" * 32, "key_" + "1" * 32
SECRET = b"s" + bytes(32)


def refusal(data):
    with pytest.raises(ImageError) as refused:
        decode_ciphertext(inspect(data))
    return refused.value


def test_a_ciphertext_comes_back_bit_for_bit_with_its_original_size():
    image = noise(12, 12)
    pixels, layers = decode_ciphertext(inspect(to_png(image, {ORIGINAL_SIZE_KEY: "10x11"})))
    np.testing.assert_array_equal(pixels, image)
    assert layers[0].original_size == (10, 11)
    assert decode_ciphertext(inspect(to_png(image)))[1] == []


def test_one_flipped_bit_of_the_file_is_noticed():
    data = bytearray(to_png(noise()))
    data[len(data) // 2] ^= 1
    assert "damaged chunk 'IDAT'" in refusal(bytes(data)).detail


@pytest.mark.parametrize(
    "data",
    [
        encode_pixels(noise(), "JPEG"),
        encode_pixels(noise(), "WEBP", lossless=True),
        encode(Image.fromarray(noise()).convert("RGBA"), "PNG"),
        encode(Image.fromarray(noise()).quantize(16), "PNG"),
        encode(Image.fromarray(noise()[..., 0]), "PNG"),
        encode(Image.fromarray(noise()), "PNG", transparency=(1, 2, 3)),
        png_of_16_bits(np.zeros((2, 2, 3), np.uint16)),
        to_png(noise(12, 12), {ORIGINAL_SIZE_KEY: "13x1"}),
        to_png(noise(12, 12), {ORIGINAL_SIZE_KEY: "0x1"}),
        to_png(noise(12, 12), {ORIGINAL_SIZE_KEY: "99999999999999999999x1"}),
        to_png(noise(12, 12), {ORIGINAL_SIZE_KEY: "'; DROP"}),
    ],
)
def test_what_is_no_exact_ciphertext_is_refused(data):
    assert refusal(data).code == "not_exact"


def test_layers_survive_their_file():
    layers = [Layer("10x11", KEY, "a" * 64), Layer("9x8", OTHER_KEY, "b" * 64), Layer("7x7")]
    assert read_layers(decode(inspect(to_png(noise(12, 12), to_text(layers)))).text) == layers
    assert to_text([]) == {}
    assert read_layers({"Comment": "a holiday"}) == []


@pytest.mark.parametrize(
    "layers", [[], [Layer("x")], [Layer("1x1", "key_<script>")], [Layer("1x1", KEY, "tag")], [Layer("1x1")] * 8]
)
def test_only_layers_of_the_service_are_copied(layers):
    assert not are_ours(layers)


@pytest.mark.parametrize("inner", ["{", "[1]", '[{"other":1}]', "[" * 100_000, '[{"original":1}]'])
def test_text_that_the_service_did_not_write_does_no_harm(inner):
    assert not are_ours(read_layers({ORIGINAL_SIZE_KEY: "1x1", "unveil:inner": inner})[1:])


def test_the_tag_binds_key_pixels_sizes_and_inner_layers():
    image, layers = noise(8, 8), [Layer("8x8", KEY), Layer("7x7", OTHER_KEY)]

    def tagged(secret=SECRET, scheme="tanaka", image=image, original="8x8", inner=layers[1:]):
        return compute_tag(secret, scheme, image, original, inner)

    outer = Layer("8x8", KEY, tagged())
    assert is_unchanged(SECRET, "tanaka", image, [outer, layers[1]])
    assert is_unchanged(SECRET, "tanaka", image, layers) is None
    changed = image.copy()
    changed[3, 4, 1] ^= 1
    for name, value in {
        "secret": b"s" + bytes(31) + b"\1", "scheme": "pixelwise", "image": changed, "original": "7x8", "inner": [],
    }.items():  # fmt: skip
        assert tagged(**{name: value}) != outer.tag, name
    assert tagged(image=image.reshape(4, 16, 3)) != outer.tag
