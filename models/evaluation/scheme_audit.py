"""All cells of one scheme in this process: the computation behind `unveil.audit`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from unveil.models.attacks.base import Attack
from unveil.models.catalog import external_not_applicable_reason
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.core.errors import AttackFailed, Cancelled, DoesNotApply
from unveil.models.core.images import Images
from unveil.models.core.profiles import PROFILE_IMAGE_COUNTS, Profile
from unveil.models.core.run_context import RunContext
from unveil.models.core.threat_models import Capability
from unveil.models.data.image_dataset import ImageDataset
from unveil.models.data.image_sources import SourceImages
from unveil.models.evaluation.cell import run_cell
from unveil.models.evaluation.cell_store import AuditedCell, CellStore
from unveil.models.evaluation.external_ciphertexts import run_external
from unveil.models.evaluation.protect_function import InvalidScheme, ProtectFunction
from unveil.models.evaluation.scoring import ScoringOptions
from unveil.models.schemes.base import Scheme, seed_secret

_TEST_SHARE = 0.8  # of the images; the rest is the owner's other images, from which pairs and ciphertexts come
_KEY_SHARE = 0.3  # of the progress bar, where a key is trained first
_THREADS = 2  # a cell takes up to 1 GB

Report = Callable[[float, str], None]


@dataclass(frozen=True)
class Subject:
    """What is audited. scheme: None for a callable and for ciphertexts, whose `data` holds ciphertexts and originals.

    key_per_image: no two images share a key, as far as an attacker can tell. randomised: a callable gave two answers
    for one image.
    """

    data: ImageDataset
    scheme: Scheme[Any, Any] | None = None
    public: Images | None = None
    oracle: Callable[[Images], Images] | None = None
    oracle_allowed: bool = True
    key_per_image: bool = False
    randomised: bool = False
    notes: tuple[str, ...] = ()

    def not_applicable_reason(self, attack: Attack[Any]) -> str | None:
        """Why the attack cannot run on the subject; None if it can."""
        if not self.oracle_allowed and Capability.ORACLE in attack.threat_model:
            return "the attacker has no encryption oracle (oracle=False)"
        if attack.reads_upload and self.scheme is not None:
            return "the audit draws the keys of a scheme: give a function or Ciphertexts"
        if self.scheme is not None:
            return attack.not_applicable_reason(self.scheme)
        return external_not_applicable_reason(
            attack,
            originals=self.data.test_originals is not None,
            public=self.public is not None,
            oracle=self.oracle is not None,
            key_per_image=self.key_per_image,
        )


def split_images(source: SourceImages, profile: Profile, seed: int) -> ImageDataset:
    """Owner's images and test images: four fifths are attacked and scored, up to the limit of the profile."""
    count = len(source.images)
    order = np.random.default_rng(seed).permutation(count)
    limit = PROFILE_IMAGE_COUNTS[profile][1]
    test_count = min(round(_TEST_SHARE * count), limit or count)
    if count < 2 or count - test_count < 1:
        raise ValueError(f"an audit needs at least 2 images, better 300; got {count}")
    test, train = order[:test_count], order[test_count:]
    labels = np.zeros(count, np.int64) if source.labels is None else source.labels
    classes = tuple(str(label) for label in range(int(labels.max()) + 1)) if source.labels is not None else ()
    return ImageDataset(
        source.name, source.images[train], labels[train], source.images[test], labels[test], classes, notes=source.notes
    )


def protected_subject(
    protect: ProtectFunction, plain: ImageDataset, public: Images | None, profile: Profile, *, oracle: bool
) -> Subject:
    """The subject of a callable: every image protected once. Raises InvalidScheme."""
    plain = plain.take(*PROFILE_IMAGE_COUNTS[profile])
    randomised = protect.is_randomised(plain.test)
    per_image = protect.key_per_image or randomised
    test = protect(plain.test)
    data = replace(
        plain,
        test=test,
        test_originals=plain.test,
        train=protect(plain.train, len(test)),
        train_originals=plain.train,
    )
    notes = ["the function has one key: no further keys were drawn"] if not per_image else []
    if protect.key_per_image:
        notes.append("every image was protected by a call of its own, as key_per_image=True says")
    elif randomised:
        notes.append("randomised: the function protects one image differently in two calls, so no map is fixed")
    return Subject(
        data,
        public=public,
        oracle=None if per_image else protect,
        oracle_allowed=oracle,
        key_per_image=per_image,
        randomised=randomised,
        notes=tuple(notes),
    )


def check_determinism(scheme: Scheme[Any, Any], images: Images) -> None:
    """Raise InvalidScheme if a scheme encrypts an image differently twice under one key."""
    if scheme.trains:
        return
    secret, probes = seed_secret(bytes(32)), images[:2]
    first, second = scheme.protect(probes, secret), scheme.protect(probes, secret)
    differing = np.flatnonzero((first != second).reshape(len(probes), -1).any(axis=1))
    if len(differing):
        raise InvalidScheme(
            f"{scheme.name} encrypted image {differing[0]} differently twice under one key; expected the same "
            "ciphertext: derive all randomness from the key"
        )


