"""Files from strangers: each kind is either made plain RGB with a note, or refused with a reason."""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.worker.sample_images import encode, encode_animation, encode_pixels, noise, png, png_of_16_bits
from unveil.models.data import heic_files, jpeg_scans
from unveil.models.data.decoding import ImageError, decode, decode_exact, inspect

MAX = 100_000


def heic(name):
    """A file that pillow-heif wrote without loss: `heic_pixels`."""
    return Path(__file__).with_name("heic").joinpath(f"{name}.heic").read_bytes()


def heic_pixels():
    y, x = np.mgrid[0:24, 0:32]
    return np.stack([x // 8 * 60, y // 8 * 80, (x // 16 + y // 12) * 80], 2).astype(np.uint8)


def decode_data(data):
    return decode(inspect(data, max_pixels=MAX))


def expect_refusal(data, read=decode):
    with pytest.raises(ImageError) as refused:
        read(inspect(data, max_pixels=MAX))
    return refused.value


@pytest.mark.parametrize(
    ("format", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("PNG", {"compress_level": 9})]
)
def test_lossless_formats_keep_every_value(format, options):
    image = noise()
    result = decode_data(encode_pixels(image, format, **options))
    np.testing.assert_array_equal(result.pixels, image)
    assert result.notes == []


def test_sixteen_bit_colour_and_grey_are_scaled():
    values = np.random.default_rng(0).integers(0, 2**16, (5, 6, 3)).astype(np.uint16)
    colour = decode_data(png_of_16_bits(values))
    np.testing.assert_array_equal(colour.pixels, (values >> 8).astype(np.uint8))
    grey = decode_data(png_of_16_bits(values[..., 0]))
    np.testing.assert_array_equal(grey.pixels, np.repeat((values[..., :1] >> 8).astype(np.uint8), 3, axis=2))
    assert "16 bits a channel were scaled to 8" in colour.notes
    assert "16 bits a channel were scaled to 8" in grey.notes


def test_sixteen_bit_grey_with_a_transparent_value():
    values = np.full((2, 2), 1000, np.uint16)
    values[0, 0] = 2000
    body = zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    result = decode_data(png(2, 2, 16, 0, body, (b"tRNS", (2000).to_bytes(2, "big"))))
    assert result.pixels[0, 0].tolist() == [255, 255, 255]
    assert result.pixels[1, 1].tolist() == [1000 >> 4] * 3


def test_grey_and_bilevel_become_rgb():
    grey = noise()[..., 0]
    result = decode_data(encode(Image.fromarray(grey), "PNG"))
    np.testing.assert_array_equal(result.pixels, np.repeat(grey[..., None], 3, axis=2))
    assert result.notes == ["grey became RGB"]
    assert set(np.unique(decode_data(encode(Image.fromarray(grey).convert("1"), "PNG")).pixels)) <= {0, 255}


def test_cmyk_becomes_rgb():
    result = decode_data(encode(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"))
    red, green, _ = result.pixels[0, 0]
    assert red > 200
    assert green < 60
    assert result.notes == ["CMYK became RGB"]


def test_alpha_is_dropped_onto_white():
    rgba = Image.new("RGBA", (3, 3), (200, 0, 0, 0))
    rgba.putpixel((1, 1), (200, 0, 0, 255))
    result = decode_data(encode(rgba, "PNG"))
    assert result.pixels[0, 0].tolist() == [255, 255, 255]
    assert result.pixels[1, 1].tolist() == [200, 0, 0]
    assert result.notes == ["transparency was composited onto white"]


def test_heic_is_read():
    result = decode_data(heic("rgb"))
    np.testing.assert_array_equal(result.pixels, heic_pixels())
    assert result.notes == []
    assert not result.has_checksum


def test_what_a_heic_file_holds_besides_8_bit_rgb_is_converted_with_a_note():
    turned = decode_data(heic("turned"))
    np.testing.assert_array_equal(turned.pixels, np.rot90(heic_pixels(), -1))
    assert turned.notes == ["turned as its EXIF orientation says"]
    transparent = decode_data(heic("alpha"))
    assert (transparent.pixels[:, :16] == 255).all()
    np.testing.assert_array_equal(transparent.pixels[:, 16:], heic_pixels()[:, 16:])
    assert transparent.notes == ["transparency was composited onto white"]
    ten_bits = decode_data(heic("ten_bits"))
    assert np.abs(ten_bits.pixels.astype(int) - heic_pixels()).mean() < 16
    assert ten_bits.notes == ["10 bits a channel were scaled to 8"]


@pytest.mark.parametrize("lost_bytes", [1, 20, 200])
def test_a_heic_file_that_is_cut_off_is_refused(lost_bytes):
    assert expect_refusal(heic("rgb")[:-lost_bytes]).code == "broken_image"


def test_without_the_heic_reader_the_message_names_it(monkeypatch):
    def missing():
        raise ModuleNotFoundError("No module named 'pi_heif'")

    monkeypatch.setattr(heic_files, "register_reader", missing)
    error = expect_refusal(heic("rgb"))
    assert (error.code, error.detail) == ("unsupported_image", "is a HEIC image; install pi-heif, or convert it to PNG")


def save_tiff(**options):
    return encode_pixels(noise(64, 64), "TIFF", compression="tiff_adobe_deflate", **options)


@pytest.mark.parametrize("options", [{}, {"strip_size": 64 * 3 * 8}], ids=["one strip", "eight strips"])
def test_overwritten_values_of_a_deflated_tiff_are_found_by_its_checksums(options):
    data = save_tiff(**options)
    whole = decode_data(data)
    np.testing.assert_array_equal(whole.pixels, noise(64, 64))
    assert whole.has_checksum
    image: Any = Image.open(io.BytesIO(data))
    for offset, size in zip(image.tag_v2[273], image.tag_v2[279], strict=True):
        checksum = offset + size - 4
        assert data[checksum : checksum + 4] != bytes(4)
        damaged = data[:checksum] + bytes(4) + data[checksum + 4 :]
        assert "do not inflate" in expect_refusal(damaged).detail
    assert not decode_data(encode_pixels(noise(), "TIFF")).has_checksum


def test_a_palette_with_transparency_is_dropped_onto_white():
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 1), 1)
    result = decode_data(encode(image, "PNG", transparency=0))
    assert result.pixels[0, 0].tolist() == [255, 255, 255]
    assert result.pixels[1, 1].tolist() == [40, 50, 60]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    image = noise()
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = decode_data(encode_pixels(image, "PNG", exif=exif))
    turned = {
        1: image, 2: image[:, ::-1], 3: image[::-1, ::-1], 4: image[::-1], 5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1), 7: image[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(image),
    }  # fmt: skip
    np.testing.assert_array_equal(result.pixels, turned[orientation])
    assert bool(result.notes) == (orientation > 1)


def test_broken_exif_turns_nothing():
    image = noise()
    np.testing.assert_array_equal(
        decode_data(encode_pixels(image, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")).pixels, image
    )


def test_a_colour_profile_is_ignored_and_noted():
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise()
    result = decode_data(encode_pixels(image, "PNG", icc_profile=profile))
    np.testing.assert_array_equal(result.pixels, image)
    assert result.notes == ["the colour profile was ignored"]


def test_a_polyglot_is_only_its_picture():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("evil.txt", "x")
    image = noise()
    np.testing.assert_array_equal(decode_data(encode_pixels(image) + buffer.getvalue()).pixels, image)


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"", "broken_image", "empty"),
        (b"GIF89a", "broken_image", "GIF"),
        (b"\x89PNG\r\n\x1a\n", "broken_image", "PNG"),
        (encode_pixels(noise())[:200], "broken_image", "cut off"),
        (encode_pixels(noise(64, 64), "JPEG")[:400], "broken_image", "decoded"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported_image", "an SVG drawing, which is not read"),
        (b"II*\0" + b"\0" * 100, "broken_image", "TIFF"),
        (b"%PDF-1.7", "unsupported_image", "a PDF document"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "broken_image", "HEIC"),
        (b"\0\0\0\x18ftyphevc\0\0\0\0mif1hevc", "unsupported_image", "a HEIC image sequence, which is not read"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1jpeg", "unsupported_image", "another codec than HEVC, which is not read"),
        (heic("two_images"), "animated_image", "several images"),
        (b"\0\5\x16\7\0\2\0\0", "unsupported_image", "TIFF, AVIF, HEIC, PGM and PPM are read"),
        (encode(Image.new("F", (3, 3)), "TIFF"), "unsupported_image", "32-bit"),
        (png(100_000, 100_000, 8, 2, b""), "image_too_large", "pixels"),
        (png(1000, 101, 8, 2, b""), "image_too_large", "1000x101"),
        (png(0, 5, 8, 2, b""), "broken_image", "PNG"),
        (png(4, 4, 8, 2, b"not zlib"), "broken_image", "inflate"),
        (png(4, 4, 8, 2, zlib.compress(b"")), "broken_image", "less data"),
        (png(4, 4, 8, 2, zlib.compress(bytes(39))), "broken_image", "less data"),
        (png(4, 4, 8, 2, zlib.compress(bytes(52))[:-2]), "broken_image", "less data"),
        (png(4, 4, 8, 2, zlib.compress(bytes(10**7))), "broken_image", "more data"),
        (encode_animation("GIF"), "animated_image", "frames"),
        (encode_animation("PNG"), "animated_image", "frames"),
        (encode_animation("WEBP"), "animated_image", "frames"),
        (encode_animation("TIFF"), "animated_image", "pages"),
    ],
)  # fmt: skip
def test_what_is_refused_and_why(data, code, words):
    error = expect_refusal(data)
    assert error.code == code, error.detail
    assert words in error.detail


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    body = zlib.compress(b"\0" * (300_000_000 // 100), 9)
    assert expect_refusal(png(10_000, 10_000, 8, 2, body)).code == "image_too_large"


def test_text_chunks_that_explode_are_no_way_in():
    bomb = b"k\0\0" + zlib.compress(b"a" * 80_000_000, 9)
    rows = zlib.compress(b"\0" + bytes(3))
    data = png(1, 1, 8, 2, rows, (b"zTXt", bomb))
    try:
        decode_data(data)
    except ImageError as error:
        assert error.code == "broken_image"  # noqa: PT017 - either answer will do, but no other exception


def test_an_interlaced_png_is_read_whole():
    image = Image.effect_noise((13, 9), 90).convert("RGB")
    # Pillow writes no interlaced PNG: its passes by hand
    pixels = np.asarray(image)
    rows = b"".join(
        b"\0" + row.tobytes()
        for x, y, dx, dy in (
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        )
        for row in pixels[y::dy, x::dx]
        if row.size
    )
    data = bytearray(png(13, 9, 8, 2, zlib.compress(rows)))
    data[28] = 1
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    np.testing.assert_array_equal(decode_data(bytes(data)).pixels, pixels)


def exif_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode_pixels(noise(), "JPEG"), "a JPEG file loses detail"),
        (encode_pixels(noise(), "WEBP"), "a WEBP file loses detail"),
        (encode_pixels(noise(), "AVIF"), "an AVIF file loses detail"),
        (heic("rgb"), "a HEIC file loses detail"),
        (encode_pixels(noise(), "TIFF", compression="jpeg"), "a TIFF file loses detail"),
        (encode(Image.fromarray(noise()).convert("RGBA"), "PNG"), "transparency"),
        (encode(Image.new("RGBA", (3, 3), (1, 2, 3, 0)), "WEBP", lossless=True), "transparency"),
        (encode(Image.fromarray(noise()[..., 0]).convert("LA"), "PNG"), "transparency"),
        (encode(Image.fromarray(noise()), "PNG", transparency=(1, 2, 3)), "transparency"),
        (encode(Image.fromarray(noise()).quantize(16), "PNG"), "a palette"),
        (encode(Image.fromarray(noise()).quantize(16), "GIF"), "a palette"),
        (encode(Image.fromarray(noise()[..., 0]).convert("1"), "PNG"), "1 bits a channel"),
        (png_of_16_bits(np.zeros((2, 2, 3), np.uint16)), "16-bit values"),
        (png_of_16_bits(noise(seed=1).astype(np.uint16) << 8), "16 bits a channel"),
        (encode_pixels(noise(), "PNG", exif=exif_turned()), "EXIF"),
        (encode_pixels(noise(), "TIFF", exif=exif_turned()), "EXIF"),
        (encode(Image.fromarray(noise()).convert("CMYK"), "TIFF"), "CMYK"),
        (b"P5 2 2 15\n" + bytes([1, 2, 3, 4]), "values of 0 to 15"),
        (b"P6 1 1 65535\n" + bytes(6), "16-bit values"),
    ],
    ids=lambda value: value if isinstance(value, str) else "file",
)
def test_what_would_be_changed_is_not_exact(data, reason):
    error = expect_refusal(data, read=decode_exact)
    assert error.code == "not_exact"
    assert reason in error.detail


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("PPM", {}),
    ],
)
@pytest.mark.parametrize("grey", [False, True])
def test_lossless_8_bit_grey_and_rgb_are_exact(format, options, grey):
    image = noise()[..., 0] if grey and format != "WEBP" else noise()
    expected = np.repeat(image[..., None], 3, 2) if image.ndim == 2 else image
    np.testing.assert_array_equal(decode_exact(inspect(encode_pixels(image, format, **options))).pixels, expected)


