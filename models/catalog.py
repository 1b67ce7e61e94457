"""The catalog: a registry of all schemes and attacks, their settings, and the schemes to which each attack applies.

The service reaches the science through this module alone, which imports no torch: names that it needs from other
packages are exported here.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Collection, Mapping
from typing import Any

from unveil.models import registry
from unveil.models.attacks.base import Attack
from unveil.models.core import spec
from unveil.models.core.images import padded_size
from unveil.models.core.profiles import PROFILE_KEYS, PROFILES, Profile
from unveil.models.core.settings_schema import ParameterError, json_schema, parse, setting, strengths
from unveil.models.core.spec import EXTERNAL
from unveil.models.core.threat_models import NAMED_THREAT_MODELS, Capability, ThreatModel
from unveil.models.core.verdict_rules.coverage import RequiredAttack
from unveil.models.data.datasets import list_datasets as builtin_datasets
from unveil.models.data.image_dataset import DatasetInfo
from unveil.models.metrics.ssim import SSIM_MODES, SsimMode, ssim_window
from unveil.models.registry import Kind, Origin, Plugin, add_plugins, check_plugin_name, origin_of, plugins
from unveil.models.schemes.base import PaperRow, Scheme, SizeMismatch, new_secret

__all__ = [
    "EXTERNAL",
    "NAMED_THREAT_MODELS",
    "PROFILES",
    "SSIM_MODES",
    "STORED_SECRET_BITS",
    "UTILITY",
    "Attack",
    "DatasetInfo",
    "Origin",
    "PaperRow",
    "ParameterError",
    "Plugin",
    "Profile",
    "Scheme",
    "SizeMismatch",
    "SsimMode",
    "ThreatModel",
    "UnknownName",
    "add_plugins",
    "attacks",
    "builtin_datasets",
    "check_plugin_name",
    "describe_attack",
    "describe_scheme",
    "effective_bits",
    "external_not_applicable_reason",
    "flatten_settings",
    "is_training_attack",
    "json_schema",
    "known_ciphers",
    "load_plugins",
    "make_attack",
    "make_scheme",
    "new_secret",
    "origin_of",
    "origins",
    "padded_size",
    "parse",
    "parse_spec",
    "plugins",
    "profile_attacks",
    "registered_attacks",
    "required_attacks",
    "schemes",
    "setting",
    "ssim_window",
    "takes_unknown_scheme",
    "variants_of",
]  # fmt: skip


load_plugins = registry.load

# The name in place of an attack in a job that measures the utility of a scheme.
UTILITY = "utility"

# A stored secret is a 256-bit seed or is encrypted under a 256-bit key, so no exhaustive search costs more.
STORED_SECRET_BITS = 256


# Attacks that train networks and that a profile requires nevertheless; `paper` requires all.
_REQUIRED_TRAINING: Mapping[Profile, Collection[str]] = {"smoke": (), "quick": ("itn",)}
_REQUIRED_BY_PAPER_ALONE = ("jigsaw",)  # trains nothing, but takes a tenth of a second or more for each image


class _UnknownScheme(Scheme[bool, None]):
    """A scheme of which nothing is known but whether every image has a key of its own; it never encrypts."""

    @property
    def key_per_image(self) -> bool:
        return self.settings

    def derive(self, seed: bytes, height: int, width: int) -> None:
        raise NotImplementedError

    def encrypt(self, images: Any, key: None) -> Any:
        raise NotImplementedError


class UnknownName(LookupError):
    """No registered scheme or attack has this name."""


def schemes() -> Mapping[str, type[Scheme[Any, Any]]]:
    """Every registered scheme class by name, in alphabetical order."""
    return registry.registered("scheme")


def attacks() -> Mapping[str, type[Attack[Any]]]:
    """Every registered attack class that runs here by name, in alphabetical order: all but `submitted`."""
    return {name: cls for name, cls in registered_attacks().items() if not cls.reads_upload}


def registered_attacks() -> Mapping[str, type[Attack[Any]]]:
    """Every registered attack class by name, in alphabetical order."""
    return registry.registered("attack")


def make_scheme(
    name: str, settings: Mapping[str, Any], profile: Profile = "paper", *, extra_names: Collection[str] = ()
) -> Scheme[Any, Any]:
    """Create the named scheme; the profile fills in the settings that `settings` leaves out.

    extra_names: see `parse`. Raises UnknownName, ParameterError.
    """
    return _make("scheme", name, settings, profile, extra_names)


def make_attack(name: str, settings: Mapping[str, Any], profile: Profile = "paper") -> Attack[Any]:
    """Create the named attack; the profile fills in the settings that `settings` leaves out.

    Raises UnknownName, ParameterError.
    """
    return _make("attack", name, settings, profile)


def _make(
    kind: Kind, name: str, settings: Mapping[str, Any], profile: Profile, extra_names: Collection[str] = ()
) -> Any:
    cls = _lookup(kind, name)
    return cls(parse(cls.Settings, {**cls.profiles.get(profile, {}), **settings}, extra_names))


def _lookup(kind: Kind, name: str) -> Any:
    known = registry.registered(kind)
    if name not in known:
        raise UnknownName(f"unknown {kind} {name!r}; choose from {', '.join(known)}")
    return known[name]


def is_training_attack(attack: str) -> bool:
    """Whether a cell of this attack trains networks and takes minutes to days instead of seconds.

    True for an unknown name: utility trains networks, and so may an attack of another version.
    """
    known = registered_attacks().get(attack)
    return known is None or known.learning_based


def profile_attacks(profile: Profile) -> dict[str, Attack[Any]]:
    """The built-in attacks that a verdict requires, by name, with the settings of the profile."""
    made = {name: make_attack(name, {}, profile) for name in attacks() if "/" not in name}  # a plug-in's has a slash
    return {
        name: attack
        for name, attack in made.items()
        if (name in _REQUIRED_TRAINING.get(profile, made) or not attack.trains_network())
        and (profile == "paper" or name not in _REQUIRED_BY_PAPER_ALONE)
    }


def required_attacks(
    scheme: Scheme[Any, Any] | None,
    profile: Profile,
    *,
    originals: bool,
    public: bool,
    draws_keys: bool,
    oracle: bool = False,
    key_per_image: bool = False,
) -> tuple[RequiredAttack, ...]:
    """The attacks of the profile that apply to the scheme and have the material that they need.

    scheme: None for ciphertexts of an unknown scheme, with or without their originals, public images and an oracle.
    draws_keys: whether attacks that train nothing run on several keys; `keys` then counts as a setting.
    """
    required = []
    for attack in profile_attacks(profile).values():
        if scheme is None:
            reason = external_not_applicable_reason(
                attack, originals=originals, public=public, oracle=oracle, key_per_image=key_per_image
            )
        else:
            reason = attack.not_applicable_reason(scheme)
        if reason is None:
            settings, strength = dict(vars(attack.settings)), strengths(attack.Settings)
            if draws_keys and not attack.trains_network() and attack.name != "brute-force":
                settings["keys"], strength["keys"] = PROFILE_KEYS, "higher"
            required.append(RequiredAttack(attack.name, attack.threat_model.name, settings, strength))
    return tuple(required)


def known_ciphers() -> list[Scheme[Any, Any]]:
    """Every variant of every scheme whose keys are drawn: what ciphertexts of an unknown scheme may come from."""
    return [
        make_scheme(name, variant) for name, cls in schemes().items() if not cls.trains for variant in variants_of(cls)
    ]


def external_not_applicable_reason(
    attack: Attack[Any], *, originals: bool, public: bool, oracle: bool = False, key_per_image: bool = False
) -> str | None:
    """Why an attack cannot run on ciphertexts of an unknown scheme, and what to give; None if it can."""
    if attack.reads_upload:
        return None if originals else "nothing can be scored: upload the `originals` of the ciphertexts"
    if attack.name == "brute-force":
        return "the key space of an unknown scheme cannot be counted"
    if attack.takes == "ciphertext" and not takes_unknown_scheme(attack, key_per_image=key_per_image):
        return "it takes ciphertexts as its schemes return them, and here are 8-bit images"
    if (
        key_per_image
        and not takes_unknown_scheme(attack, key_per_image=True)
        and all(attack.not_applicable_reason(scheme) for scheme in known_ciphers() if scheme.key_per_image)
    ):
        return "needs one map for all images: here every image has a key of its own"
    missing = {
        "uploaded ciphertexts come without an encryption oracle": Capability.ORACLE in attack.threat_model
        and not oracle,
        "pairs are needed: upload the `originals` of the ciphertexts": Capability.PAIRS in attack.threat_model
        and not originals,
        "unpaired plain images are needed: name them in `public_dataset`": attack.needs_public_images() and not public,
    }
    return next((reason for reason, is_missing in missing.items() if is_missing), None)


def takes_unknown_scheme(attack: Attack[Any], *, key_per_image: bool = False) -> bool:
    """Whether an attack needs to know nothing of the scheme; any other attack tries each scheme that it applies to."""
    return attack.not_applicable_reason(_UnknownScheme(key_per_image)) is None


def parse_spec(kind: Kind, text: str) -> tuple[str, dict[str, Any]]:
    """Parse a spec such as `fr`, `fr:L=4:nibblewise=true` or `pixelwise:different` and validate its settings.

    Raises UnknownName, ParameterError.
    """
    known = registry.registered(kind)
    name, settings = spec.parse_spec(
        text, {name: json_schema(cls.Settings)["properties"] for name, cls in known.items()}
    )
    parse(_lookup(kind, name).Settings, settings)
    return name, settings


def flatten_settings(component: Scheme[Any, Any] | Attack[Any]) -> dict[str, Any]:
    """The name and all resolved settings in one flat dict, the form that an evaluation stores."""
    return {"name": component.name, **vars(component.settings)}


def effective_bits(scheme: Scheme[Any, Any], height: int, width: int) -> float | None:
    """The cost of an exhaustive search in bits: the smaller of key space and stored secret. None if not countable."""
    bits = scheme.key_space_bits(height, width)
    return None if bits is None else min(bits, STORED_SECRET_BITS)


def describe_scheme(name: str, height: int = 96, width: int = 96) -> dict[str, Any]:
    """A scheme as in GET /schemes: parameters, key space for images of the given size, paper results, attacks."""
    cls = schemes()[name]
    schema = json_schema(cls.Settings)
    variants = []
    for settings in [{}] if cls.trains else variants_of(cls):  # training settings do not change the scheme
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
        # inspect.getdoc would inherit the base class's docstring.
        "summary": inspect.cleandoc(cls.__doc__ or cls.title),
        "trains": cls.trains,
        "missing_part": cls.missing_part,
        "invertible": default.invertible,
        "structure": None if default.structure is None else str(default.structure),
        "ciphertext": vars(default.ciphertext),
        "origin": _describe_origin("scheme", name),
        "size_multiple": default.size_multiple,
        "parameters": schema,
        "profiles": {profile: dict(cls.profiles.get(profile, {})) for profile in PROFILES},
        "variants": variants,
        "attacks": [attack for attack in attacks() if make_attack(attack, {}).not_applicable_reason(default) is None],
    }


def describe_attack(name: str) -> dict[str, Any]:
    """An attack as in GET /attacks: parameters, threat model, profiles, the schemes to which it applies."""
    cls = registered_attacks()[name]
    attack = make_attack(name, {})
    reasons = {scheme: attack.not_applicable_reason(make_scheme(scheme, {})) for scheme in schemes()}
    return {
        "name": name,
        "title": cls.title,
        "source": cls.source,
        # inspect.getdoc would inherit the base class's docstring.
        "summary": inspect.cleandoc(cls.__doc__ or cls.title),
        "threat_model": cls.threat_model.name,
        "learned": cls.learning_based,
        "reads_upload": cls.reads_upload,
        "takes_unknown_schemes": takes_unknown_scheme(attack),
        "takes": cls.takes,
        "origin": _describe_origin("attack", name),
        "parameters": json_schema(cls.Settings),
        "profiles": {profile: dict(cls.profiles.get(profile, {})) for profile in PROFILES},
        "applies_to": [scheme for scheme, reason in reasons.items() if reason is None],
        "not_applicable": {scheme: reason for scheme, reason in reasons.items() if reason is not None},
    }


def origins(scheme: str, attack: str) -> dict[str, dict[str, Any] | None]:
    """Where the code of a cell comes from; None for uploads, for `utility` and for names of other versions."""
    found = {"scheme": origin_of("scheme", scheme), "attack": origin_of("attack", attack)}
    return {kind: None if origin is None else vars(origin) for kind, origin in found.items()}


def _describe_origin(kind: Kind, name: str) -> dict[str, Any]:
    origin = origin_of(kind, name)
    assert origin is not None
    return vars(origin)


def variants_of(scheme: type[Scheme[Any, Any]]) -> list[dict[str, Any]]:
    """The settings of every combination of choices of its enumerated parameters."""
    choices = {name: p["enum"] for name, p in json_schema(scheme.Settings)["properties"].items() if "enum" in p}
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
