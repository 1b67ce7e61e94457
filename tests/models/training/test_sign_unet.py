import numpy as np
import pytest
import torch

from tests.models.sample_images import as_tensor
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.errors import Cancelled
from unveil.models.core.run_context import RunContext
from unveil.models.data.sample import sample
from unveil.models.networks import sign_unet
from unveil.models.tools.train_sign_unet import evaluate, save_weights
from unveil.models.training import loop
from unveil.models.training.sign_unet import augment, losses, train_sign_unet

IMAGES = np.ascontiguousarray(sample().train[:8, :32, :32])


def test_certain_and_right_logits_have_no_loss():
    plain = as_tensor(sample().test[:2])
    magnitudes = sign_unet.sorted_magnitudes(plain)
    right = sign_unet.candidate_values(magnitudes).unsqueeze(1) == (plain.float() - 127.5).unsqueeze(2)
    nll, dissimilarity = losses(right.float() * 100, magnitudes, plain)
    assert nll.item() < 1e-4
    assert dissimilarity.item() < 1e-4


def test_augmentation_changes_images_and_never_inverts_them():
    plain = as_tensor(sample().train[:32])
    new = augment(plain, torch.Generator().manual_seed(0))
    assert new.dtype == torch.uint8
    assert new.shape == plain.shape
    assert not torch.equal(new, plain)
    grey, new_grey = plain.float().mean((1, 2, 3)), new.float().mean((1, 2, 3))
    assert torch.corrcoef(torch.stack([grey, new_grey]))[0, 1] > 0.5


def test_a_few_steps_of_training_lower_the_loss():
    logged: dict[str, list[float]] = {}
    context = RunContext(metric=lambda name, _, value: logged.setdefault(name, []).append(value))
    train_sign_unet(np.ascontiguousarray(sample().train[:8, :48, :48]), 40, 8, 1.2e-3, context)
    assert {"nll", "ssim"} <= set(logged)
    assert logged["nll"][-1] < 1.28  # untrained: 1.3


def test_an_interrupted_training_continues_to_the_same_weights(tmp_path, monkeypatch):
    straight = train_sign_unet(IMAGES, 3, 4, 1.2e-3, RunContext())
    monkeypatch.setattr(loop, "CHECKPOINT_INTERVAL_SECONDS", 0)
    monkeypatch.setattr(loop, "CANCEL_CHECK_SECONDS", 0)
    store = DirectoryStore(tmp_path)

    def stop(fraction, _phase):
        if fraction > 0.5:
            raise Cancelled

    with pytest.raises(Cancelled):
        train_sign_unet(IMAGES, 3, 4, 1.2e-3, RunContext(checkpoints=store, report=stop))
    resumed = train_sign_unet(IMAGES, 3, 4, 1.2e-3, RunContext(checkpoints=store))
    assert all(torch.equal(resumed.state_dict()[name], value) for name, value in straight.state_dict().items())


def test_a_training_from_given_weights_leaves_these_alone_and_is_another_run(tmp_path):
    initial = sign_unet.load_network()
    before = {name: value.clone() for name, value in initial.state_dict().items()}
    context = RunContext(checkpoints=DirectoryStore(tmp_path))
    scratch = train_sign_unet(IMAGES, 1, 8, 1e-3, context)
    tuned = train_sign_unet(IMAGES, 1, 8, 1e-3, context, initial)
    assert all(torch.equal(value, before[name]) for name, value in initial.state_dict().items())
    assert not torch.equal(tuned.head.weight, scratch.head.weight)


def test_evaluation_scores_both_read_outs_and_weights_read_back(tmp_path):
    network = train_sign_unet(IMAGES, 1, 8, 1e-3, RunContext())
    scores = evaluate(network, sample().test[:4])
    assert set(scores) == {"expected", "likeliest"}
    assert all(-1 <= value <= 1 for value in scores.values())
    save_weights(network, tmp_path / "weights.safetensors", {"what": "test"})
    again = sign_unet.load_network(tmp_path / "weights.safetensors")
    assert torch.allclose(again.head.weight, network.head.weight, atol=1e-3)
