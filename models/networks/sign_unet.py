"""The sign U-Net: a probability for each of the six possible values of every channel of a different-key ciphertext.

Pixel-wise encryption with a new key for each image leaves one invariant of a pixel: the three magnitudes |p - 127.5|
without their order and signs. A channel of the plain image is therefore one of +-m1, +-m2, +-m3 away from mid-grey,
and reconstruction is a segmentation into six classes. The network cannot produce other values, so it does not blur as a
network that regresses RGB does [M].

Used by `unveil.models.attacks.simulated_pairs`; trained by `unveil.models.training.sign_unet`.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SHIPPED_WEIGHTS = Path(__file__).parents[1] / "weights" / "sign_unet.safetensors"
SIZE_MULTIPLE = 8  # three halvings by pixel unshuffles
CANDIDATE_COUNT = 6
# The exponent of the probabilities before the posterior mean: SSIM rewards contrast, which the plain mean lacks. 2 to 5
# perform equally; 1 loses 0.03 of SSIM, infinity (the most probable candidate) 0.015 [M].
SHARPNESS = 2.5


def sorted_magnitudes(images: Tensor) -> Tensor:
    """|p - 127.5| of each pixel, largest channel first: the values that pixel-wise encryption leaves unchanged.

    images: uint8 or float [N, 3, H, W] in 0..255 -> float32 of the same shape, in 0.5..127.5.
    """
    magnitudes = (images.float() - 127.5).abs()
    # A sorting network of three elements: torch.sort over a dimension of 3 is twenty times slower.
    a, b, c = magnitudes.unbind(1)
    a, b = torch.maximum(a, b), torch.minimum(a, b)
    b, c = torch.maximum(b, c), torch.minimum(b, c)
    a, b = torch.maximum(a, b), torch.minimum(a, b)
    return torch.stack([a, b, c], 1)


def candidate_values(magnitudes: Tensor) -> Tensor:
    """Sorted magnitudes [N, 3, H, W] -> the six candidates of p - 127.5, [N, 6, H, W]: +m1 +m2 +m3 -m1 -m2 -m3."""
    return torch.cat([magnitudes, -magnitudes], 1)


class ConvBlock(nn.Module):
    """Pre-activation residual block of two 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.middle = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.relu(self.middle(self.first(F.relu(self.norm(x))))))


class AttentionBlock(nn.Module):
    """Pre-norm transformer block over all coarse positions: a bright sky tells how dark a distant region is."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # A convolution, because a learned table of positions would fit one image size.
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x + self.position(x)
        tokens = x.flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm1(tokens)).view(n, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        if self.training:  # few tokens: plain products are three times faster on a CPU than the fused backward pass
            attended = (qkv[0] @ qkv[1].transpose(2, 3) * (c // self.heads) ** -0.5).softmax(3).to(qkv.dtype) @ qkv[2]
        else:  # large images: memory must not grow with the square of the area
            attended = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        tokens = tokens + self.out(attended.transpose(1, 2).reshape(n, h * w, c))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).reshape(n, c, h, w)


class SignUNet(nn.Module):
    """Residual U-Net at 1/2, 1/4 and 1/8 of the image's size, with attention at the coarsest.

    Input: sorted magnitudes, float [N, 3, H, W] in 0..127.5, H and W multiples of 8.
    Output: logits [N, 3, 6, H, W]: colour channel x candidate (see `candidate_values`).
    """

    def __init__(
        self,
        widths: tuple[int, int, int] = (64, 96, 160),
        blocks: tuple[int, int, int] = (1, 2, 1),
        attention: int = 3,
        heads: int = 5,
    ) -> None:
        super().__init__()
        fine, middle, coarse = widths
        # 12 unshuffled magnitudes, their extremes and the position, because skies are at the top.
        self.stem = nn.Conv2d(16, fine, 3, padding=1)
        self.fine_in = nn.Sequential(*[ConvBlock(fine) for _ in range(blocks[0])])
        # Unshuffle and 1x1 instead of a strided 2x2: the same function with a much faster backward pass on a CPU.
        self.down1 = nn.Conv2d(4 * fine, middle, 1)
        self.middle_in = nn.Sequential(*[ConvBlock(middle) for _ in range(blocks[1])])
        self.down2 = nn.Conv2d(4 * middle, coarse, 1)
        self.coarse = nn.Sequential(*[ConvBlock(coarse) for _ in range(blocks[2])])
        self.attention = nn.Sequential(*[AttentionBlock(coarse, heads) for _ in range(attention)])
        self.up2 = nn.Conv2d(coarse, middle, 1)
        self.middle_out = nn.Sequential(*[ConvBlock(middle) for _ in range(blocks[1])])
        self.up1 = nn.Conv2d(middle, fine, 1)
        self.fine_out = nn.Sequential(*[ConvBlock(fine) for _ in range(blocks[0])])
        self.norm = nn.BatchNorm2d(fine)
        self.head = nn.Conv2d(fine, 4 * 3 * CANDIDATE_COUNT, 1)

    def forward(self, magnitudes: Tensor) -> Tensor:
        n, _, height, width = magnitudes.shape
        y = torch.linspace(-1, 1, height // 2, device=magnitudes.device).view(1, 1, -1, 1)
        x = torch.linspace(-1, 1, width // 2, device=magnitudes.device).abs().view(1, 1, 1, -1)
        shape = (n, 1, height // 2, width // 2)
        local = F.pixel_unshuffle(magnitudes / 64 - 1, 2)
        brightest, darkest = local[:, :4].amax(1, keepdim=True), local[:, 8:].amin(1, keepdim=True)
        inputs = [local, brightest, darkest, y.expand(shape), x.expand(shape)]
        fine = self.fine_in(self.stem(torch.cat(inputs, 1).contiguous(memory_format=torch.channels_last)))
        middle = self.middle_in(self.down1(F.pixel_unshuffle(fine, 2)))
        coarse = self.attention(self.coarse(self.down2(F.pixel_unshuffle(middle, 2))))
        middle = self.middle_out(middle + F.interpolate(self.up2(coarse), scale_factor=2.0, mode="nearest"))
        fine = self.fine_out(fine + F.interpolate(self.up1(middle), scale_factor=2.0, mode="nearest"))
        logits = F.pixel_shuffle(self.head(F.relu(self.norm(fine))), 2)
        return logits.view(n, 3, CANDIDATE_COUNT, height, width)


def posterior_mean_image(logits: Tensor, magnitudes: Tensor) -> Tensor:
    """Posterior mean, sharpened: logits [N, 3, 6, H, W], magnitudes [N, 3, H, W] -> [N, 3, H, W] in 0..255."""
    values = candidate_values(magnitudes).unsqueeze(1)
    return 127.5 + ((logits.float() * SHARPNESS).softmax(2) * values).sum(2)


def map_image(logits: Tensor, magnitudes: Tensor) -> Tensor:
    """The most probable candidate of each channel (MAP); shapes as in `posterior_mean_image`."""
    values = candidate_values(magnitudes).unsqueeze(1).expand(-1, 3, -1, -1, -1)
    return 127.5 + values.gather(2, logits.argmax(2, keepdim=True)).squeeze(2)


def load_network(path: Path = SHIPPED_WEIGHTS, device: str = "cpu") -> SignUNet:
    """The sign U-Net with stored weights, in eval mode."""
    from safetensors.torch import load_file

    network = SignUNet()
    network.load_state_dict({name: value.float() for name, value in load_file(path).items()}, strict=False)
    return network.to(device).eval()
