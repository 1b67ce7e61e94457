"""Every scheme and attack by name, found by looking into `models.schemes` and `models.attacks`.

Imports no torch: the API validates orders with it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any, Literal

from unveil.models import attacks as attack_modules
from unveil.models import schemes as scheme_modules
from unveil.models.attacks.base import Attack
from unveil.models.core.images import padded_size
from unveil.models.core.profiles import PROFILES, Profile
from unveil.models.core.settings_schema import ParameterError, json_schema, parse, setting
from unveil.models.core.threat_models import ThreatModel
from unveil.models.core.verdicts import WORST_FIRST, scheme_verdict
from unveil.models.data.datasets import DatasetInfo
from unveil.models.data.datasets import list_datasets as builtin_datasets
from unveil.models.metrics.image_metrics import SSIM_MODES, SsimMode
from unveil.models.schemes.base import PaperRow, Scheme, SizeMismatch, new_secret

__all__ = [
    "EXTERNAL",
    "PROFILES",
    "SSIM_MODES",
    "UTILITY",
    "WORST_FIRST",
    "Attack",
    "DatasetInfo",
    "PaperRow",
    "ParameterError",
    "Profile",
    "Scheme",
    "SizeMismatch",
    "SsimMode",
    "ThreatModel",
    "UnknownName",
    "attacks",
    "builtin_datasets",
    "describe_attack",
    "describe_scheme",
    "effective_bits",
    "external_not_applicable_reason",
    "flatten_settings",
    "is_training_attack",
    "json_schema",
    "make_attack",
    "make_scheme",
    "new_secret",
    "padded_size",
    "parse",
    "parse_spec",
    "scheme_verdict",
    "schemes",
    "setting",
]  # fmt: skip


# Stands in the place of an attack where a scheme's utility is measured.
UTILITY = "utility"

# The scheme of images that an auditor has protected already, which need not be a known one.
EXTERNAL = "external"

# A stored secret is a 256-bit seed, or explicit material under a 256-bit envelope: no attack on it costs more.
STORED_SECRET_BITS = 256


class UnknownName(LookupError):
    """No scheme or attack has this name."""


def _discover(package: Any, base: Any) -> dict[str, Any]:
    classes: dict[str, Any] = {}
    for module in pkgutil.iter_modules(package.__path__):
        namespace = vars(importlib.import_module(f"{package.__name__}.{module.name}"))
        for value in namespace.values():
            if inspect.isclass(value) and issubclass(value, base) and not inspect.isabstract(value):
                classes[value.name] = value  # type: ignore[attr-defined]
    return dict(sorted(classes.items()))


@cache
def schemes() -> Mapping[str, type[Scheme[Any, Any]]]:
    return _discover(scheme_modules, Scheme)


@cache
def attacks() -> Mapping[str, type[Attack[Any]]]:
    return _discover(attack_modules, Attack)


def make_scheme(
    name: str, settings: Mapping[str, Any], profile: Profile = "paper", *, extra_names: Collection[str] = ()
) -> Scheme[Any, Any]:
    """The named scheme; the profile fills in what `settings` leaves out; `beside`: see `parse`.

    Raises UnknownName, ParameterError.
    """
    return _make(schemes(), "scheme", name, settings, profile, extra_names)


def make_attack(name: str, settings: Mapping[str, Any], profile: Profile = "paper") -> Attack[Any]:
    """The named attack; the profile fills in what `settings` leaves out. Raises UnknownName, ParameterError."""
    return _make(attacks(), "attack", name, settings, profile)


def _make(
    known: Mapping[str, Any],
    kind: str,
    name: str,
    settings: Mapping[str, Any],
    profile: Profile,
    extra_names: Collection[str] = (),
) -> Any:
    if name not in known:
        raise UnknownName(f"unknown {kind} {name!r}; known: {', '.join(known)}")
    cls = known[name]
    return cls(parse(cls.Settings, {**cls.profiles.get(profile, {}), **settings}, extra_names))


def is_training_attack(attack: str) -> bool:
    """Whether a cell trains networks, as utility does: minutes to days, where others take seconds. What only another
    version knows may.
    """
    known = attacks().get(attack)
    return known is None or known.learning_based


def external_not_applicable_reason(attack: Attack[Any], *, originals: bool, public: bool) -> str | None:
    """Why an attack cannot be run on uploaded ciphertexts of an unknown scheme, and what to upload for it."""
    if attack.name == "brute-force":
        return "the key space of an unknown scheme cannot be counted"
    if attack.threat_model is ThreatModel.CHOSEN_PLAINTEXT:
        return "uploaded ciphertexts come without an encryption oracle"
    if attack.threat_model is ThreatModel.KNOWN_PLAINTEXT and not originals:
        return "pairs are needed: upload the `originals` of the ciphertexts"
    if attack.needs_public_images() and not public:
        return "unpaired plain images are needed: name them in `public_dataset`"
    return None


def parse_spec(kind: Literal["scheme", "attack"], text: str) -> tuple[str, dict[str, Any]]:
    """A scheme or attack as commands write it: `fr`, `fr:L=4,nibblewise=true`, `pixelwise:different`.

    A bare value stands for the setting that has it among its choices. Raises UnknownName, ParameterError.
    """
    name, _, settings_text = text.partition(":")
    known: Mapping[str, Any] = schemes() if kind == "scheme" else attacks()
    if name not in known:
        raise UnknownName(f"unknown {kind} {name!r}; known: {', '.join(known)}")
    properties = json_schema(known[name].Settings)["properties"]
    settings: dict[str, Any] = {}
    for part in filter(None, settings_text.split(",")):
        setting, equals, value = part.partition("=")
        if equals:
            try:
                settings[setting] = json.loads(value)
            except ValueError:
                settings[setting] = value
            continue
        choice = [key for key, schema in properties.items() if part in schema.get("enum", ())]
        if not choice:
            raise ParameterError([("", f"{text!r}: {part!r} is neither setting=value nor a choice of {name}")])
        settings[choice[0]] = part
    parse(known[name].Settings, settings)
    return name, settings


def flatten_settings(component: Scheme[Any, Any] | Attack[Any]) -> dict[str, Any]:
    """Name and every resolved setting, flat, as an evaluation stores them."""
    return {"name": component.name, **vars(component.settings)}


def effective_bits(scheme: Scheme[Any, Any], height: int, width: int) -> float | None:
    """What an exhaustive search really costs: the smaller of key space and stored secret, in bits."""
    bits = scheme.key_space_bits(height, width)
    return None if bits is None else min(bits, STORED_SECRET_BITS)


def describe_scheme(name: str, height: int = 96, width: int = 96) -> dict[str, Any]:
    """What GET /schemes says of one: parameters, key space for a size, the paper's numbers, attacks that apply."""
    cls = schemes()[name]
    schema = json_schema(cls.Settings)
    variants = []
    for settings in [{}] if cls.trains else _variants(schema):  # how a network is trained makes no other scheme of it
        scheme = make_scheme(name, settings)
        padded = padded_size(height, width, scheme.size_multiple)
        paper = scheme.paper
        variants.append(
            {
                "params": settings,
                "key_per_image": scheme.key_per_image,
                "key_space_bits": scheme.key_space_bits(*padded),
                "effective_bits": effective_bits(scheme, *padded),
                "paper": None if paper is None else {"ssim": dict(paper.ssim), "robust": dict(paper.robust)},
            }
        )
    default = make_scheme(name, {})
    return {
        "name": name,
        "title": cls.title,
        "source": cls.source,
        "summary": inspect.cleandoc(cls.__doc__ or cls.title),  # not getdoc: it would inherit the base class's
        "trains": cls.trains,
        "size_multiple": default.size_multiple,
        "parameters": schema,
        "profiles": {profile: dict(cls.profiles.get(profile, {})) for profile in PROFILES},
        "variants": variants,
        "attacks": [attack for attack in attacks() if make_attack(attack, {}).not_applicable_reason(default) is None],
    }


def describe_attack(name: str) -> dict[str, Any]:
    """What GET /attacks says of one: parameters, threat model, profiles, the schemes it applies to."""
    cls = attacks()[name]
    attack = make_attack(name, {})
    reasons = {scheme: attack.not_applicable_reason(make_scheme(scheme, {})) for scheme in schemes()}
    return {
        "name": name,
        "title": cls.title,
        "source": cls.source,
        "summary": inspect.cleandoc(cls.__doc__ or cls.title),  # not getdoc: it would inherit the base class's
        "threat_model": cls.threat_model.value,
        "learned": cls.learning_based,
        "parameters": json_schema(cls.Settings),
        "profiles": {profile: dict(cls.profiles.get(profile, {})) for profile in PROFILES},
        "applies_to": [scheme for scheme, reason in reasons.items() if reason is None],
        "not_applicable": {scheme: reason for scheme, reason in reasons.items() if reason is not None},
    }


def _variants(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One settings object for each choice of a scheme's enumerated parameters."""
    choices = [(name, prop["enum"]) for name, prop in schema["properties"].items() if "enum" in prop]
    variants: list[dict[str, Any]] = [{}]
    for name, values in choices:
        variants = [{**variant, name: value} for variant in variants for value in values]
    return variants
