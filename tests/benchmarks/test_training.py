import pytest
import torch

from benchmarks.training.cases import cases
from unveil.models.core.errors import Cancelled
from unveil.models.core.run_context import RunContext
from unveil.models.training import loop


@pytest.mark.parametrize(("name", "make"), cases("quick", 8).items(), ids=cases("quick", 8))
def test_the_peer_trains_as_many_weights_as_ours(name, make, monkeypatch):
    train, ours = loop._train, []

    def stop(make_task, tensor_groups, config, batch_size, context):
        if config.epochs == 1:  # the classifier that TN-model trains first
            return train(make_task, tensor_groups, config, batch_size, context)
        task = make_task()
        # Only matrices of frozen networks count, because ours has its batch normalisations folded into them.
        frozen = (p for network in task.frozen[:1] for p in network.parameters() if p.dim() > 1)
        ours.append(sum(p.numel() for p in (*task.networks.parameters(), *frozen)))
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
