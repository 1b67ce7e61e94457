"""Network weights and metadata as bytes, in the safetensors format, which contains no code."""

from __future__ import annotations

import json
from collections.abc import Mapping

import safetensors.torch
from torch import nn

_METADATA_KEY = "about"


def dump(network: nn.Module, metadata: Mapping[str, str] | None = None, **extra_networks: nn.Module) -> bytes:
    """Serialize the weights of a network; equal networks give equal bytes.

    extra_networks: further networks by name, stored in the same bytes.
    """
    networks = {"": network, **{f"{name}/": extra_network for name, extra_network in extra_networks.items()}}
    state = {
        prefix + name: value.cpu().contiguous()
        for prefix, module in networks.items()
        for name, value in module.state_dict().items()
    }
    # One entry of JSON: safetensors does not fix the order of several entries.
    return safetensors.torch.save(state, {_METADATA_KEY: json.dumps(dict(metadata or {}))})


def load_into(network: nn.Module, raw: bytes, extra_network: str = "") -> None:
    """Load the weights that `dump` wrote, or those of one extra network. Raises ValueError for other weights."""
    try:
        entries = [(name.rpartition("/"), value) for name, value in safetensors.torch.load(raw).items()]
        network.load_state_dict({name: value for (owner, _, name), value in entries if owner == extra_network})
    except (safetensors.SafetensorError, RuntimeError) as error:
        raise ValueError(f"these bytes are not weights of {type(network).__name__}") from error


def read_metadata(raw: bytes) -> dict[str, str]:
    """The metadata, read without loading the weights. Raises ValueError for other bytes."""
    length = int.from_bytes(raw[:8], "little")
    try:
        metadata: dict[str, str] = json.loads(json.loads(raw[8 : 8 + length])["__metadata__"][_METADATA_KEY])
    except (ValueError, KeyError) as error:
        raise ValueError("these bytes are not network weights") from error
    return metadata
