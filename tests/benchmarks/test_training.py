import pytest
import torch

from benchmarks.training.cases import cases
from unveil.models.core.errors import Cancelled
from unveil.models.core.run_context import RunContext
from unveil.models.training import loop


@pytest.mark.parametrize(("name", "make"), cases("quick", 8).items(), ids=cases("quick", 8))
def test_the_peer_trains_as_many_weights_as_ours(name, make, monkeypatch):
    train, ours = loop._train, []

    def stop(make_lesson, decks, plan, batch, context):
        if plan.epochs == 1:  # TN-model's judge comes first
            return train(make_lesson, decks, plan, batch, context)
        lesson = make_lesson()
        # Of a judge that learns nothing, what is multiplied with: ours has its normalisations folded in.
        asked = (p for judge in lesson.frozen[:1] for p in judge.parameters() if p.dim() > 1)
        ours.append(sum(p.numel() for p in (*lesson.networks.parameters(), *asked)))
        raise Cancelled

    monkeypatch.setattr(loop, "_train", stop)
    case = make()
    assert case.name == name
    with pytest.raises(Cancelled):
        case.ours(RunContext())
    peer = case.peer()
    theirs = (p for network in peer.networks for p in network.parameters())
    assert ours == [sum(p.numel() for p in theirs if p.requires_grad or p.dim() > 1)]
    before = [p.clone() for p in peer.networks[0].parameters()]
    peer.step(next(peer.batches(0, torch.device("cpu"))))
    assert any(not torch.equal(a, b) for a, b in zip(before, peer.networks[0].parameters(), strict=True))
