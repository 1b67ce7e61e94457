"""From an order to cells: names and settings checked against the catalog, profiles filled in, pairs formed.

Knows no HTTP and no tables; the service brings the keys and data sets that an order names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from unveil.app.db.ids import new_id
from unveil.app.errors.problem import Invalid
from unveil.app.evaluations.schemas import Entry, EvaluationOrder, SchemeEntry
from unveil.models import catalog
from unveil.models.core.profiles import images_taken

Errors = list[tuple[str, str]]
Refusal = Callable[[catalog.Attack[Any]], str | None]


class NoPairApplies(Invalid):
    code, title = "no_pair_applies", "No attack of the order applies to any of its schemes"


@dataclass(frozen=True)
class OrderedKey:
    """What an order needs to know of a key it names."""

    id: str
    scheme: str
    params: Mapping[str, Any]
    size: tuple[int, int] | None  # (height, width) that an explicit map fits


@dataclass(frozen=True)
class Upload:
    """What an order needs to know of an upload of protected images that it names."""

    id: str
    name: str
    has_originals: bool
    labelled: bool = False


@dataclass(frozen=True)
class PlannedCell:
    scheme: dict[str, Any]
    attack: dict[str, Any]
    threat_model: str
    refusal: str | None  # why the pair cannot be run


@dataclass(frozen=True)
class PlannedKey:
    """A key to train for the evaluation: its cells under this entry share it."""

    id: str
    scheme: catalog.Scheme[Any, Any]


@dataclass(frozen=True)
class Plan:
    schemes: list[dict[str, Any]]
    attacks: list[dict[str, Any]]
    cells: list[PlannedCell]
    keys: list[PlannedKey]
    # of its data sets, which are told when an upload is gone, too
    names: Mapping[str, str | None] = field(default_factory=dict)


def plan(
    order: EvaluationOrder,
    keys: Mapping[str, OrderedKey],
    size: tuple[int, int] | None,
    uploads: Mapping[str, Upload] | None = None,
) -> Plan:
    """Every pair of the order, resolved. `size`: (height, width) of the images. Raises Invalid, NoPairApplies."""
    errors = _image_errors(order)
    schemes, refuse, scheme_entries = _schemes(order, keys, size, uploads or {}, errors)
    attacks, attack_entries = _attacks(order, errors)
    errors += _duplicates("/schemes", scheme_entries) + _duplicates("/attacks", attack_entries)
    if errors:
        raise Invalid("the order has names or settings that cannot be used; see errors", errors)

    refusals = [refusal(attack) for refusal in refuse for attack in attacks]
    if all(refusals):
        raise NoPairApplies(
            "nothing would be run: " + "; ".join(dict.fromkeys(filter(None, refusals))) + ". Order another attack",
            [("/attacks", "none of these applies to the schemes ordered")],
        )
    if all(attack.name != "none" for attack in attacks):  # always scored: what the ciphertext itself shows
        attacks.append(catalog.make_attack("none", {}, order.profile))
        attack_entries.append({"name": "none", "added": True})
    to_train = []
    for entry, scheme in zip(scheme_entries, schemes, strict=True):
        if scheme is not None and scheme.trains and "key_id" not in entry:
            to_train.append(PlannedKey(new_id("key"), scheme))
            entry["key_id"] = to_train[-1].id
    cells = [
        PlannedCell(scheme_entry, catalog.settings_of(attack), attack.threat_model.value, refusal(attack))
        for refusal, scheme_entry in zip(refuse, scheme_entries, strict=True)
        for attack in attacks
    ]
    if order.utility:
        cells += [
            PlannedCell(entry, {"name": catalog.UTILITY}, "", _refuse_utility(entry, uploads or {}))
            for entry in scheme_entries
        ]
    return Plan(scheme_entries, attack_entries, cells, to_train)


def _schemes(
    order: EvaluationOrder,
    keys: Mapping[str, OrderedKey],
    size: tuple[int, int] | None,
    uploads: Mapping[str, Upload],
    errors: Errors,
) -> tuple[list[catalog.Scheme[Any, Any] | None], list[Refusal], list[dict[str, Any]]]:
    """Of each entry: the scheme (None: external), what refuses an attack on it, and the entry resolved."""
    schemes: list[catalog.Scheme[Any, Any] | None] = []
    refuse: list[Refusal] = []
    scheme_entries: list[dict[str, Any]] = []
    for i, entry in enumerate(order.schemes):
        pointer = f"/schemes/{i}"
        if entry.name == catalog.EXTERNAL:
            upload = uploads.get(entry.dataset or "")
            errors += _external_errors(pointer, entry, upload)
            if upload is not None:
                schemes.append(None)
                refuse.append(partial(_refuse_upload, upload=upload, public=order.public_dataset is not None))
                # with its name, which is told when the upload is gone, too
                scheme_entries.append({"name": catalog.EXTERNAL, "dataset": upload.id, "dataset_name": upload.name})
            continue
        for own in ("dataset", "dataset_name"):
            if getattr(entry, own) is not None:
                errors.append((f"{pointer}/{own}", f"only {catalog.EXTERNAL} takes a data set of its own"))
        key = keys.get(entry.key_id) if entry.key_id else None
        given = entry.settings
        if key is not None:
            wrong = _key_errors(pointer, entry.name, given, key)
            errors += wrong
            if wrong:
                continue
            given = {**given, **key.params}
        make = partial(catalog.make_scheme, beside=["key_id"])
        scheme = _make(make, entry, given, order.profile, pointer, errors)
        if scheme is None:
            continue
        if size is None:
            errors.append(("/dataset", f"is missing: {entry.name} needs plain images to protect"))
        elif key is not None:
            errors += _size_errors(pointer, scheme, key, size)
        schemes.append(scheme)
        refuse.append(partial(_refuse_scheme, scheme=scheme))
        scheme_entries.append({**catalog.settings_of(scheme), **({"key_id": key.id} if key else {})})
    return schemes, refuse, scheme_entries


def _image_errors(order: EvaluationOrder) -> Errors:
    """Settings of another profile, or of a version in which this one took other images, give no such result again."""
    return [
        (f"/{name}", f"profile {order.profile} takes {taken or 'all'}; leave it out or give the same")
        for name, taken in images_taken(order.profile).items()
        if getattr(order, name) not in (None, taken)
    ]


def _attacks(order: EvaluationOrder, errors: Errors) -> tuple[list[catalog.Attack[Any]], list[dict[str, Any]]]:
    attacks: list[catalog.Attack[Any]] = []
    attack_entries: list[dict[str, Any]] = []
    for i, attack_order in enumerate(order.attacks):
        attack = _make(catalog.make_attack, attack_order, attack_order.settings, order.profile, f"/attacks/{i}", errors)
        if attack is not None:
            attacks.append(attack)
            attack_entries.append(catalog.settings_of(attack))
    return attacks, attack_entries


def _refuse_scheme(attack: catalog.Attack[Any], *, scheme: catalog.Scheme[Any, Any]) -> str | None:
    return attack.refuses(scheme)


def _refuse_upload(attack: catalog.Attack[Any], *, upload: Upload, public: bool) -> str | None:
    return catalog.external_refusal(attack, originals=upload.has_originals, public=public)


def _refuse_utility(entry: Mapping[str, Any], uploads: Mapping[str, Upload]) -> str | None:
    upload = uploads.get(entry.get("dataset", ""))
    if upload is not None and not (upload.labelled and upload.has_originals):
        return "upload the images in class folders, and their `originals`: a classifier is trained on both"
    return None


def _external_errors(pointer: str, entry: SchemeEntry, upload: Upload | None) -> Errors:
    errors = [(f"{pointer}/{name}", "unknown parameter; known: dataset") for name in entry.settings]
    if entry.key_id is not None:
        errors.append((f"{pointer}/key_id", f"{catalog.EXTERNAL} takes no key: its images are protected already"))
    if upload is None:
        errors.append((f"{pointer}/dataset", "name an upload of yours with kind protected; see POST /datasets"))
    return errors


def _make(make: Any, entry: Entry, settings: Mapping[str, Any], profile: str, pointer: str, errors: Errors) -> Any:
    try:
        return make(entry.name, settings, profile)
    except catalog.UnknownName as unknown:
        errors.append((f"{pointer}/name", str(unknown.args[0])))
    except catalog.ParameterError as bad:
        errors.extend((pointer + inner, detail) for inner, detail in bad.errors)
    return None


def _key_errors(pointer: str, scheme: str, given: Mapping[str, Any], key: OrderedKey) -> Errors:
    if key.scheme != scheme:
        return [(f"{pointer}/key_id", f"{key.id} is a key of {key.scheme}, not of {scheme}")]
    return [
        (f"{pointer}/{name}", f"the key {key.id} has {name} = {key.params[name]!r}; leave it out or give the same")
        for name, value in given.items()
        if name in key.params and key.params[name] != value
    ]


def _size_errors(pointer: str, scheme: Any, key: OrderedKey, size: tuple[int, int]) -> Errors:
    if key.size is None:
        return []
    if scheme.key_per_image:
        return [(f"{pointer}/key_id", f"{key.id} holds an explicit map for one image; an evaluation protects many")]
    padded = catalog.padded_size(*size, scheme.multiple)
    if key.size == padded:
        return []
    fits, given = (f"{width}x{height}" for height, width in (key.size, padded))
    return [(f"{pointer}/key_id", f"{key.id} is an explicit map for {fits} (width x height); the images have {given}")]


def _duplicates(pointer: str, entries: Sequence[dict[str, Any]]) -> Errors:
    return [
        (f"{pointer}/{i}", f"is the same as {pointer}/{entries.index(entry)}; give each once")
        for i, entry in enumerate(entries)
        if entries.index(entry) < i
    ]
