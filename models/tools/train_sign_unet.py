"""Train the sign U-Net on public images:

    python -m unveil.models.tools.train_sign_unet --images train_X.bin --out sign_unet.safetensors --epochs 17

The images are STL-10's binary layout (uint8 [N, 3, 96, 96], column-major) or an .npy file of [N, H, W, 3]. The network
reads what no key changes, so every image is a training pair. A second call with the same arguments continues from the
checkpoint beside --out.

The bundled weights come from the same objective, augmentation and optimizer in a loop that stopped by the clock; their
metadata holds that command.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.images import Images
from unveil.models.core.run_context import RunContext
from unveil.models.data.stl10_binary import read_stl10_images
from unveil.models.metrics.ssim_loss import ssim_rgb7
from unveil.models.networks.sign_unet import (
    SignUNet,
    load_network,
    map_image,
    posterior_mean_image,
    sorted_magnitudes,
)
from unveil.models.training.sign_unet import train_sign_unet


@torch.inference_mode()
def evaluate(network: SignUNet, images: Images) -> dict[str, float]:
    """The mean SSIM of both read-outs on images uint8 [N, H, W, 3] that the network was not trained on."""
    posterior_mean, likeliest = [], []
    for plain in torch.split(torch.from_numpy(images).permute(0, 3, 1, 2).float(), 50):
        m = sorted_magnitudes(plain)
        logits = (network(m).log_softmax(2) + network(m.flip(3)).log_softmax(2).flip(4)) / 2
        posterior_mean.append(ssim_rgb7(posterior_mean_image(logits, m).round(), plain))
        likeliest.append(ssim_rgb7(map_image(logits, m).round(), plain))
    return {"expected": torch.cat(posterior_mean).mean().item(), "likeliest": torch.cat(likeliest).mean().item()}


def save_weights(network: SignUNet, path: Path, provenance: dict[str, str]) -> None:
    """Write float16 weights: half the size at the same SSIM."""
    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file({k: v.half().contiguous().cpu() for k, v in state.items()}, path, provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="STL-10's train_X.bin or an .npy file")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--epochs", type=int, default=17)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1.2e-3)
    parser.add_argument("--start", type=Path, help="weights to continue from")
    parser.add_argument("--validation", type=int, default=200, help="number of images held out at the end of the file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    images = np.load(args.images) if args.images.suffix == ".npy" else read_stl10_images(args.images)
    public, validation = images[: -args.validation], images[-args.validation :]
    started_at = time.monotonic()

    def report(_: float, phase: str) -> None:
        print(f"\r{phase:<60}", end="", file=sys.stderr, flush=True)

    context = RunContext(args.seed, args.device, DirectoryStore(args.out.parent), report)
    initial_network = load_network(args.start) if args.start else None
    network = train_sign_unet(public, args.epochs, args.batch, args.rate, context, initial_network)
    provenance = {
        "what": "SignUNet, float16",
        "photographs": f"{len(public)} of {args.images.name}",
        "command": "python -m unveil.models.tools.train_sign_unet " + " ".join(sys.argv[1:]),
        "steps": str(args.epochs * max(1, len(public) // args.batch)),
        "epochs": str(args.epochs),
        "seconds": f"{time.monotonic() - started_at:.0f}",
        "date": datetime.now(UTC).date().isoformat(),
        "held_out": json.dumps({"images": len(validation), "ssim_rgb7": evaluate(network.cpu(), validation)}),
    }
    save_weights(network, args.out, provenance)
    print(json.dumps(provenance, indent=1))


if __name__ == "__main__":
    main()
