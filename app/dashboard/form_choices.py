"""What the form of a new evaluation offers: presets, schemes, attacks, and the values of an evaluation to be edited."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unveil.app.report.labels import paper_row, title
from unveil.models import catalog

QUICK_AUDIT, FULL, PAPER, CUSTOM = "quick-audit", "full", "paper", "custom"


@dataclass(frozen=True)
class Preset:
    """A choice of schemes and attacks."""

    name: str
    title: str
    description: str


PRESETS = (
    Preset(QUICK_AUDIT, "Quick audit", "every scheme and every attack that train no network"),
    Preset(FULL, "Full", "every scheme under every attack, including those that train networks"),
    Preset(PAPER, "The paper's attacks", "FR-Attack, ITN-Attack and GAN-Attack on the schemes of the paper"),
    Preset(CUSTOM, "Custom", "the schemes and attacks that you choose below"),
)


@dataclass(frozen=True)
class SchemeChoice:
    """A scheme that can be chosen. presets: the names of those that include it."""

    entry: dict[str, Any]
    title: str
    hint: str | None = None
    key_id: str | None = None
    presets: tuple[str, ...] = ()


@dataclass(frozen=True)
class AttackChoice:
    """description: as in GET /attacks. defaults: of each setting, by profile."""

    description: dict[str, Any]
    defaults: Mapping[str, Mapping[catalog.Profile, Any]]
    presets: tuple[str, ...]


@dataclass(frozen=True)
class FormValues:
    """Values that the form begins with. attacks: the settings that differ from the profile's, by attack."""

    preset: str = QUICK_AUDIT
    name: str = "evaluation"
    schemes: Sequence[SchemeChoice] = ()
    further_schemes: Sequence[SchemeChoice] = ()  # chosen, and not among those that the form offers by itself
    attacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dataset: str | None = None
    public_dataset: str | None = None
    profile: str = "quick"
    seed: int = 0
    samples: int = 8
    keys: int = 3
    ssim_mode: str = "rgb7"
    utility: bool = False
    left_out: Sequence[str] = ()


def scheme_choices(ready_keys: Mapping[str, str]) -> list[SchemeChoice]:
    """Every variant of every scheme, the paper's own first. ready_keys: ids by trained scheme."""
    choices = []
    for name in catalog.schemes():
        description = catalog.describe_scheme(name)
        trains = description["trains"]
        # a trained key fixes the settings of its network; one trained for the evaluation has the profile's
        for params in [{}] if trains else [variant["params"] for variant in description["variants"]]:
            entry = {"name": name, **params}
            presets = [FULL] if trains else [QUICK_AUDIT, FULL]
            presets += [PAPER] if paper_row(entry) is not None else []
            hint = None
            if trains:
                hint = "uses your newest key for it" if name in ready_keys else "trains a key for this evaluation"
            choices.append(SchemeChoice(entry, title(entry), hint, ready_keys.get(name), tuple(presets)))
    return sorted(choices, key=lambda choice: PAPER not in choice.presets)


def upload_choices(uploads: Mapping[str, str]) -> list[SchemeChoice]:
    """uploads: names of the uploads of protected images, by id."""
    return [
        SchemeChoice({"name": catalog.EXTERNAL, "dataset": id}, f"Uploaded images: {name}", "protected elsewhere")
        for id, name in uploads.items()
    ]


def attack_choices() -> dict[str, list[AttackChoice]]:
    """By the name of their threat model, the named ones first; in each, the paper's own attacks first."""
    groups: dict[str, list[AttackChoice]] = {model.name: [] for model in catalog.NAMED_THREAT_MODELS}
    for attack in sorted(catalog.attacks().values(), key=lambda attack: attack.paper_name is None):
        description = catalog.describe_attack(attack.name)
        by_profile = {profile: _attack_defaults(attack.name, profile) for profile in catalog.PROFILES}
        defaults = {
            name: {profile: settings[name] for profile, settings in by_profile.items()}
            for name in description["parameters"].get("properties", {})
        }
        presets = [FULL] if attack.learning_based else [QUICK_AUDIT, FULL]
        presets += [PAPER] if attack.paper_name else []
        groups.setdefault(attack.threat_model.name, []).append(AttackChoice(description, defaults, tuple(presets)))
    return groups


def prefill(request: Mapping[str, Any], choices: Sequence[SchemeChoice], datasets: Collection[str]) -> FormValues:
    """The values of a request to repeat an evaluation. datasets: ids of those that can still be chosen."""
    profile: catalog.Profile = request["profile"]
    left_out: list[str] = []
    chosen, further = [], []
    for entry in request["schemes"]:
        choice = next((each for each in choices if _is_same_scheme(each, entry, profile)), None)
        if choice is not None:
            chosen.append(choice)
        elif entry["name"] == catalog.EXTERNAL or entry["name"] not in catalog.schemes():
            left_out.append(f"the scheme {title(entry)}")
        else:
            hint = "with the key of that evaluation" if "key_id" in entry else None
            further.append(SchemeChoice(dict(entry), title(entry, profile), hint))
    attacks: dict[str, dict[str, Any]] = {}
    for entry in request["attacks"]:
        if entry["name"] not in catalog.attacks() or entry["name"] in attacks:
            left_out.append(f"the attack {title(entry, profile)}")
            continue
        defaults = _attack_defaults(entry["name"], profile)
        attacks[entry["name"]] = {name: value for name, value in entry.items() if value != defaults.get(name)}
    named = [request[name] for name in ("dataset", "public_dataset") if request.get(name) is not None]
    left_out += [f"the dataset {id}" for id in named if id not in datasets]
    fields = ("name", "dataset", "public_dataset", "seed", "samples", "keys", "ssim_mode", "utility")
    values: dict[str, Any] = {name: request[name] for name in fields if name in request}
    return FormValues(
        preset=CUSTOM, profile=profile, schemes=chosen, further_schemes=further, attacks=attacks, left_out=left_out,
        **values,
    )  # fmt: skip


def _attack_defaults(name: str, profile: catalog.Profile) -> dict[str, Any]:
    return catalog.flatten_settings(catalog.make_attack(name, {}, profile))


def _is_same_scheme(choice: SchemeChoice, entry: Mapping[str, Any], profile: catalog.Profile) -> bool:
    if "key_id" in entry and choice.key_id != entry["key_id"]:
        return False
    if choice.key_id is not None and "key_id" not in entry:
        return False
    return _resolve(choice.entry, profile) == _resolve(entry, profile)


def _resolve(entry: Mapping[str, Any], profile: catalog.Profile) -> dict[str, Any]:
    settings = {name: value for name, value in entry.items() if name not in ("name", "key_id")}
    if entry["name"] == catalog.EXTERNAL:
        return dict(entry)
    try:
        return catalog.flatten_settings(catalog.make_scheme(entry["name"], settings, profile))
    except (catalog.UnknownName, catalog.ParameterError):
        return dict(entry)
