import numpy as np
import pytest

from tests.models.sample_images import photographs
from unveil.models.attacks.base import AttackInput
from unveil.models.attacks.ciphertext_curve import CURVE, CiphertextSettings, recover_with_curve
from unveil.models.core.errors import AttackFailed
from unveil.models.core.run_context import RunContext

IMAGES = photographs(9, 16, 16)


class Inversion:
    def decrypt(self, images):
        return 255 - images


def make_recover(at_least, asked):
    def recover(ciphertexts, to_read, on_step):
        asked.append(len(ciphertexts))
        if len(ciphertexts) < at_least:
            raise AttackFailed("too few")
        return Inversion(), None

    return recover


def make_input():
    return AttackInput(targets=255 - IMAGES[:3], observed=255 - IMAGES[3:], scheme=None, oracle=None)


def test_the_recovery_of_the_verdict_comes_first_and_points_that_fail_are_noted():
    asked: list[int] = []
    found = recover_with_curve(make_input(), CiphertextSettings(8), RunContext(), make_recover(3, asked))
    assert asked == [8, 1, 2, 4]
    assert (found.reconstructed == IMAGES[:3]).all()
    assert [(name, count) for name, count, _ in found.ablation] == [(CURVE, 4.0), (CURVE, 8.0)]
    assert found.notes == (
        "nothing recovered from 1 ciphertexts: too few",
        "nothing recovered from 2 ciphertexts: too few",
    )


def test_nothing_is_recovered_for_a_curve_where_all_ciphertexts_are_too_few():
    asked: list[int] = []
    with pytest.raises(AttackFailed, match="too few"):
        recover_with_curve(make_input(), CiphertextSettings(8), RunContext(), make_recover(9, asked))
    assert asked == [8]


def test_controls_need_no_curve():
    asked: list[int] = []
    context = RunContext(ablation=False)
    found = recover_with_curve(make_input(), CiphertextSettings(8), context, make_recover(1, asked))
    assert asked == [8]
    assert found.ablation == ()
    assert np.array_equal(found.reconstructed, IMAGES[:3])
