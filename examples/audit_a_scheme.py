# %% [markdown]
# # Auditing an image scheme without the service
#
# A notebook of `# %%` cells: open it in an editor that supports them, or run `python examples/audit_a_scheme.py`. It
# uses `unveil.models` alone: no service, no database, no network. Images are written to the folder `audited/`.

# %%
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack, AttackInput, AttackResult
from unveil.models.attacks.fr import feature_reconstruction
from unveil.models.attacks.key_recovery import recover_map
from unveil.models.catalog import make_attack, make_scheme
from unveil.models.core import keystream
from unveil.models.core.images import Images, to_png
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import ThreatModel
from unveil.models.data.sample import sample
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.metrics.gallery import build_gallery
from unveil.models.metrics.matching import match
from unveil.models.metrics.ssim import ssim
from unveil.models.schemes.base import Scheme, new_secret

OUT = Path("audited")
OUT.mkdir(exist_ok=True)


def save_images(name: str, *rows: Images) -> None:
    """Write one PNG with a row of images for each batch."""
    sheet = np.concatenate([np.concatenate(list(row[:8]), axis=1) for row in rows])
    (OUT / f"{name}.png").write_bytes(to_png(sheet))


# %% [markdown]
# ## Photographs and their ciphertexts
#
# Images are uint8 arrays `[N, H, W, 3]` everywhere. The dataset `sample` is bundled: tiles of a few photographs, enough
# for a demonstration and too few for quotable figures.

# %%
data = sample()
plain, other_images = data.test, data.train
tanaka = make_scheme("tanaka", {})
secret = new_secret()  # 256 random bits, which expand to the key of an image size
protected = tanaka.protect(plain, secret)
assert np.array_equal(tanaka.decrypt(protected, tanaka.key(secret, *plain.shape[1:3])), plain)
print(f"{len(plain)} photographs; key space 2^{tanaka.key_space_bits(96, 96):.1f}")

# %% [markdown]
# ## Scores without an attack
#
# The SSIM of the ciphertexts is near 0. Identification, which searches the gallery for the photograph most similar to a
# ciphertext, nevertheless finds leaks.


# %%
gallery = build_gallery(plain)


def report_similarity(name: str, reconstructed: Images) -> None:
    best = max(match(reconstructed, plain, gallery).scores, key=lambda scores: scores.hits)
    print(
        f"{name:<28} SSIM {ssim(plain, reconstructed).mean():6.3f}   "
        f"identified {best.hits / len(plain):4.0%} of {len(plain)} by {best.name}"
    )


report_similarity("unattacked ciphertexts", protected)
report_similarity("feature reconstruction", feature_reconstruction(protected))

# %% [markdown]
# ## Key recovery
#
# The attacker holds ciphertexts of other photographs under the same key, and public statistics of natural images.

# %%
for count in (1, 2, 5, 16):
    observed = tanaka.protect(other_images[:count], secret)
    found, _ = recover_map(tanaka.structure, observed, np.concatenate([protected, observed]), seed=0)
    report_similarity(f"key from {count} ciphertexts", found.decrypt(protected))
agreement = tanaka.key_agreement(tanaka.key_from_map(found), tanaka.key(secret, 96, 96))
print("agreement with the true key:", agreement)
save_images("tanaka", plain, protected, feature_reconstruction(protected), found.decrypt(protected))

# %% [markdown]
# ## A complete cell
#
# `run_cell` draws keys, gives the attack only the input that its threat model allows, runs two controls (the attack
# must reconstruct inverted images and must recover nothing from noise) and returns a verdict, as in the service.

# %%
options = ScoringOptions(seed=0, keys=2, samples=4, profile="smoke")


def audit(scheme: Scheme[Any, Any], attack: Attack[Any]) -> str:
    result = run_cell(scheme, attack, data, options, RunContext()).result
    failed = ", ".join(result.failed_controls) or "none"
    figures = f"SSIM {result.ssim.mean:.3f}, failed controls: {failed}, " if result.ssim else ""
    print(f"{scheme.name} under {attack.name} ({attack.threat_model.name}): {figures}{result.verdict}")
    return result.verdict


audit(tanaka, make_attack("fr", {}))
audit(tanaka, make_attack("key-recovery", {"ciphertexts": 5, "curve": False}))

# %% [markdown]
# ## A new scheme
#
# The scheme adds a secret byte to each byte, the same for all images: a one-time pad used many times, with a key space
# of 2^221184. The same class in a file of `models/schemes/` appears in the API, the command line and the dashboard.


# %%
@dataclass(frozen=True)
class NoSettings:
    pass


@dataclass(frozen=True)
class Pad:
    """noise: uint8 [H, W, 3], added to every image."""

    noise: Images


class ReusedPad(Scheme[NoSettings, Pad]):
    name, title, source, Settings = "reused-pad", "A pad for all images", "this notebook", NoSettings

    def key_space_bits(self, height: int, width: int) -> float:
        return 8.0 * height * width * 3

    def derive(self, seed: bytes, height: int, width: int) -> Pad:
        keystream_bytes = keystream.keystream_bytes(seed, f"reused-pad/{width}x{height}", height * width * 3)
        return Pad(np.frombuffer(keystream_bytes, np.uint8).reshape(height, width, 3))

    def encrypt(self, images: Images, key: Pad) -> Images:
        return images + key.noise

    def decrypt(self, images: Images, key: Pad) -> Images:
        return images - key.noise

    def key_to_json(self, key: Pad) -> dict[str, Any]:
        return {"noise": key.noise.tolist()}

    def key_from_json(self, material: Mapping[str, Any]) -> Pad:
        return Pad(np.array(material["noise"], np.uint8))


pad = ReusedPad(NoSettings())
audit(pad, make_attack("none", {}))
audit(pad, make_attack("fr", {}))

# %% [markdown]
# Attacks on other schemes find nothing. `smoke` scores 32 images, too few to exclude a leak: the verdict is
# `inconclusive`. An attack on this scheme needs a single pair.


# %%
class OnePair(Attack[NoSettings]):
    name, title, source, Settings = "one-pair", "The pad from one pair", "this notebook", NoSettings
    threat_model = ThreatModel.KNOWN_PLAINTEXT

    def required_ciphertexts(self) -> int:
        return 1

    def run(self, attack_input: AttackInput, context: RunContext) -> AttackResult:  # noqa: ARG002 - too fast for progress
        assert attack_input.pairs is not None
        noise = attack_input.pairs.protected[0] - attack_input.pairs.plain[0]
        return AttackResult(attack_input.targets - noise, key=Pad(noise), metrics={"pairs": 1.0})


verdict = audit(pad, OnePair(NoSettings()))
ciphertexts = pad.protect(plain, secret)
noise = pad.protect(other_images[:1], secret)[0] - other_images[0]
save_images("reused-pad", plain, ciphertexts, ciphertexts - noise)

# %% [markdown]
# A large key space bounds exhaustive search only. Other attacks need far less.
