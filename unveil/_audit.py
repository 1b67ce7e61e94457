"""`unveil.audit`: every attack that applies to a scheme, in this process, and the verdict.

Composes the science (`unveil.models`) and the reports (`unveil.app.report`), without a server, database or queue.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unveil._audit_report import AuditReport
from unveil.app.client.progress import ProgressSnapshot
from unveil.app.client.progress_bar import progress_bar
from unveil.models import catalog
from unveil.models.attacks.submitted import Claim, Submitted, SubmittedSettings
from unveil.models.core.device import resolve_device
from unveil.models.core.images import Images
from unveil.models.core.profiles import PROFILES, Profile
from unveil.models.core.version import __version__
from unveil.models.data.image_sources import SourceImages, read_images, read_labels
from unveil.models.data.reconstructions import match_names
from unveil.models.evaluation import scheme_audit
from unveil.models.evaluation.cell_store import CellStore
from unveil.models.evaluation.protect_function import InvalidScheme, ProtectFunction
from unveil.models.evaluation.scheme_audit import Subject
from unveil.models.evaluation.scoring import ScoringOptions

__all__ = ["AuditReport", "Ciphertexts", "InvalidScheme", "Reconstructions", "audit"]

_KEYS = 3  # independent keys drawn for a scheme, as in the service
_SAMPLES = 8  # image triples in the report, a cell


@dataclass(frozen=True)
class Ciphertexts:
    """Protected images of a scheme that cannot be called.

    originals: the plain images, if known: a folder with the same file names where `protected` is a folder, otherwise
    the same order.
    """

    protected: Any
    originals: Any = None


@dataclass(frozen=True)
class Reconstructions:
    """The output of an attack that was run elsewhere: one entry of `attacks`, scored like any other.

    images: a reconstruction of every image that the audit is given, in the same size. Files of a folder are matched by
    name with the files of the folder `images`; anything else by position. claims: the threat model of the attack.
    """

    images: Any
    claims: Claim = "ciphertext-only"


Attacks = Literal["default", "all"] | Sequence[str | catalog.Attack[Any] | Reconstructions]


@dataclass(frozen=True)
class _Named:
    """What is audited, with the name and settings that reports show. given: the images of the caller."""

    entry: dict[str, Any]
    subject: Subject
    given: SourceImages


def audit(
    scheme: Callable[[Images], Any] | catalog.Scheme[Any, Any] | type[catalog.Scheme[Any, Any]] | str | Ciphertexts,
    images: Any = None,
    *,
    labels: Any = None,
    public: Any = None,
    attacks: Attacks = "default",
    name: str | None = None,
    profile: Profile = "quick",
    seed: int = 0,
    key_per_image: bool = False,
    oracle: bool = True,
    device: str = "auto",
    progress: bool = True,
    out: str | Path | None = None,
) -> AuditReport:
    """Run the attacks on a scheme and give the verdict.

    scheme: a function that protects uint8 [N, H, W, 3] (one key for all calls, unless `key_per_image`), a `Scheme`
    instance or class, a name such as "tanaka:icce2018", or `Ciphertexts`. images: the plain images, as an array, a list
    of PIL images, a folder, a .npy or .npz file, a torch tensor or dataset, or "sample". public: the attacker's images.
    attacks: "default" (those that the profile requires), "all", or a list of names, `Attack` instances and at most one
    `Reconstructions`.
    oracle: whether chosen-plaintext attacks may call the scheme. out: a folder for finished cells; an interrupted audit
    with the same arguments resumes there.
    Raises InvalidScheme for a function that does not protect every image, ValueError for other wrong arguments.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}; got {profile!r}")
    public_source = None if public is None else read_images(public, "public")
    public_images = None if public_source is None else public_source.images
    named = _resolve(scheme, images, labels, public_images, name, profile, seed, key_per_image, oracle)
    if public_source is not None:
        notes = (*named.subject.notes, *(f"public images: {note}" for note in public_source.notes))
        named = replace(named, subject=replace(named.subject, notes=notes))
    chosen = _choose_attacks(attacks, profile, seed, named)
    options = ScoringOptions(seed=seed, keys=_KEYS, samples=_SAMPLES, profile=profile)
    store = None if out is None else CellStore.open(Path(out), _identity(named, options, public_images))
    trains = any(attack.trains_network() for attack in chosen) or bool(
        named.subject.scheme and named.subject.scheme.trains
    )
    if device == "auto":  # an audit that trains nothing needs no torch
        device = resolve_device("auto") if trains else "cpu"
    with _progress_bar(named.entry["name"], progress) as report:
        cells = scheme_audit.run_audit(named.subject, chosen, options, device, store, report)
    return AuditReport(named.entry, named.subject, cells, options)


