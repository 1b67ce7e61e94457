"""What schemes and attacks are called: `label` in files, `title` in front of people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from models import catalog

_KEY_MODES = {"same": "same key", "different": "different keys"}
NOT_SETTINGS = ("name", "added", "key_id", "dataset")


def label(entry: Mapping[str, Any], profile: catalog.Profile = "paper") -> str:
    """A scheme or attack with the settings that differ from the profile's: `tanaka (icce2018)`."""
    return _with(entry["name"], _told(entry, profile))


def title(entry: Mapping[str, Any], profile: catalog.Profile = "paper") -> str:
    """The same for people, under the paper's name where it has one: `Tanaka's scheme (icce2018)`."""
    if entry["name"] == catalog.EXTERNAL:
        return _with("Uploaded images", _told(entry, profile))
    known: Mapping[str, Any] = catalog.schemes() if entry["name"] in catalog.schemes() else catalog.attacks()
    cls = known[entry["name"]]
    return _with(
        cls.title if entry["name"] in catalog.schemes() else cls.paper_name or cls.title, _told(entry, profile)
    )


def _with(name: str, told: list[str]) -> str:
    return f"{name} ({', '.join(told)})" if told else name


def _told(entry: Mapping[str, Any], profile: catalog.Profile) -> list[str]:
    name = entry["name"]
    if name == catalog.EXTERNAL:
        return [str(entry["dataset"])]
    make = catalog.make_scheme if name in catalog.schemes() else catalog.make_attack
    usual = catalog.settings_of(make(name, {}, profile))
    told = []
    for setting, value in entry.items():
        if setting == "key_mode":  # the paper's two rows
            told.append(_KEY_MODES[value])
        elif setting not in NOT_SETTINGS and value != usual.get(setting):
            told.append(value if isinstance(value, str) else f"{setting}={json.dumps(value)}")
    if "key_id" in entry:
        told.append(f"key …{entry['key_id'][-6:]}")
    return told
