"""Planning refuses orders that cannot run before anything is trained."""

from __future__ import annotations

import pytest

from unveil.app.errors.problem import Invalid
from unveil.app.evaluations.planning import plan_evaluation
from unveil.app.evaluations.schemas import EvaluationCreate
from unveil.models.catalog import DatasetInfo


def order(*attacks, schemes=({"name": "pixelwise"},), **values):
    body = {"name": "audit", "schemes": list(schemes), "attacks": [{"name": attack} for attack in attacks], **values}
    return EvaluationCreate.model_validate(body)


@pytest.mark.parametrize(("mode", "side"), [("rgb7", 6), ("rgb-gauss11", 10), ("gray-gauss11", 8), ("gray7", 1)])
def test_images_without_a_score_are_refused_with_a_pointer(mode, side):
    with pytest.raises(Invalid) as refused:
        plan_evaluation(order("itn", dataset="small", ssim_mode=mode), {}, (64, side))
    ((pointer, detail),) = refused.value.errors
    assert pointer == "/dataset"
    assert f"these have {side}x64" in detail
    upload = DatasetInfo("mine", 0, 1, side, side, has_originals=True)
    external = order("none", schemes=[{"name": "external", "dataset": "ds_1"}], ssim_mode=mode)
    with pytest.raises(Invalid) as refused:
        plan_evaluation(external, {}, None, {"ds_1": upload})
    assert refused.value.errors[0][0] == "/schemes/0/dataset"


def test_images_of_the_window_are_taken_and_without_originals_nothing_is_scored():
    assert plan_evaluation(order("none", dataset="small"), {}, (7, 7)).cells
    upload = DatasetInfo("mine", 0, 1, 3, 3)
    external = order("none", schemes=[{"name": "external", "dataset": "ds_1"}])
    assert plan_evaluation(external, {}, None, {"ds_1": upload}).cells


def test_an_attack_does_not_apply_to_images_that_its_network_cannot_take():
    plan = plan_evaluation(order("none", "gan", dataset="small"), {}, (15, 20))
    reasons = {cell.attack["name"]: cell.not_applicable_reason for cell in plan.cells}
    assert reasons == {"none": None, "gan": "needs images of at least 16x16; these have 20x15"}
    padded = plan_evaluation(order("none", "gan", schemes=[{"name": "tanaka"}], dataset="small"), {}, (15, 20))
    assert [cell.not_applicable_reason for cell in padded.cells] == [None, None], "Tanaka's scheme pads to 16x20"