def _resolve(
    scheme: Any,
    images: Any,
    labels: Any,
    public: Images | None,
    name: str | None,
    profile: Profile,
    seed: int,
    key_per_image: bool,
    oracle: bool,
) -> _Named:
    if name is not None and name in {*catalog.schemes(), catalog.EXTERNAL}:
        raise ValueError(f"name {name!r} is that of a built-in scheme; choose another")
    if isinstance(scheme, Ciphertexts):
        if images is not None:
            raise ValueError("with Ciphertexts, give the plain images as Ciphertexts(protected, originals)")
        protected = read_images(scheme.protected, "protected")
        subject = _ciphertexts_subject(protected, scheme.originals, public, profile, seed, key_per_image)
        return _Named({"name": name or "ciphertexts"}, subject, protected)
    if images is None:
        raise ValueError("images are missing; give the plain images that the scheme is to protect")
    source = read_images(images)
    if labels is not None and source.names is not None:
        raise ValueError("labels cannot be matched with the files of a folder; put the files into class folders")
    if labels is not None:
        source = replace(source, labels=read_labels(labels, source.images))
    plain = scheme_audit.split_images(source, profile, seed)
    if isinstance(scheme, str):
        scheme_name, settings = catalog.parse_spec("scheme", scheme)
        scheme = catalog.make_scheme(scheme_name, settings, profile)
    elif inspect.isclass(scheme) and issubclass(scheme, catalog.Scheme):
        scheme = scheme(catalog.parse(scheme.Settings, dict(scheme.profiles.get(profile, {}))))
    if isinstance(scheme, catalog.Scheme):
        scheme_audit.check_determinism(scheme, plain.test)
        entry = catalog.flatten_settings(scheme) | ({"name": name} if name else {})
        subject = Subject(plain, scheme, public, oracle_allowed=oracle, key_per_image=scheme.key_per_image)
        return _Named(entry, subject, source)
    if not callable(scheme):
        raise ValueError(
            f"scheme is a {type(scheme).__name__}; give a function, a Scheme, a name such as 'tanaka', or Ciphertexts"
        )
    protect = ProtectFunction(scheme, name or _function_name(scheme), key_per_image)
    subject = scheme_audit.protected_subject(protect, plain, public, profile, oracle=oracle)
    return _Named({"name": protect.name}, subject, source)


def _ciphertexts_subject(
    protected: SourceImages, plain_source: Any, public: Images | None, profile: Profile, seed: int, key_per_image: bool
) -> Subject:
    if protected.notes:
        raise ValueError(f"protected images must be readable without a conversion, but: {', '.join(protected.notes)}")
    data = scheme_audit.split_images(protected, profile, seed)
    if plain_source is None:
        return Subject(data, public=public, key_per_image=key_per_image)
    originals = _in_order_of(protected, "protected image", plain_source, "original")
    plain = scheme_audit.split_images(originals, profile, seed)  # the same order: it depends on seed and number
    notes = tuple(f"originals: {note}" for note in originals.notes)
    data = replace(data, test_originals=plain.test, train_originals=plain.train, notes=notes)
    return Subject(data, public=public, key_per_image=key_per_image)


def _function_name(function: Any) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    name = "function" if name == "<lambda>" else name
    return f"{name} (function)" if name in {*catalog.schemes(), catalog.EXTERNAL} else str(name)


