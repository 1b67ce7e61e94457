"""Settings of schemes and attacks that make small keys and short jobs."""

from __future__ import annotations

from typing import Any

SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "pixelwise-same": ("pixelwise", {"key_mode": "same"}),
    "pixelwise-different": ("pixelwise", {"key_mode": "different"}),
    "tanaka-paper": ("tanaka", {"variant": "paper"}),
    "tanaka-icce2018": ("tanaka", {"variant": "icce2018"}),
    "ele": ("ele", {}),
    "etc": ("etc", {}),
}
# The smallest networks that the settings allow. bfloat16 depends on the processor, so every training is in float32.
TN_MODEL: dict[str, Any] = {
    "width": 1, "epochs": 2, "batch": 8, "classifier_width": 1, "classifier_epochs": 2, "classifier_batch": 8,
    "classifier_shrink": 1, "precision": "fp32",
}  # fmt: skip
TN_GAN: dict[str, Any] = {"width": 1, "blocks": 1, "discriminator": 1, "epochs": 1, "batch": 8, "precision": "fp32"}
ITN: dict[str, Any] = {"name": "itn", "epochs": 2, "batch": 8, "channels": 1, "width": 1, "precision": "fp32"}
GAN: dict[str, Any] = {"name": "gan", "epochs": 1, "batch": 8, "width": 1, "discriminator": 1, "precision": "fp32"}
UNTRAINED_ATTACKS: list[dict[str, Any]] = [
    {"name": "none"}, {"name": "fr"}, {"name": "fr", "L": 4, "b": 1, "nibblewise": True}, {"name": "fr-sorted"},
    {"name": "brute-force"}, {"name": "key-recovery", "ciphertexts": 8}, {"name": "known-plaintext", "pairs": 2},
    {"name": "chosen-plaintext"},
]  # fmt: skip
LONG_ITN = {**ITN, "epochs": 40, "rate": 0.01}  # some 10 s, and as much for each of two controls
LONG_TN_GAN = {**TN_GAN, "epochs": 120}  # some 20 s
