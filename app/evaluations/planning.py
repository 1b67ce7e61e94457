"""From a request to cells: checks names and settings against the catalog, fills in profiles, forms the pairs.

No HTTP and no SQL here; the service loads the keys and datasets that a request names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from unveil.app.db.ids import new_id
from unveil.app.errors.problem import Invalid, NoPairApplies
from unveil.app.evaluations.cost import CostEstimate
from unveil.app.evaluations.schemas import Entry, EvaluationCreate, SchemeEntry
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo
from unveil.models.core.profiles import profile_image_counts

Errors = list[tuple[str, str]]
ApplicabilityCheck = Callable[[catalog.Attack[Any]], str | None]


@dataclass(frozen=True)
class KeyRef:
    """A key that a request names."""

    id: str
    scheme: str
    params: Mapping[str, Any]
    size: tuple[int, int] | None  # (height, width) that an explicit map fits


@dataclass(frozen=True)
class PlannedCell:
    scheme: dict[str, Any]
    attack: dict[str, Any]
    threat_model: str
    not_applicable_reason: str | None  # why the pair cannot run
    requested: bool = True  # False: added because the profile requires the attack


@dataclass(frozen=True)
class PlannedKey:
    """A key to train for the evaluation; the cells of its scheme share it."""

    id: str
    scheme: catalog.Scheme[Any, Any]


@dataclass(frozen=True)
class EvaluationPlan:
    schemes: list[dict[str, Any]]
    attacks: list[dict[str, Any]]
    cells: list[PlannedCell]
    keys: list[PlannedKey]
    # of the datasets: shown even after an upload is deleted
    dataset_names: Mapping[str, str | None] = field(default_factory=dict)
    cost: CostEstimate = field(default_factory=CostEstimate)


def plan_evaluation(
    body: EvaluationCreate,
    keys: Mapping[str, KeyRef],
    size: tuple[int, int] | None,
    uploads: Mapping[str, DatasetInfo] | None = None,
    submitted: Mapping[str, DatasetInfo] | None = None,
) -> EvaluationPlan:
    """Every pair of the request, resolved, and the attacks of the profile that train nothing and apply.

    size: (height, width) of the images. Raises Invalid, NoPairApplies.
    """
    errors = _image_errors(body) + _too_small_errors(body, size, uploads or {})
    schemes, applicability_checks, scheme_entries = _resolve_schemes(
        body, keys, size, uploads or {}, submitted or {}, errors
    )
    attacks, attack_entries = _resolve_attacks(body, submitted or {}, errors)
    errors += _duplicates("/schemes", scheme_entries) + _duplicates("/attacks", attack_entries)
    if errors:
        raise Invalid("the request has unknown names or invalid settings; see errors", errors)

    reasons = [check(attack) for check in applicability_checks for attack in attacks]
    if all(reasons):
        raise NoPairApplies(
            "nothing would run: " + "; ".join(dict.fromkeys(filter(None, reasons))) + ". Request another attack",
            [("/attacks", "none of these applies to the requested schemes")],
        )
    keys_to_train = []
    for entry, scheme in zip(scheme_entries, schemes, strict=True):
        if scheme is not None and scheme.trains and "key_id" not in entry:
            keys_to_train.append(PlannedKey(new_id("key"), scheme))
            entry["key_id"] = keys_to_train[-1].id
    requested = {attack.name for attack in attacks}
    added = [
        attack
        for name, attack in catalog.profile_attacks(body.profile).items()
        if name not in requested and not attack.trains_network()
    ]
    cells = [
        PlannedCell(entry, catalog.flatten_settings(attack), attack.threat_model.name, reason, attack in attacks)
        for check, entry in zip(applicability_checks, scheme_entries, strict=True)
        for attack in sorted((*attacks, *added), key=lambda attack: not attack.runs_first)
        if (reason := check(attack)) is None or attack in attacks
    ]
    if body.utility:
        cells += [
            PlannedCell(entry, {"name": catalog.UTILITY}, "", _utility_not_applicable_reason(entry, uploads or {}))
            for entry in scheme_entries
        ]
    return EvaluationPlan(scheme_entries, attack_entries, cells, keys_to_train)


def _resolve_schemes(
    body: EvaluationCreate,
    keys: Mapping[str, KeyRef],
    size: tuple[int, int] | None,
    uploads: Mapping[str, DatasetInfo],
    submitted: Mapping[str, DatasetInfo],
    errors: Errors,
) -> tuple[list[catalog.Scheme[Any, Any] | None], list[ApplicabilityCheck], list[dict[str, Any]]]:
    """For each entry: the scheme (None: external), the check whether an attack applies, and the resolved entry."""
    schemes: list[catalog.Scheme[Any, Any] | None] = []
    applicability_checks: list[ApplicabilityCheck] = []
    scheme_entries: list[dict[str, Any]] = []
    for i, entry in enumerate(body.schemes):
        pointer = f"/schemes/{i}"
        if entry.name == catalog.EXTERNAL:
            upload = uploads.get(entry.dataset or "")
            errors += _external_errors(pointer, entry, upload)
            if upload is not None:
                schemes.append(None)
                applicability_checks.append(
                    partial(
                        _external_not_applicable_reason,
                        upload=upload,
                        public=body.public_dataset is not None,
                        submitted=submitted,
                    )
                )
                # with the name: shown even after the upload is deleted
                scheme_entries.append({"name": catalog.EXTERNAL, "dataset": entry.dataset, "dataset_name": upload.name})
            continue
        for field_name in ("dataset", "dataset_name"):
            if getattr(entry, field_name) is not None:
                errors.append((f"{pointer}/{field_name}", f"only {catalog.EXTERNAL} takes a dataset of its own"))
        key = keys.get(entry.key_id) if entry.key_id else None
        settings = entry.settings
        if key is not None:
            key_errors = _key_errors(pointer, entry.name, settings, key)
            errors += key_errors
            if key_errors:
                continue
            settings = {**settings, **key.params}
        make = partial(catalog.make_scheme, extra_names=["key_id"])
        scheme = _make_or_append_errors(make, entry, settings, body.profile, pointer, errors)
        if scheme is None:
            continue
        if size is None:
            errors.append(("/dataset", f"is missing: {entry.name} needs plain images to protect"))
        elif key is not None:
            errors += _size_errors(pointer, scheme, key, size)
        schemes.append(scheme)
        applicability_checks.append(
            partial(
                _scheme_not_applicable_reason,
                scheme=scheme,
                size=size,
                submitted=submitted,
                has_key=key is not None,
            )
        )
        scheme_entries.append({**catalog.flatten_settings(scheme), **({"key_id": key.id} if key else {})})
    return schemes, applicability_checks, scheme_entries


def _image_errors(body: EvaluationCreate) -> Errors:
    """Posted settings of another profile, or of a version whose profile used other images, cannot be repeated."""
    return [
        (f"/{name}", f"profile {body.profile} takes {profile_count or 'all'}; leave it out or give the same")
        for name, profile_count in profile_image_counts(body.profile).items()
        if getattr(body, name) not in (None, profile_count)
    ]


def _resolve_attacks(
    body: EvaluationCreate, submitted: Mapping[str, DatasetInfo], errors: Errors
) -> tuple[list[catalog.Attack[Any]], list[dict[str, Any]]]:
    attacks: list[catalog.Attack[Any]] = []
    attack_entries: list[dict[str, Any]] = []
    for i, entry in enumerate(body.attacks):
        attack = _make_or_append_errors(
            catalog.make_attack, entry, entry.settings, body.profile, f"/attacks/{i}", errors
        )
        if attack is not None and attack.reads_upload and attack.settings.dataset not in submitted:
            errors.append((f"/attacks/{i}/dataset", "name an upload with kind reconstructed; see POST /datasets"))
        elif attack is not None:
            attacks.append(attack)
            attack_entries.append(catalog.flatten_settings(attack))
    return attacks, attack_entries


def _too_small_errors(
    body: EvaluationCreate, size: tuple[int, int] | None, uploads: Mapping[str, DatasetInfo]
) -> Errors:
    """Images smaller than the window of the SSIM could be attacked but not scored."""
    window = catalog.ssim_window(body.ssim_mode)
    sizes = {"/dataset": size} if size else {}
    for i, entry in enumerate(body.schemes):
        upload = uploads.get(entry.dataset or "")
        if upload is not None and upload.has_originals:
            sizes[f"/schemes/{i}/dataset"] = upload.size
    return [
        (pointer, f"{body.ssim_mode} needs images of at least {window}x{window}; these have {width}x{height}")
        for pointer, (height, width) in sizes.items()
        if min(height, width) < window
    ]


def _too_small_reason(attack: catalog.Attack[Any], size: tuple[int, int]) -> str | None:
    if min(size) >= attack.min_side:
        return None
    return f"needs images of at least {attack.min_side}x{attack.min_side}; these have {size[1]}x{size[0]}"


def _submitted_reason(
    attack: catalog.Attack[Any], submitted: Mapping[str, DatasetInfo], *sizes: tuple[int, int]
) -> str | None:
    """Why an upload of reconstructions cannot be scored against images of these sizes; None for other attacks."""
    if not attack.reads_upload or (upload := submitted[attack.settings.dataset]).size in sizes:
        return None
    (height, width), (own_height, own_width) = sizes[0], upload.size
    return f"the submitted reconstructions are {own_width}x{own_height}, the originals {width}x{height}"


def _scheme_not_applicable_reason(
    attack: catalog.Attack[Any],
    *,
    scheme: catalog.Scheme[Any, Any],
    size: tuple[int, int] | None,
    submitted: Mapping[str, DatasetInfo],
    has_key: bool,
) -> str | None:
    if attack.reads_upload and not has_key:
        return (
            "the evaluation draws its keys: give the scheme the `key_id` under which the attacked images were protected"
        )
    padded = catalog.padded_size(*size, scheme.size_multiple) if size else None
    reason = attack.not_applicable_reason(scheme)
    if size is None or padded is None:
        return reason
    return reason or _too_small_reason(attack, padded) or _submitted_reason(attack, submitted, size, padded)


def _external_not_applicable_reason(
    attack: catalog.Attack[Any],
    *,
    upload: DatasetInfo,
    public: bool,
    submitted: Mapping[str, DatasetInfo],
) -> str | None:
    reason = catalog.external_not_applicable_reason(attack, originals=upload.has_originals, public=public)
    return reason or _too_small_reason(attack, upload.size) or _submitted_reason(attack, submitted, upload.size)


def _utility_not_applicable_reason(entry: Mapping[str, Any], uploads: Mapping[str, DatasetInfo]) -> str | None:
    upload = uploads.get(entry.get("dataset", ""))
    if upload is not None and not (upload.labelled and upload.has_originals):
        return "upload the images in class folders, and their `originals`: utility trains a classifier on both"
    return None


def _external_errors(pointer: str, entry: SchemeEntry, upload: DatasetInfo | None) -> Errors:
    errors = [(f"{pointer}/{name}", "unknown parameter; known: dataset") for name in entry.settings]
    if entry.key_id is not None:
        errors.append((f"{pointer}/key_id", f"{catalog.EXTERNAL} takes no key: its images are already protected"))
    if upload is None:
        errors.append((f"{pointer}/dataset", "name an upload with kind protected; see POST /datasets"))
    return errors


def _make_or_append_errors(
    make: Any, entry: Entry, settings: Mapping[str, Any], profile: str, pointer: str, errors: Errors
) -> Any:
    try:
        return make(entry.name, settings, profile)
    except catalog.UnknownName as unknown:
        errors.append((f"{pointer}/name", str(unknown.args[0])))
    except catalog.ParameterError as bad:
        errors.extend((pointer + inner, detail) for inner, detail in bad.errors)
    return None


def _key_errors(pointer: str, scheme: str, settings: Mapping[str, Any], key: KeyRef) -> Errors:
    if key.scheme != scheme:
        return [(f"{pointer}/key_id", f"{key.id} is a key of {key.scheme}, not of {scheme}")]
    return [
        (f"{pointer}/{name}", f"the key {key.id} has {name} = {key.params[name]!r}; leave it out or give the same")
        for name, value in settings.items()
        if name in key.params and key.params[name] != value
    ]


def _size_errors(pointer: str, scheme: catalog.Scheme[Any, Any], key: KeyRef, size: tuple[int, int]) -> Errors:
    if key.size is None:
        return []
    if scheme.key_per_image:
        return [(f"{pointer}/key_id", f"{key.id} holds an explicit map for one image; an evaluation protects many")]
    padded = catalog.padded_size(*size, scheme.size_multiple)
    if key.size == padded:
        return []
    key_size, image_size = (f"{width}x{height}" for height, width in (key.size, padded))
    detail = f"{key.id} is an explicit map for {key_size} (width x height); the images have {image_size}"
    return [(f"{pointer}/key_id", detail)]


def _duplicates(pointer: str, entries: Sequence[dict[str, Any]]) -> Errors:
    return [
        (f"{pointer}/{i}", f"is the same as {pointer}/{entries.index(entry)}; give each once")
        for i, entry in enumerate(entries)
        if entries.index(entry) < i
    ]
