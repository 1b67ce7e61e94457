import torch

from tests.models.sample_images import as_tensor
from unveil.models.catalog import make_scheme, new_secret
from unveil.models.data.sample import sample
from unveil.models.networks import sign_unet


def test_sorted_magnitudes_are_what_no_key_changes():
    plain = sample().test[:2]
    protected = make_scheme("pixelwise", {"key_mode": "different"}).protect(plain, new_secret())
    magnitudes = sign_unet.sorted_magnitudes(as_tensor(plain))
    assert torch.equal(sign_unet.sorted_magnitudes(as_tensor(protected)), magnitudes)
    assert torch.equal(magnitudes, (as_tensor(plain).float() - 127.5).abs().sort(1, descending=True).values)


def test_certain_and_right_logits_give_the_plain_image_back():
    plain = as_tensor(sample().test[:2])
    magnitudes = sign_unet.sorted_magnitudes(plain)
    right = sign_unet.candidate_values(magnitudes).unsqueeze(1) == (plain.float() - 127.5).unsqueeze(2)
    logits = right.float() * 100
    assert torch.equal(sign_unet.map_image(logits, magnitudes).round(), plain.float())
    assert torch.equal(sign_unet.posterior_mean_image(logits, magnitudes).round(), plain.float())
