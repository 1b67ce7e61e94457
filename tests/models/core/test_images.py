import io

import numpy as np
import pytest
from PIL import Image

from tests.models.sample_images import photographs
from unveil.models.core.images import pad, padded_size, quantise, tiles, to_png


@pytest.mark.parametrize(("height", "width"), [(96, 96), (1, 1), (17, 300), (300, 401)])
def test_a_png_reads_back_bit_for_bit(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    raw = to_png(image, {"unveil:original": "97x101"})
    with Image.open(io.BytesIO(raw)) as read:
        read.load()
        assert read.mode == "RGB"
        assert read.info["unveil:original"] == "97x101"
        assert (np.asarray(read) == image).all()
    assert len(raw) <= 1.01 * image.nbytes + height + 160


def test_padding_replicates_the_edges():
    image = photographs(1, 5, 6)
    padded = pad(image, 4)
    assert padded.shape == (1, 8, 8, 3)
    assert (padded[:, :5, :6] == image).all()
    assert (padded[:, 5:, :6] == image[:, 4:5]).all()
    assert (padded[:, :, 6:] == padded[:, :, 5:6]).all()
    assert padded_size(8, 8, 4) == (8, 8)
    assert pad(padded, 4) is padded


def test_quantising_rounds_and_clips():
    assert quantise(np.array([-3.0, 0.4, 0.6, 254.6, 300.0])).tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("size", [(5, 7), (20, 20), (21, 64), (100, 3)])
def test_tiles_cover_the_image_once_with_context_around_each(size):
    height, width = size
    covered = np.zeros(size, int)
    image = np.arange(size[0] * size[1]).reshape(size)
    for seen, kept, inner in tiles(height, width, 20, 4):
        covered[kept] += 1
        assert max(image[seen].shape) <= 20
        assert (image[seen][inner] == image[kept]).all()
        for axis in range(2):
            assert kept[axis].start - seen[axis].start == min(4, kept[axis].start)
            assert seen[axis].stop - kept[axis].stop == min(4, size[axis] - kept[axis].stop)
    assert (covered == 1).all()