def run_audit(
    subject: Subject,
    attacks: Sequence[Attack[Any]],
    options: ScoringOptions,
    device: str,
    store: CellStore | None,
    report: Report,
) -> list[AuditedCell]:
    """One cell an attack. Cells that `store` holds are read, not computed. report: of the whole audit, 0..1.

    Two cells of attacks that train nothing are computed at a time, on threads: most of their time is spent in NumPy
    and torch, which release the interpreter. A cell depends on no other, so the order changes no result. An exception
    ends the other cell at its next report, and is then raised.
    """
    applicable = [attack for attack in attacks if subject.not_applicable_reason(attack) is None]
    start = _KEY_SHARE if subject.scheme is not None and subject.scheme.trains else 0.0
    progress = _AuditProgress([attack.name for attack in applicable], start, report)
    computed = dict[str, bytes]()

    def memoize(name: str, compute: Callable[[], bytes]) -> bytes:
        if name not in computed:
            computed[name] = compute()
        return computed[name]

    def context(name: str, curves: dict[str, list[list[float]]]) -> RunContext:
        checkpoints = DirectoryStore(store.folder / "checkpoints" / name) if store else None
        return RunContext(
            seed=options.seed,
            device=device,
            checkpoints=checkpoints,
            report=lambda fraction, phase: progress.update(name, fraction, phase),
            metric=lambda metric, step, value: curves.setdefault(metric, []).append([step, value]),
            memoize=memoize,
        )

    secret, provenance = None, None
    if subject.scheme is not None and subject.scheme.trains:
        training_context = replace(
            context("key", {}), report=lambda fraction, phase: report(_KEY_SHARE * fraction, f"key: {phase}")
        )
        trained = subject.scheme.train(subject.data, training_context)
        secret, provenance = trained.secret, trained.provenance

    def compute(attack: Attack[Any]) -> AuditedCell:
        stored = store.read(attack) if store else None
        if stored is None:
            progress.update(attack.name, 0.0, "running")
            curves = dict[str, list[list[float]]]()
            stored = _run_attack(subject, attack, options, context(attack.name, curves), secret, curves)
            if stored.outcome is not None and provenance is not None:
                stored = replace(stored, outcome=stored.outcome.with_result(trained_key=provenance))
            if store and stored.status == "succeeded":
                store.write(stored)
        progress.end(attack.name)
        return stored

    quick = [attack for attack in applicable if not attack.trains_network()]
    cells = {attack.name: cell for attack, cell in zip(quick, _map_on_threads(compute, quick, progress), strict=True)}
    for attack in applicable:
        if attack.trains_network():
            cells[attack.name] = compute(attack)
    report(1.0, "done")
    return [
        cells.get(attack.name) or AuditedCell(attack, "not_applicable", subject.not_applicable_reason(attack) or "")
        for attack in attacks
    ]


def _map_on_threads(
    compute: Callable[[Attack[Any]], AuditedCell], attacks: Sequence[Attack[Any]], progress: _AuditProgress
) -> list[AuditedCell]:
    """The cells of the attacks. Raises the first exception, such as KeyboardInterrupt, after every thread has ended."""
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="audit") as pool:
        futures = [pool.submit(compute, attack) for attack in attacks]
        try:
            pending: Collection[Future[AuditedCell]] = futures
            while pending:  # with a timeout: on Windows Ctrl-C does not interrupt a wait without one
                done, pending = wait(pending, timeout=0.2, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
        except BaseException:
            progress.cancel()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [future.result() for future in futures]


class _AuditProgress:
    """The progress of an audit whose cells are computed at the same time. `update` raises Cancelled after `cancel`."""

    def __init__(self, names: Sequence[str], start: float, report: Report) -> None:
        self._fractions = dict.fromkeys(names, 0.0)
        self._running = list[str]()
        self._start, self._report = start, report
        self._lock = threading.Lock()
        self._is_cancelled = False

    def update(self, name: str, fraction: float, phase: str) -> None:
        with self._lock:
            if self._is_cancelled:
                raise Cancelled
            if name not in self._running:
                self._running.append(name)
            self._fractions[name] = max(self._fractions[name], fraction)
            self._report(self._done(), f"{', '.join(self._running)}: {phase}")

    def end(self, name: str) -> None:
        with self._lock:
            self._fractions[name] = 1.0
            if name in self._running:
                self._running.remove(name)

    def cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True

    def _done(self) -> float:
        return self._start + (1 - self._start) * sum(self._fractions.values()) / len(self._fractions)


def _run_attack(
    subject: Subject,
    attack: Attack[Any],
    options: ScoringOptions,
    context: RunContext,
    secret: bytes | None,
    curves: dict[str, list[list[float]]],
) -> AuditedCell:
    try:
        if subject.scheme is not None:
            outcome = run_cell(
                subject.scheme, attack, subject.data, options, context, secret=secret, public=subject.public
            )
        else:
            outcome = run_external(
                attack,
                subject.data,
                options,
                context,
                public=subject.public,
                oracle=subject.oracle,
                key_per_image=subject.key_per_image,
            )
    except DoesNotApply as error:
        return AuditedCell(attack, "not_applicable", str(error))
    except (AttackFailed, ValueError) as error:
        return AuditedCell(attack, "failed", str(error))
    except ModuleNotFoundError as error:
        return AuditedCell(attack, "failed", f"{error.name} is not installed: pip install 'unveil[torch]'")
    outcome = outcome.with_result(notes=[*subject.notes, *outcome.result.notes])
    outcome = replace(outcome, images=None)  # an audit keeps the cells of all attacks in memory
    return AuditedCell(attack, "succeeded", "", outcome, {**curves, **outcome.curves})
