"""Weights of a network as bytes (safetensors: no code in them), with a few words about it."""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
from torch import nn

_METADATA_KEY = "about"


def dump(network: nn.Module, metadata: Mapping[str, str] | None = None, **extra_networks: nn.Module) -> bytes:
    """On the CPU, contiguous; the same networks give the same bytes. companions: further networks, by name."""
    networks = {"": network, **{f"{name}/": extra_network for name, extra_network in extra_networks.items()}}
    state = {
        prefix + name: value.cpu().contiguous()
        for prefix, module in networks.items()
        for name, value in module.state_dict().items()
    }
    return safetensors.torch.save(
        state, {_METADATA_KEY: json.dumps(dict(metadata or {}))}
    )  # several entries have no fixed order


def load_into(network: nn.Module, raw: bytes, extra_network: str = "") -> None:
    """Load what `dump` wrote, of a companion perhaps. Raises ValueError where these are no weights of this network."""
    try:
        entries = [(name.rpartition("/"), value) for name, value in safetensors.torch.load(raw).items()]
        network.load_state_dict({name: value for (owner, _, name), value in entries if owner == extra_network})
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise ValueError(f"these are no weights of {type(network).__name__}") from error


def read_metadata(raw: bytes) -> dict[str, str]:
    """The words beside the weights, read without loading them. Raises ValueError."""
    length = int.from_bytes(raw[:8], "little")
    try:
        metadata: dict[str, str] = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][_METADATA_KEY])
    except (ValueError, KeyError) as error:
        raise ValueError("these are no weights") from error
    return metadata
