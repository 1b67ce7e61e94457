"""Train the sign network on public photographs: `python -m models.networks.train_sign_unet --photographs FILE --out FILE`.

The photographs are STL-10's binary layout (uint8 [N, 3, 96, 96], columns first) or an .npy of [N, H, W, 3]. Keys are random
and the network's input is what survives any key, so a training pair costs nothing but a photograph.
Stops at --steps or --limit-seconds, whichever comes first; the learning rate follows the same clock. Resumes from OUT.ckpt.
"""

import argparse
import copy
import json
import math
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.networks.sign_unet import SignUNet, candidate_values, expected_image, likeliest_image, sorted_magnitudes

TAU = 8.0  # grey levels: a candidate this near to the truth is nearly as good as the truth


def load_photographs(path: Path) -> Tensor:
    """-> uint8 [N, 3, H, W]."""
    if path.suffix == ".npy":
        return torch.from_numpy(np.load(path)).permute(0, 3, 1, 2).contiguous()
    raw = np.fromfile(path, np.uint8).reshape(-1, 3, 96, 96)
    return torch.from_numpy(np.ascontiguousarray(raw.transpose(0, 1, 3, 2)))


def augment(photographs: Tensor, generator: torch.Generator) -> Tensor:
    """New photographs from old: flip, zoom, contrast, gamma, tint. uint8 [N, 3, H, W] -> the same.

    Contrast and brightness matter most: they move mid-grey, where all signs turn. Never the negative: it has the same
    magnitudes, so it would teach that nothing can be known.
    """
    n = len(photographs)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    def some(probability: float) -> Tensor:
        return (torch.rand(n, generator=generator) < probability).float()

    zoomed = some(0.6)
    scale = 1 - zoomed * uniform(0, 0.42)
    stretch = torch.exp(zoomed * uniform(-0.12, 0.12))
    theta = torch.zeros(n, 2, 3)
    theta[:, 0, 0] = (scale * stretch).clamp(max=1) * (1 - 2 * some(0.5))
    theta[:, 1, 1] = (scale / stretch).clamp(max=1)
    theta[:, 0, 2] = uniform(-1, 1) * (1 - theta[:, 0, 0].abs())
    theta[:, 1, 2] = uniform(-1, 1) * (1 - theta[:, 1, 1])
    grid = F.affine_grid(theta, list(photographs.shape), align_corners=False)
    x = F.grid_sample(photographs.float() / 255, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    on = some(0.6).view(n, 1, 1, 1)
    gamma = torch.exp(on * (torch.randn(n, 1, 1, 1, generator=generator) * 0.22
                            + torch.randn(n, 3, 1, 1, generator=generator) * 0.05))
    gain = 1 + on * uniform(-0.2, 0.15, 1, 1, 1)
    shift = on * uniform(-0.08, 0.08, 1, 1, 1)
    x = x.clamp(min=1e-4) ** gamma
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (1 + on * uniform(-0.5, 0.3, 1, 1, 1))
    x = ((x - 0.5) * gain + 0.5 + shift).clamp(0, 1)
    return (x * 255).round().to(torch.uint8)


def box7(x: Tensor) -> Tensor:
    """Mean over each full 7x7 window."""
    return F.avg_pool2d(F.avg_pool2d(x, (7, 1), stride=1), (1, 7), stride=1)


def ssim_rgb7(x: Tensor, y: Tensor) -> Tensor:
    """SSIM as scikit-image's rgb7 (SCIENCE section 5), differentiable: float [N, 3, H, W] in 0..255 -> [N]."""
    x, y = x - 127.5, y - 127.5  # float32 keeps variances only near zero mean
    n = len(x)
    means = box7(torch.cat([x, y, x * x, y * y, x * y]))
    mx, my, xx, yy, xy = means.split(n)
    vx, vy, vxy = (xx - mx * mx) * (49 / 48), (yy - my * my) * (49 / 48), (xy - mx * my) * (49 / 48)
    mx, my = mx + 127.5, my + 127.5
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    value = (2 * mx * my + c1) * (2 * vxy + c2) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return value.mean((1, 2, 3))


def losses(logits: Tensor, magnitudes: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
    """(-log likelihood, 1 - SSIM of the expected image).

    The likelihood is a mixture of six Laplace densities of scale TAU at the candidates: a wrong sign costs in proportion to
    its certainty, and costs nothing near mid-grey or between equal magnitudes, where it cannot be seen.
    """
    logits = logits.float()
    values = candidate_values(magnitudes).unsqueeze(1)
    distance = (values - (plain.float() - 127.5).unsqueeze(2)).abs()
    log_p = logits.log_softmax(2)
    nll = -(log_p - distance / TAU).logsumexp(2).mean()
    expected = 127.5 + (log_p.exp() * values).sum(2)
    return nll, 1 - ssim_rgb7(expected, plain.float()).mean()


@torch.inference_mode()
def evaluate(network: torch.nn.Module, photographs: Tensor, flips: bool = True) -> dict[str, float]:
    """Mean SSIM of the two read-outs on photographs that the network has not seen."""
    network.eval()
    soft, hard = [], []
    for batch in photographs.split(50):
        m = sorted_magnitudes(batch)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(m).float().log_softmax(2)
            if flips:
                logits = (logits + network(m.flip(3)).float().log_softmax(2).flip(4)) / 2
        soft.append(ssim_rgb7(expected_image(logits, m).round(), batch.float()))
        hard.append(ssim_rgb7(likeliest_image(logits, m).round(), batch.float()))
    network.train()
    return {"expected": torch.cat(soft).mean().item(), "likeliest": torch.cat(hard).mean().item()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--limit-seconds", type=float, default=math.inf)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--ssim-weight", type=float, default=1.0)
    parser.add_argument("--validation", type=int, default=200, help="photographs held out, from the end of the file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="torch.compile: about twice as fast on a CPU with a C++ compiler")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    photographs = load_photographs(options.photographs)
    train, held_out = photographs[:-options.validation], photographs[-options.validation:]

    network = SignUNet().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    decay = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
                                  lr=options.rate, betas=(0.9, 0.99), fused=True)
    step, spent = 0, 0.0
    checkpoint = options.out.with_suffix(".ckpt")
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        step, spent = state["step"], state["spent"]

    forward = torch.compile(network) if options.compile else network
    loss_of = torch.compile(losses) if options.compile else losses
    started, shown, saved = time.monotonic() - spent, time.monotonic(), time.monotonic()
    totals = np.zeros(3)
    while True:
        progress = max(step / options.steps, (time.monotonic() - started) / options.limit_seconds)
        if progress >= 1:
            break
        warm = min(1.0, progress / 0.06)
        rate = options.rate * warm * (0.5 + 0.5 * math.cos(math.pi * max(0.0, progress - 0.06) / 0.94)) + 1e-6
        for group in optimiser.param_groups:
            group["lr"] = rate

        chosen = torch.randint(len(train), (options.batch,), generator=generator)
        plain = augment(train[chosen], generator)
        magnitudes = sorted_magnitudes(plain)
        with torch.autocast("cpu", torch.bfloat16):
            logits = forward(magnitudes)
        nll, unlike = loss_of(logits, magnitudes, plain)
        optimiser.zero_grad(set_to_none=True)
        (nll + options.ssim_weight * unlike).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        with torch.no_grad():
            keep = min(0.998, step / (step + 10))
            for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(now, 1 - keep)
        totals += [1, nll.item(), 1 - unlike.item()]

        now = time.monotonic()
        if now - shown > 60:
            print(f"{now - started:6.0f} s step {step} ({totals[0] * options.batch / (now - shown):.0f} images/s) "
                  f"nll {totals[1] / totals[0]:.4f} ssim {totals[2] / totals[0]:.4f} rate {rate:.5f}", flush=True)
            totals[:] = 0
            if now - saved > 240:
                print(f"        validation {evaluate(average, held_out)}", flush=True)
                torch.save({"network": network.state_dict(), "average": average.state_dict(), "step": step,
                            "optimiser": optimiser.state_dict(), "generator": generator.get_state(),
                            "spent": time.monotonic() - started}, checkpoint.with_suffix(".tmp"))
                checkpoint.with_suffix(".tmp").rename(checkpoint)
                saved = time.monotonic()
            shown = time.monotonic()

    from safetensors.torch import save_file

    scores = evaluate(average, held_out)
    provenance = {
        "what": "SignUNet weights, float16", "photographs": f"{len(train)} of {options.photographs.name}",
        "command": f"python -m models.networks.train_sign_unet --steps {options.steps} --limit-seconds {options.limit_seconds} "
                   f"--batch {options.batch} --rate {options.rate} --ssim-weight {options.ssim_weight} --seed {options.seed}",
        "steps": str(step), "epochs": f"{step * options.batch / len(train):.1f}",
        "seconds": f"{time.monotonic() - started:.0f}", "date": datetime.now(UTC).date().isoformat(),
        "validation": json.dumps({"images": len(held_out), "ssim_rgb7": scores}),
    }
    half = {k: v.half().contiguous() if v.is_floating_point() else v for k, v in average.state_dict().items()
            if not k.endswith("num_batches_tracked")}
    save_file(half, options.out, provenance)
    print(json.dumps(provenance, indent=1))


if __name__ == "__main__":
    main()
