from tests.models.evaluation.verdict_cases import leaves, photographs
from unveil.models.evaluation.originals import Originals


def test_cells_with_the_same_originals_and_distractors_share_a_gallery():
    originals, others = photographs()[:20], photographs()[20:]
    first = Originals.build(originals, others)
    assert Originals.build(originals.copy(), others.copy()).gallery is first.gallery
    assert Originals.build(originals, others[:5]).gallery.size == 25
    assert Originals.build(originals, others, seed=1).gallery is not first.gallery


def test_other_originals_of_the_same_shape_get_a_gallery_of_their_own():
    first, second = leaves(20), leaves(40)[20:]
    Originals.build(first)
    assert (Originals.build(second).gallery.images == second).all()
