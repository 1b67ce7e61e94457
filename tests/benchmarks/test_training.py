import pytest
import torch

from benchmarks.training.cases import cases
from models import training
from models.attacks.base import Cancelled, Context


@pytest.mark.parametrize(("name", "make"), cases("quick", 8).items(), ids=cases("quick", 8))
def test_the_peer_trains_as_many_weights_as_ours(name, make, monkeypatch):
    train, ours = training._train, []

    def stop(make_lesson, decks, plan, batch, context):
        if plan.epochs == 1:  # TN-model's judge comes first
            return train(make_lesson, decks, plan, batch, context)
        lesson = make_lesson()
        ours.append(sum(p.numel() for network in (lesson.networks, *lesson.frozen[:1]) for p in network.parameters()))
        raise Cancelled

    monkeypatch.setattr(training, "_train", stop)
    case = make()
    assert case.name == name
    with pytest.raises(Cancelled):
        case.ours(Context())
    peer = case.peer()
    assert ours == [sum(p.numel() for network in peer.networks for p in network.parameters())]
    before = [p.clone() for p in peer.networks[0].parameters()]
    peer.step(next(peer.batches(0, torch.device("cpu"))))
    assert any(not torch.equal(a, b) for a, b in zip(before, peer.networks[0].parameters(), strict=True))
