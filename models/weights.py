"""Weights of a network as bytes (safetensors: no code in them), with a few words about it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
from torch import nn

_ABOUT = "about"


def dump(network: nn.Module, about: Mapping[str, str] | None = None) -> bytes:
    """On the CPU, contiguous; the same network gives the same bytes."""
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    return safetensors.torch.save(state, {_ABOUT: json.dumps(dict(about or {}))})  # several entries have no fixed order


def fill(network: nn.Module, raw: bytes) -> None:
    """Load what `dump` wrote. Raises ValueError where these are no weights of this network."""
    try:
        network.load_state_dict(safetensors.torch.load(raw))
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise ValueError(f"these are no weights of {type(network).__name__}") from error


def about(raw: bytes) -> dict[str, str]:
    """The words beside the weights, read without loading them. Raises ValueError."""
    length = int.from_bytes(raw[:8], "little")
    try:
        words: dict[str, str] = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][_ABOUT])
    except (ValueError, KeyError) as error:
        raise ValueError("these are no weights") from error
    return words