@pytest.mark.parametrize(("top", "bits"), [(255, 8), (1023, 10), (4095, 12), (16383, 14), (65535, 16)])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bit_files_are_scaled_by_the_bits_that_their_largest_value_needs(top, bits, channels):
    values = np.random.default_rng(0).integers(0, top + 1, (9, 7, 3)).astype(np.uint16)
    values[0, 0] = top
    values = values[..., 0] if channels == 1 else values
    result = decode_data(png_of_16_bits(values))
    expected = (values >> (bits - 8)).astype(np.uint8)
    np.testing.assert_array_equal(result.pixels, expected if channels == 3 else np.repeat(expected[..., None], 3, 2))
    assert result.bits == bits
    assert any(f"{bits} bits" in note or "taken as they are" in note for note in result.notes)


def test_a_dataset_may_ask_for_more_bits_than_one_file_needs():
    values = np.full((2, 2), 1000, np.uint16)
    assert decode(inspect(png_of_16_bits(values)), min_bits=16).pixels[0, 0, 0] == 1000 >> 8


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_a_transparent_grey_is_found_on_the_scale_of_the_file(depth):
    """Every value of the depth once (16 bits: a few), one of them transparent."""
    count = 2**depth if depth < 16 else 16
    values = np.arange(count, dtype=np.uint32) * (1 if depth < 16 else 4097)
    row = "".join(f"{value:0{depth}b}" for value in values)
    body = int(row.ljust(-(-len(row) // 8) * 8, "0"), 2).to_bytes(-(-len(row) // 8))
    key = int(values[1])
    result = decode_data(png(count, 1, depth, 0, zlib.compress(b"\0" + body), (b"tRNS", key.to_bytes(2))))
    shown = [value * 255 // (2**depth - 1) if depth < 16 else value >> 8 for value in values.tolist()]
    shown[1] = 255
    assert result.pixels[0, :, 0].tolist() == shown


def test_a_transparent_16_bit_colour_is_compared_with_all_its_bits():
    values = np.array([[[0x1234, 0x5678, 0x9ABC], [0x1235, 0x5678, 0x9ABC]]], np.uint16)
    body = zlib.compress(b"\0" + values.astype(">u2").tobytes())
    key = values[0, 0].astype(">u2").tobytes()
    assert decode_data(png(2, 1, 16, 2, body, (b"tRNS", key))).pixels[0].tolist() == [[255] * 3, [0x12, 0x56, 0x9A]]


@pytest.mark.parametrize(
    ("kind", "body", "note"),
    [
        (b"gAMA", (100000).to_bytes(4), "gamma"),
        (b"cHRM", bytes(32), "chromaticities"),
        (b"cICP", b"\x09\x10\0\1", "cICP"),
    ],
)  # fmt: skip
def test_colour_data_that_are_not_applied_are_noted(kind, body, note):
    result = decode_data(png(1, 1, 8, 2, zlib.compress(bytes(4)), (kind, body)))
    assert [note in text for text in result.notes] == [True]


def test_data_after_the_end_are_noted():
    assert "after the image's end" in decode_data(encode_pixels(noise()) + b"more").notes[0]


def test_portable_maps_are_scaled_from_their_own_maximum():
    assert decode_data(b"P5 2 1 4095\n" + bytes([0x0F, 0xFF, 0, 0])).pixels[0, :, 0].tolist() == [255, 0]
    assert decode_data(b"P6\n# made\n1 1\n1000\n" + bytes([3, 232, 0, 0, 1, 244])).pixels[0, 0].tolist() == [
        255,
        0,
        128,
    ]


@pytest.mark.parametrize("top", [4095, 65535])
def test_portable_maps_in_text_are_read_like_binary_ones(top):
    values = np.random.default_rng(0).integers(0, top + 1, (5, 4, 3)).astype(">u2")
    for kind, chosen in ((3, values), (2, values[..., 0])):
        header = f"\n# made\n4 5\n{top}\n".encode()
        text = " ".join(map(str, chosen.ravel())).encode().replace(b" ", b" # a comment\n", 1)
        binary = decode_data(b"P%d" % (kind + 3) + header + chosen.tobytes())
        assert decode_data(b"P%d" % kind + header + text).pixels.tolist() == binary.pixels.tolist()
        assert "cut off" in expect_refusal(b"P%d" % (kind + 3) + header + chosen.tobytes()[:-1]).detail
        assert "cut off" in expect_refusal(b"P%d" % kind + header + text.rsplit(maxsplit=1)[0]).detail


def photo(side=96):
    y, x = np.mgrid[:side, :side]
    smooth = np.stack([2 * x + 30 * np.sin(y / 5), 2 * y, x + y], -1) + noise(side, side) / 16
    return Image.fromarray(np.clip(smooth, 0, 255).astype(np.uint8))


JPEG_KINDS = [
    {"quality": 90}, {"quality": 100, "subsampling": 0}, {"progressive": True}, {"quality": 100, "progressive": True},
    {"optimize": True}, {"restart_marker_blocks": 4}, {"quality": 20},
]  # fmt: skip


@pytest.mark.parametrize("options", JPEG_KINDS, ids=str)
@pytest.mark.parametrize(
    "image", [photo(), photo(7), Image.new("RGB", (16, 16), "white"), photo().convert("L"), photo().convert("CMYK")]
)
def test_whole_jpegs_are_read_and_lack_nothing_but_their_end_marker(options, image):
    data = encode(image, "JPEG", **options)
    assert not [note for note in decode_data(data).notes if "marker" in note]
    without_end = decode_data(data[:-2])
    np.testing.assert_array_equal(without_end.pixels, decode_data(data).pixels)
    assert "the missing end marker was added" in without_end.notes


@pytest.mark.parametrize("options", JPEG_KINDS, ids=str)
@pytest.mark.parametrize("image", [photo(), photo().convert("L")])
def test_a_jpeg_that_lost_data_is_refused_although_its_end_marker_is_there(options, image):
    data = encode(image, "JPEG", **options)
    scan = data.index(b"\xff\xda")
    for share in (0.2, 0.5, 0.9):
        cut = scan + 16 + int(share * (len(data) - scan - 40))
        assert "cannot be decoded" in expect_refusal(data[:cut].rstrip(b"\xff") + b"\xff\xd9").detail, share


def entropy_coded_data(data):
    """Its first byte and its end, of the first scan on."""
    header = data.index(b"\xff\xda") + 2
    return header + int.from_bytes(data[header : header + 2]), len(data) - 2


@pytest.mark.parametrize("options", JPEG_KINDS, ids=str)
@pytest.mark.parametrize("place", [0.1, 0.4, 0.6])
def test_a_jpeg_with_a_gap_is_refused(options, place):
    data = encode(photo(), "JPEG", **options)
    start, end = entropy_coded_data(data)
    cut = start + int(place * (end - start))
    assert "cannot be decoded" in expect_refusal(data[:cut] + data[cut + 300 :]).detail


@pytest.mark.parametrize("options", JPEG_KINDS, ids=str)
@pytest.mark.parametrize("place", [0.1, 0.4, 0.6])
def test_a_jpeg_with_superfluous_data_is_refused(options, place):
    """As a sector that was written twice leaves it."""
    data = encode(photo(), "JPEG", **options)
    start, end = entropy_coded_data(data)
    cut = start + int(place * (end - start))
    assert "cannot be decoded" in expect_refusal(data[:cut] + data[cut - 150 : cut] + data[cut:]).detail


@pytest.mark.parametrize("options", JPEG_KINDS, ids=str)
@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_jpeg_with_an_erased_sector_is_refused(options, fill):
    data = encode(photo(), "JPEG", **options)
    start, end = entropy_coded_data(data)
    cut = start + (end - start) // 3
    assert "cannot be decoded" in expect_refusal(data[:cut] + 300 * fill + data[cut + 300 :]).detail


@pytest.mark.parametrize("count", [1, 8, 16])
def test_lost_restart_intervals_are_found_although_their_markers_count_to_eight(count):
    data = encode(photo(192), "JPEG", restart_marker_blocks=4)
    markers = [at for at in range(len(data) - 2) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    assert "lost" in expect_refusal(data[: markers[2]] + data[markers[2 + count] :]).detail


@pytest.mark.parametrize("which", [1, 3, 6])
def test_a_progressive_jpeg_that_lacks_or_repeats_a_scan_is_refused(which):
    data = encode(photo(), "JPEG", progressive=True)
    scan = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"][which]
    end = re.compile(rb"\xff[\xc4\xda\xd9]").search(data, scan + 2).start()
    assert "scans are missing" in expect_refusal(data[:scan] + data[end:]).detail
    assert "scans are missing or repeated" in expect_refusal(data[:end] + data[scan:end] + data[end:]).detail


def test_padding_after_the_last_block_and_a_last_restart_marker_are_harmless():
    data = encode(photo(), "JPEG")
    expected = decode_data(data).pixels
    for padding in (bytes(40), b"\xff" * 5, b"\xff\xd0", b"\xff\0\xff\0"):
        np.testing.assert_array_equal(decode_data(data[:-2] + padding + b"\xff\xd9").pixels, expected)


def test_jpegs_are_checked_alike_without_the_compiler(monkeypatch):
    for name in ("_peek", "_walk_dc", "_walk_ac", "_walk_band", "_has_rest", "walk_scan"):
        kernel = getattr(jpeg_scans, name)
        monkeypatch.setattr(jpeg_scans, name, getattr(kernel, "py_func", kernel))
    for options in ({}, {"progressive": True}, {"restart_marker_blocks": 4}):
        data = encode(photo(48), "JPEG", **options)
        decode_data(data)
        start, end = entropy_coded_data(data)
        cut = (start + end) // 2
        assert "cannot be decoded" in expect_refusal(data[:cut] + data[cut + 100 :]).detail


VALID = [encode_pixels(noise(), format) for format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")]
VALID.append(heic("rgb"))


@settings(max_examples=150)
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=8),
    st.integers(0, 2000),
)
def test_a_mangled_file_is_decoded_or_refused_and_nothing_else(data, changes, cut):
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] = value
    mangled = bytes(changed[: max(1, len(changed) - cut % len(changed))])
    try:
        pixels = decode_data(mangled).pixels
    except ImageError:
        return
    assert pixels.dtype == np.uint8
    assert pixels.shape[2] == 3
    assert pixels.shape[0] * pixels.shape[1] <= MAX
