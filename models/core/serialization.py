"""Weights of a network as bytes (safetensors: no code in them), with a few words about it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
from torch import nn

_ABOUT = "about"


def dump(network: nn.Module, about: Mapping[str, str] | None = None, **companions: nn.Module) -> bytes:
    """On the CPU, contiguous; the same networks give the same bytes. companions: further networks, by name."""
    networks = {"": network, **{f"{name}/": companion for name, companion in companions.items()}}
    state = {
        prefix + name: value.cpu().contiguous()
        for prefix, each in networks.items()
        for name, value in each.state_dict().items()
    }
    return safetensors.torch.save(state, {_ABOUT: json.dumps(dict(about or {}))})  # several entries have no fixed order


def fill(network: nn.Module, raw: bytes, companion: str = "") -> None:
    """Load what `dump` wrote, of a companion perhaps. Raises ValueError where these are no weights of this network."""
    try:
        named = [(name.rpartition("/"), value) for name, value in safetensors.torch.load(raw).items()]
        network.load_state_dict({name: value for (owner, _, name), value in named if owner == companion})
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
