import numpy as np
import pytest

from unveil.models.core.tiling import tiles


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