def _choose_attacks(attacks: Attacks, profile: Profile, seed: int, named: _Named) -> list[catalog.Attack[Any]]:
    if isinstance(attacks, str):
        if attacks not in ("default", "all"):
            raise ValueError(f"attacks must be 'default', 'all' or a list of names; got {attacks!r}")
        if attacks == "all":
            chosen = [catalog.make_attack(name, {}, profile) for name in catalog.attacks()]
        else:
            chosen = list(catalog.profile_attacks(profile).values())
    else:
        chosen = [
            _submitted(attack, profile, seed, named)
            if isinstance(attack, Reconstructions)
            else _make_attack(attack, profile)
            for attack in attacks
        ]
        duplicates = {attack.name for attack in chosen if sum(a.name == attack.name for a in chosen) > 1}
        if duplicates:
            raise ValueError(f"attacks: give each once; got {', '.join(sorted(duplicates))} more than once")
    reasons = [named.subject.not_applicable_reason(attack) for attack in chosen]
    if all(reasons):
        raise ValueError("no attack applies: " + "; ".join(dict.fromkeys(filter(None, reasons))))
    if all(attack.name != "none" for attack in chosen):  # the ciphertexts themselves are always scored
        chosen.insert(0, catalog.make_attack("none", {}, profile))
    return sorted(chosen, key=lambda attack: (attack.trains_network(), attack.name != "none", not attack.runs_first))


def _submitted(given: Reconstructions, profile: Profile, seed: int, named: _Named) -> Submitted:
    """The attack `submitted` on the images that the audit attacks."""
    source = _in_order_of(named.given, "image", given.images, "reconstruction")
    own = scheme_audit.split_images(source, profile, seed)  # the same order: it depends on seed and number
    return Submitted(SubmittedSettings(_sha256(own.test) or "", given.claims), own.test, source.notes)


def _in_order_of(reference: SourceImages, reference_noun: str, source: Any, noun: str) -> SourceImages:
    """The images of a source in the order of the reference. The nouns are those of errors. Raises ValueError."""
    read = read_images(source, f"{noun}s", may_resize=False)
    if (read.names is None) != (reference.names is None):
        folder, other = (noun, reference_noun) if reference.names is None else (reference_noun, noun)
        raise ValueError(
            f"{folder}s come from a folder, whose files have names and no order, but {other}s do not: give both as "
            "folders with the same file names, or both as arrays in the same order"
        )
    if read.names is not None and reference.names is not None:
        positions = match_names(read.names, reference.names, reference_noun, noun)
        read = replace(read, images=read.images[positions], names=reference.names)
    if read.images.shape != reference.images.shape:
        raise ValueError(
            f"{noun}s must be in the order and size of the {reference_noun}s; got {list(read.images.shape)} for "
            f"{list(reference.images.shape)}"
        )
    return read


def _make_attack(attack: str | catalog.Attack[Any], profile: Profile) -> catalog.Attack[Any]:
    if isinstance(attack, catalog.Attack):
        return attack
    name, settings = catalog.parse_spec("attack", attack)
    return catalog.make_attack(name, settings, profile)


def _identity(named: _Named, options: ScoringOptions, public: Images | None) -> dict[str, Any]:
    """Everything that a stored cell depends on besides its attack. Randomised functions are indistinguishable."""
    data, subject = named.subject.data, named.subject
    ciphertexts = None if subject.scheme is not None or subject.randomised else _sha256(data.test)
    plain = data.test if subject.scheme is not None else data.test_originals
    return {
        "scheme": named.entry,
        "images": _sha256(plain),
        "ciphertexts": ciphertexts,
        "public": _sha256(public),
        "options": vars(options),
        "version": __version__,
    }


def _sha256(images: Images | None) -> str | None:
    return None if images is None else hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


@contextmanager
def _progress_bar(name: str, enabled: bool) -> Iterator[Callable[[float, str], None]]:
    if not enabled:
        yield lambda fraction, phase: None  # noqa: ARG005
        return
    with progress_bar() as update:
        yield lambda fraction, phase: update(_Moment(ProgressSnapshot(fraction, phase, phase.partition(":")[0], name)))


@dataclass(frozen=True)
class _Moment:
    at: ProgressSnapshot

    def snapshot(self) -> ProgressSnapshot:
        return self.at
