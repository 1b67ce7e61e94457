import pytest
import torch

from unveil.models.catalog import make_scheme, new_secret
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.data.sample import sample
from unveil.models.networks import sign_unet
from unveil.models.tools.train_sign_unet import evaluate
from unveil.models.training.sign_network import TrainSettings, augment, losses, train


def _tensor(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def test_sorted_magnitudes_are_what_no_key_changes():
    plain = sample().test[:2]
    protected = make_scheme("pixelwise", {"key_mode": "different"}).protect(plain, new_secret())
    magnitudes = sign_unet.sorted_magnitudes(_tensor(plain))
    assert torch.equal(sign_unet.sorted_magnitudes(_tensor(protected)), magnitudes)
    assert torch.equal(magnitudes, (_tensor(plain).float() - 127.5).abs().sort(1, descending=True).values)


def test_certain_and_right_logits_give_the_plain_image_back_and_no_loss():
    plain = _tensor(sample().test[:2])
    magnitudes = sign_unet.sorted_magnitudes(plain)
    right = sign_unet.candidate_values(magnitudes).unsqueeze(1) == (plain.float() - 127.5).unsqueeze(2)
    logits = right.float() * 100
    assert torch.equal(sign_unet.map_image(logits, magnitudes).round(), plain.float())
    assert torch.equal(sign_unet.posterior_mean_image(logits, magnitudes).round(), plain.float())
    nll, unlike = losses(logits, magnitudes, plain)
    assert nll.item() < 1e-4
    assert unlike.item() < 1e-4


def test_augmentation_makes_new_photographs_and_never_the_negative():
    plain = _tensor(sample().train[:32])
    new = augment(plain, torch.Generator().manual_seed(0))
    assert new.dtype == torch.uint8
    assert new.shape == plain.shape
    assert not torch.equal(new, plain)
    grey, new_grey = plain.float().mean((1, 2, 3)), new.float().mean((1, 2, 3))
    assert torch.corrcoef(torch.stack([grey, new_grey]))[0, 1] > 0.5


def test_a_few_steps_of_training_lower_the_loss():
    photographs = _tensor(sample().train[:8, :48, :48])
    losses_reported = []
    train(photographs, TrainSettings(steps=40, batch=8), tell=lambda step, nll, ssim: losses_reported.append(nll))
    assert losses_reported[-1] < 1.28  # untrained: 1.3


def test_an_interrupted_training_continues_to_the_same_weights(tmp_path, monkeypatch):
    photographs = _tensor(sample().train[:8, :32, :32])
    settings = TrainSettings(steps=6, batch=4)
    straight = train(photographs, settings)

    monkeypatch.setattr("unveil.models.training.sign_network.CHECKPOINT_INTERVAL_SECONDS", 0)
    store = DirectoryStore(tmp_path)

    def stop(step, _average):
        if step == 4:  # the checkpoint on disk is of step 3
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(photographs, settings, store=store, on_step=stop)
    resumed = train(photographs, settings, store=store)
    for name, value in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    others = train(photographs.flip(0), settings, store=store)
    anew = train(photographs.flip(0), settings)
    assert all(torch.equal(others.state_dict()[name], value) for name, value in anew.state_dict().items())


def test_evaluation_scores_both_read_outs():
    photographs = _tensor(sample().test[:4])
    scores = evaluate(sign_unet.SignUNet(), photographs)
    assert set(scores) == {"expected", "likeliest"}
    assert all(-1 <= value <= 1 for value in scores.values())
