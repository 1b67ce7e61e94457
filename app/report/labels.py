"""What schemes and attacks are called: `label` in files, `title` in front of people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from unveil.models import catalog

_KEY_MODES = {"same": "same key", "different": "different keys"}
NOT_SETTINGS = ("name", "added", "key_id", "dataset", "dataset_name")


def label(entry: Mapping[str, Any], profile: catalog.Profile = "paper") -> str:
    """A scheme or attack with the settings that differ from the profile's: `tanaka (icce2018)`."""
    return _with(entry["name"], _told(entry, profile))


def title(entry: Mapping[str, Any], profile: catalog.Profile = "paper") -> str:
    """The same for people, under the paper's name where it has one: `Tanaka's scheme (icce2018)`."""
    name = entry["name"]
    if name in catalog.schemes():
        called = catalog.schemes()[name].title
    elif name in catalog.attacks():
        called = catalog.attacks()[name].paper_name or catalog.attacks()[name].title
    else:
        called = "Uploaded images" if name == catalog.EXTERNAL else name
    return _with(called, _told(entry, profile))


def data_set(settings: Mapping[str, Any]) -> str:
    """What an evaluation protects, by name; an upload with its id."""
    id = settings["dataset"]
    if id is None:
        return "uploaded ciphertexts"
    name = settings.get("dataset_name") or id  # names were not told at first
    return id if name == id else f"{name} ({id})"


def usual(name: str, profile: catalog.Profile = "paper") -> dict[str, Any]:
    """The settings a scheme or attack has in a profile; none of uploads, nor of what only another version knows."""
    if name in catalog.schemes():
        return catalog.settings_of(catalog.make_scheme(name, {}, profile))
    return catalog.settings_of(catalog.make_attack(name, {}, profile)) if name in catalog.attacks() else {}


def _with(name: str, told: list[str]) -> str:
    return f"{name} ({', '.join(told)})" if told else name


def _told(entry: Mapping[str, Any], profile: catalog.Profile) -> list[str]:
    if entry["name"] == catalog.EXTERNAL:
        return [entry[part] for part in ("dataset_name", "dataset") if part in entry]
    known, told = usual(entry["name"], profile), []
    for setting, value in entry.items():
        if setting == "key_mode":  # the paper's two rows
            told.append(_KEY_MODES[value])
        elif setting not in NOT_SETTINGS and value != known.get(setting):
            told.append(value if isinstance(value, str) else f"{setting}={json.dumps(value)}")
    if "key_id" in entry:
        told.append(f"key …{entry['key_id'][-6:]}")
    return told
