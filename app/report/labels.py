"""Names of schemes, attacks and datasets: `label` in files and on the terminal, `title` on pages. Formats numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from unveil.models.core.spec import EXTERNAL

# Imported where used, because it loads NumPy: lists on the command line have the settings from the service.
if TYPE_CHECKING:
    from unveil.models import catalog

_KEY_MODES = {"same": "same key", "different": "different keys"}
NO_VALUE = "–"
NOT_SETTINGS = ("name", "added", "key_id", "dataset", "dataset_name")


def label(
    entry: Mapping[str, Any], profile: catalog.Profile = "paper", defaults: Mapping[str, Any] | None = None
) -> str:
    """The name of a scheme or attack with the settings that differ from the profile's: `tanaka (icce2018)`.

    defaults: the settings of the profile; default: those of the installed catalog.
    """
    return _append_details(entry["name"], _setting_details(entry, profile, defaults))


def title(entry: Mapping[str, Any], profile: catalog.Profile = "paper") -> str:
    """The same with the paper's name, or else the title: `Tanaka's scheme (icce2018)`."""
    from unveil.models import catalog

    name = entry["name"]
    if name in catalog.schemes():
        display_name = catalog.schemes()[name].title
    elif name in catalog.registered_attacks():
        attack = catalog.registered_attacks()[name]
        display_name = attack.paper_name or attack.title
    else:
        display_name = {EXTERNAL: "Uploaded images", catalog.UTILITY: "Utility"}.get(name, name)
    return _append_details(display_name, _setting_details(entry, profile, None))


def dataset_label(settings: Mapping[str, Any]) -> str:
    """The name of the dataset that an evaluation protects; of an upload with its id."""
    id = settings["dataset"]
    if id is None:
        return "uploaded ciphertexts"
    name = settings.get("dataset_name") or id  # evaluations of older versions have no dataset_name
    return id if name == id else f"{name} ({id})"


def default_settings(name: str, profile: catalog.Profile = "paper") -> dict[str, Any]:
    """The settings of a scheme or attack in a profile; none for uploads and for names of other versions."""
    from unveil.models import catalog

    if name in catalog.schemes():
        return catalog.flatten_settings(catalog.make_scheme(name, {}, profile))
    return (
        catalog.flatten_settings(catalog.make_attack(name, {}, profile)) if name in catalog.registered_attacks() else {}
    )


def paper_row(entry: Mapping[str, Any]) -> catalog.PaperRow | None:
    """The paper's results on a scheme with these settings; None for uploads and for names of other versions."""
    from unveil.models import catalog

    try:
        return catalog.make_scheme(entry["name"], {k: v for k, v in entry.items() if k not in ("name", "key_id")}).paper
    except (catalog.UnknownName, catalog.ParameterError):
        return None


def paper_verdicts(entry: Mapping[str, Any]) -> dict[str, str] | None:
    """The paper's own verdicts on a scheme with these settings, by attack."""
    row = paper_row(entry)
    if row is None:
        return None
    return {attack: "robust" if robust else "not robust" for attack, robust in row.robust.items()}


def format_number(value: float | None, digits: int = 3) -> str:
    return NO_VALUE if value is None else f"{value:.{digits}f}"


def format_percent(share: float | None, digits: int | None = None) -> str:
    """0.002 -> 0.2 %; 0.44 -> 44 %."""
    if share is None:
        return NO_VALUE
    return f"{100 * share:.{(1 if 0 < share < 0.1 else 0) if digits is None else digits}f} %"


def format_duration(seconds: float | None) -> str:
    """With two significant figures."""
    if seconds is None:
        return NO_VALUE
    if seconds < 0.05:
        return "under 0.1 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _append_details(name: str, details: list[str]) -> str:
    return f"{name} ({', '.join(details)})" if details else name


def _setting_details(
    entry: Mapping[str, Any], profile: catalog.Profile, defaults: Mapping[str, Any] | None
) -> list[str]:
    if entry["name"] == EXTERNAL:
        return [entry[part] for part in ("dataset_name", "dataset") if part in entry]
    if defaults is None:
        defaults = default_settings(entry["name"], profile)
    details = []
    for setting, value in entry.items():
        if setting == "key_mode":  # the paper's two rows
            details.append(_KEY_MODES[value])
        elif setting not in NOT_SETTINGS and value != defaults.get(setting):
            details.append(value if isinstance(value, str) else f"{setting}={json.dumps(value)}")
    if entry.get("dataset"):  # of submitted reconstructions
        details.append(f"…{entry['dataset'][-6:]}")
    if "key_id" in entry:
        details.append(f"key …{entry['key_id'][-6:]}")
    return details
