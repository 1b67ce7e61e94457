"""Train the sign network on public photographs.

    python -m models.networks.train_sign_unet --photographs train_X.bin --out sign_unet.safetensors --limit-seconds 3000

The photographs are STL-10's binary layout (uint8 [N, 3, 96, 96], columns first) or an .npy of [N, H, W, 3]. The
network's input is what survives any key, so a training pair costs nothing but a photograph. Stops at --steps or
--limit-seconds, whichever comes first; the learning rate follows the same clock. Started again, it continues from the
checkpoint beside --out.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unveil.models.core import checkpoints
from unveil.models.metrics.ssim_loss import ssim_rgb7
from unveil.models.networks.sign_unet import (
    SignUNet,
    map_image,
    posterior_mean_image,
    sorted_magnitudes,
)
from unveil.models.training.sign_network import TrainSettings, train


def load_photographs(path: Path) -> Tensor:
    """-> uint8 [N, 3, H, W]."""
    if path.suffix == ".npy":
        return torch.from_numpy(np.load(path)).permute(0, 3, 1, 2).contiguous()
    raw = np.fromfile(path, np.uint8).reshape(-1, 3, 96, 96)
    return torch.from_numpy(np.ascontiguousarray(raw.transpose(0, 1, 3, 2)))


@torch.inference_mode()
def evaluate(network: torch.nn.Module, photographs: Tensor, flips: bool = True) -> dict[str, float]:
    """Mean SSIM of the two read-outs on photographs that the network has not seen."""
    network.eval()
    soft, hard = [], []
    for batch in torch.split(photographs, 50):
        m = sorted_magnitudes(batch)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(m).float().log_softmax(2)
            if flips:
                logits = (logits + network(m.flip(3)).float().log_softmax(2).flip(4)) / 2
        soft.append(ssim_rgb7(posterior_mean_image(logits, m).round(), batch.float()))
        hard.append(ssim_rgb7(map_image(logits, m).round(), batch.float()))
    network.train()
    return {"expected": torch.cat(soft).mean().item(), "likeliest": torch.cat(hard).mean().item()}


class AdaptiveThreads:
    """All threads on an idle machine, fewer beside others: each barrier waits for a thread pushed off its core."""

    def __init__(self, max_threads: int) -> None:
        self.max_threads, self.wall, self.idle = max_threads, time.monotonic(), self._idle_seconds()
        torch.set_num_threads(max_threads)

    @staticmethod
    def _idle_seconds() -> float:
        """Seconds of idleness and of our own work, summed over cores (Linux)."""
        fields = Path("/proc/stat").read_text().splitlines()[0].split()
        return (int(fields[4]) + int(fields[5])) / 100 + time.process_time()

    def adapt(self) -> None:
        wall, idle = time.monotonic(), self._idle_seconds()
        free = (idle - self.idle) / (wall - self.wall)
        torch.set_num_threads(max(1, min(self.max_threads, round(free - 0.2))))
        self.wall, self.idle = wall, idle


def save_weights(network: SignUNet, path: Path, provenance: dict[str, str]) -> None:
    """As float16, which halves the file and leaves the score."""
    from safetensors.torch import save_file

    state = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file({k: v.half().contiguous().cpu() for k, v in state.items()}, path, provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--limit-seconds", type=float, default=math.inf)
    parser.add_argument("--batch", type=int, default=TrainSettings.batch)
    parser.add_argument("--rate", type=float, default=TrainSettings.rate)
    parser.add_argument("--ssim-weight", type=float, default=TrainSettings.ssim_weight)
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--validation", type=int, default=200, help="photographs held out, from the end of the file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile the loss: faster on a CPU with a C++ compiler")
    options = parser.parse_args()
    settings = TrainSettings(
        options.steps, options.batch, options.rate, options.ssim_weight,
        seed=options.seed, limit_seconds=options.limit_seconds,
    )  # fmt: skip
    photographs = load_photographs(options.photographs)
    public, held_out = photographs[: -options.validation], photographs[-options.validation :]
    threads = AdaptiveThreads(options.threads)
    started_at = last = time.monotonic()
    steps_done = 0
    recent: list[tuple[float, float]] = []

    def on_log(_: int, nll: float, ssim: float) -> None:
        recent.append((nll, ssim))

    def on_step(step: int, average: SignUNet) -> None:
        nonlocal last, steps_done
        steps_done = step
        if step % 8 == 0:
            threads.adapt()
        now = time.monotonic()
        if now - last > 180 and recent:
            nll, ssim = np.mean(recent, 0)
            recent.clear()
            scores = evaluate(average, held_out)
            print(
                f"{now - started_at:.0f} s, step {step}: loss {nll:.4f}, SSIM {ssim:.4f}; held out {scores}", flush=True
            )
            last = now

    from unveil.models.networks.sign_unet import load_network

    network = train(
        public,
        settings,
        initial_network=load_network(options.start) if options.start else None,
        device=options.device,
        store=checkpoints.DirectoryStore(options.out.parent),
        name=f"{options.out.stem}.ckpt",
        compiled=options.compile,
        tell=on_log,
        on_step=on_step,
    )
    provenance = {
        "what": "SignUNet, float16",
        "photographs": f"{len(public)} of {options.photographs.name}",
        "command": "python -m unveil.models.tools.train_sign_unet " + " ".join(sys.argv[1:]),
        "steps": str(steps_done),
        "epochs": f"{steps_done * settings.batch / len(public):.1f}",
        "seconds": f"{time.monotonic() - started_at:.0f}",
        "date": datetime.now(UTC).date().isoformat(),
        "held_out": json.dumps({"images": len(held_out), "ssim_rgb7": evaluate(network, held_out)}),
    }
    save_weights(network, options.out, provenance)
    print(json.dumps(provenance, indent=1))


if __name__ == "__main__":
    main()
