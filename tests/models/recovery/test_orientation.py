import numpy as np
import pytest
from skimage import data
from skimage.transform import resize

from unveil.models.data.sample import sample
from unveil.models.recovery import orientation
from unveil.models.recovery.orientation import choose_orientation, rotation_log_probabilities
from unveil.models.schemes.pixelwise import INVERSE_ORDERS
from unveil.models.tools import fit_orientation


def _square(photograph):
    side = min(photograph.shape[:2])
    top, left = ((length - side) // 2 for length in photograph.shape[:2])
    return (resize(photograph[top : top + side, left : left + side], (96, 96), anti_aliasing=True) * 255).astype(
        np.uint8
    )


# Photographs that the network has not seen.
PHOTOGRAPHS = np.stack([_square(each()) for each in (data.astronaut, data.coffee, data.chelsea, data.rocket)])


@pytest.mark.parametrize(("rotation", "element"), [(0, 0), (1, 7), (2, 3), (3, 11)])
def test_rotation_and_colours_of_photographs_are_found(rotation, element):
    changed = np.rot90(PHOTOGRAPHS, rotation, axes=(1, 2))[..., INVERSE_ORDERS[element % 6].astype(np.intp)]
    found = choose_orientation(np.ascontiguousarray(255 - changed if element >= 6 else changed))
    assert (found.quarter_turns, found.color.element) == ((4 - rotation) % 4, element)


def test_images_that_are_not_square_are_upright_or_upside_down():
    assert choose_orientation(PHOTOGRAPHS[:, :64]).quarter_turns in (0, 2)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="at least one image"):
        choose_orientation(PHOTOGRAPHS[:0])


def test_probabilities_follow_the_turn_and_ignore_the_mirror():
    upright = rotation_log_probabilities(PHOTOGRAPHS[:8])
    assert np.allclose(np.exp(upright).sum(1), 1)
    turned = rotation_log_probabilities(np.rot90(PHOTOGRAPHS[:8], axes=(1, 2)))
    assert np.allclose(turned, np.roll(upright, 1, axis=1), atol=1e-4)
    assert np.allclose(rotation_log_probabilities(PHOTOGRAPHS[:8, :, ::-1]), upright[:, [0, 3, 2, 1]], atol=1e-4)


def test_the_tool_trains_weights_of_the_bundled_shapes():
    weights, losses = fit_orientation.train(sample().train[:100], epochs=2)
    assert np.isfinite(losses).all()
    assert len(losses) == 2
    bundled = np.load(orientation.BUNDLED_WEIGHTS)
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in bundled.items()
    }
