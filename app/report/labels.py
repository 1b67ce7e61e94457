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
    return _append_details(entry["name"], _setting_details(entry, profile))


def title(entry: Mapping[str, Any], profile: catalog.Profile = "paper") -> str:
    """The same for people, under the paper's name where it has one: `Tanaka's scheme (icce2018)`."""
    name = entry["name"]
    if name in catalog.schemes():
        display_name = catalog.schemes()[name].title
    elif name in catalog.attacks():
        display_name = catalog.attacks()[name].paper_name or catalog.attacks()[name].title
    else:
        display_name = "Uploaded images" if name == catalog.EXTERNAL else name
    return _append_details(display_name, _setting_details(entry, profile))


def dataset_label(settings: Mapping[str, Any]) -> str:
    """What an evaluation protects, by name; an upload with its id."""
    id = settings["dataset"]
    if id is None:
        return "uploaded ciphertexts"
    name = settings.get("dataset_name") or id  # names were not told at first
    return id if name == id else f"{name} ({id})"


def default_settings(name: str, profile: catalog.Profile = "paper") -> dict[str, Any]:
    """The settings a scheme or attack has in a profile; none of uploads, nor of what only another version knows."""
    if name in catalog.schemes():
        return catalog.flatten_settings(catalog.make_scheme(name, {}, profile))
    return catalog.flatten_settings(catalog.make_attack(name, {}, profile)) if name in catalog.attacks() else {}


def _append_details(name: str, details: list[str]) -> str:
    return f"{name} ({', '.join(details)})" if details else name


def _setting_details(entry: Mapping[str, Any], profile: catalog.Profile) -> list[str]:
    if entry["name"] == catalog.EXTERNAL:
        return [entry[part] for part in ("dataset_name", "dataset") if part in entry]
    defaults, details = default_settings(entry["name"], profile), []
    for setting, value in entry.items():
        if setting == "key_mode":  # the paper's two rows
            details.append(_KEY_MODES[value])
        elif setting not in NOT_SETTINGS and value != defaults.get(setting):
            details.append(value if isinstance(value, str) else f"{setting}={json.dumps(value)}")
    if "key_id" in entry:
        details.append(f"key …{entry['key_id'][-6:]}")
    return details
