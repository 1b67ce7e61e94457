"""Rules of keys. Secrets enter the database only in their envelope and leave it only for `keys:export`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.datasets.service import resolve_plain_dataset
from unveil.app.db.job_states import ACTIVE, Status
from unveil.app.db.tables import Key
from unveil.app.dependencies import AppState
from unveil.app.errors.problem import (
    Invalid,
    KeyBusy,
    KeyDestroyed,
    KeyNotReady,
    NotExportable,
    NotTraining,
    SizeMismatch,
    UnknownKey,
    UnknownScheme,
)
from unveil.app.http.pagination import Page, PageRequest, build_page
from unveil.app.jobs import cancellation
from unveil.app.jobs.dispatch import enforce_quotas
from unveil.app.keys import queries
from unveil.app.keys.schemas import JobError, KeyCreate, KeyOut, MaterialOut
from unveil.app.observability import failpoints
from unveil.app.security.principal import Principal
from unveil.app.storage import StorageError
from unveil.models import catalog
from unveil.models.catalog import DatasetInfo, ParameterError, Scheme, UnknownName, setting

_GIVEN_SEED_BITS = 53  # what JSON keeps exactly everywhere
_DEFAULT_SIDE = 96  # the paper's image size: what key spaces are given for unless asked otherwise


@dataclass(frozen=True)
class TrainingRequest:
    """The fields of a request for a trained key besides the settings of its scheme."""

    profile: catalog.Profile = setting("quick", "fills in the settings that the request leaves out")
    dataset: str = setting("", "a name or an id of GET /datasets; needed")
    seed: int | None = setting(
        None,
        "null: drawn, and never returned; a seed, the dataset and the settings reproduce the key",
        minimum=0,
        maximum=2**_GIVEN_SEED_BITS - 1,
    )


def make_scheme_or_422(name: str, params: Mapping[str, Any], profile: catalog.Profile = "paper") -> Scheme[Any, Any]:
    """The scheme with these settings. Raises UnknownScheme, Invalid naming the parameter."""
    try:
        return catalog.make_scheme(name, params, profile)
    except UnknownName as error:
        raise UnknownScheme(str(error), [("/scheme", str(error))], status=422) from None
    except ParameterError as error:
        raise Invalid(str(error), [(f"/params{pointer}", detail) for pointer, detail in error.errors]) from None


async def get_many(session: AsyncSession, principal: Principal, ids: Sequence[str]) -> list[Key]:
    """The caller's keys, in this order. Raises UnknownKey, KeyDestroyed."""
    rows = await queries.get_many(session, principal.account_id, ids)
    for id in ids:
        if id not in rows:
            raise UnknownKey(f"there is no key {id}", [("/key_id", "unknown")])
        if rows[id].destroyed_at is not None:
            raise KeyDestroyed(f"{id} was destroyed; images that it protects can no longer be decrypted")
    return [rows[id] for id in ids]


async def create(session: AsyncSession, app_state: AppState, principal: Principal, body: KeyCreate, id: str) -> KeyOut:
    """A drawn or a given key, or one to be trained; not yet committed.

    Raises UnknownScheme, UnknownDataset, Invalid naming the field, QueueFull.
    """
    scheme_class = catalog.schemes().get(body.scheme)
    if scheme_class is not None and scheme_class.trains:
        return to_key_out(await _create_trained_key(session, app_state, principal, body, id))
    scheme = make_scheme_or_422(body.scheme, body.params)
    secret, size = catalog.new_secret(), None
    if body.material is not None:
        secret, size = await asyncio.to_thread(_import_material, scheme, body.material)
    key = await queries.insert_if_absent(
        session,
        {
            "id": id,
            "account_id": principal.account_id,
            "scheme": scheme.name,
            "params": vars(scheme.settings),
            "encrypted_secret": app_state.keyring.seal(secret, purpose="key", owner=principal.account_id, id=id),
            "height": size[0] if size else None,
            "width": size[1] if size else None,
            "status": Status.SUCCEEDED,
            "progress": 1.0,
        },
    )
    return to_key_out(key)


def _import_material(scheme: Scheme[Any, Any], material: Mapping[str, Any]) -> tuple[bytes, tuple[int, int] | None]:
    """The stored form of an explicit key, and the only size (height, width) it fits. Raises Invalid."""
    try:
        key = scheme.key_from_json(material)
    except ParameterError as error:
        raise Invalid(str(error), [(f"/material{pointer}", detail) for pointer, detail in error.errors]) from None
    return scheme.key_to_secret(key), scheme.key_size(key)


async def _create_trained_key(
    session: AsyncSession, app_state: AppState, principal: Principal, body: KeyCreate, id: str
) -> Key:
    if body.material is not None:
        message = f"a key of {body.scheme} is a trained network; send `params` instead of key material"
        raise Invalid(message, [("/material", message)])
    training_params = {
        name: value for name, value in body.params.items() if name in TrainingRequest.__dataclass_fields__
    }
    try:
        training = catalog.parse(TrainingRequest, training_params)
    except ParameterError as error:
        raise Invalid(str(error), [(f"/params{pointer}", detail) for pointer, detail in error.errors]) from None
    settings = {name: value for name, value in body.params.items() if name not in training_params}
    scheme = make_scheme_or_422(body.scheme, settings, training.profile)
    if not training.dataset:
        message = "name the dataset to train on; see GET /datasets"
        raise Invalid(message, [("/params/dataset", message)])
    images = await resolve_plain_dataset(session, app_state, principal, training.dataset, "/params/dataset")
    require_trainable(scheme, images, "/params/dataset")
    core_seconds = scheme.training_core_seconds(images.train, images.height, images.width)
    await enforce_quotas(session, app_state, principal, 1, core_seconds, "/scheme")
    return await enqueue_training(session, app_state, principal, scheme, training, id, core_seconds)


def require_trainable(scheme: Scheme[Any, Any], images: DatasetInfo, pointer: str) -> None:
    """Raises Invalid where a key of the scheme cannot be trained on the dataset that `pointer` names."""
    reason = scheme.untrainable_reason(images.train, images.height, images.width, len(images.classes))
    if reason:
        raise Invalid(f"no key of {scheme.name} can be trained on {images.name}: {reason}", [(pointer, reason)])


async def enqueue_training(
    session: AsyncSession,
    app_state: AppState,
    principal: Principal,
    scheme: Scheme[Any, Any],
    training: TrainingRequest,
    id: str,
    core_seconds: float,
    evaluation_id: str | None = None,
) -> Key:
    """A key that waits to be trained. The caller commits, then dispatches.

    A key for an evaluation is for audits only: the settings of the evaluation name its seed.
    """
    values = {
        "id": id,
        "account_id": principal.account_id,
        "scheme": scheme.name,
        "params": vars(scheme.settings),
        "training_request": {**vars(training), **({"audit_only": True} if evaluation_id else {})},
        "wrapped_key": app_state.keyring.new_wrapped_key(purpose="key", owner=principal.account_id, id=id),
        "evaluation_id": evaluation_id,
        "estimated_core_seconds": core_seconds,
        "status": Status.QUEUED,
    }
    return await queries.insert_if_absent(session, values)


async def list_keys(session: AsyncSession, principal: Principal, paging: PageRequest) -> Page[KeyOut]:
    return build_page(
        await queries.list_page(session, principal.account_id, paging), paging, to_key_out, lambda key: key.id
    )


async def get_key(
    session: AsyncSession, principal: Principal, id: str, width: int | None, height: int | None
) -> KeyOut:
    """Raises UnknownKey, KeyDestroyed."""
    (key,) = await get_many(session, principal, [id])
    return to_key_out(key, width, height)


def to_key_out(key: Key, width: int | None = None, height: int | None = None) -> KeyOut:
    bits = effective_bits = None
    with suppress(UnknownName, ParameterError):  # a key of another version's scheme is shown too
        scheme = catalog.make_scheme(key.scheme, key.params)
        sides = _padded_sides(scheme, key, width, height)
        bits, effective_bits = scheme.key_space_bits(*sides), catalog.effective_bits(scheme, *sides)
    if key.training_request is not None:
        effective_bits = _seed_bits(key)
    active = key.status in ACTIVE
    links = {"self": f"/keys/{key.id}"}
    if active:
        links["cancel"] = f"/keys/{key.id}/cancel"
    return KeyOut(
        id=key.id,
        scheme=key.scheme,
        params=key.params,
        status=_PUBLIC_STATUS[Status(key.status)],
        created_at=key.created_at,
        uses=key.uses,
        width=key.width,
        height=key.height,
        key_space_bits=bits,
        effective_bits=effective_bits,
        audit_only=is_audit_only(key),
        training=_public_request(key),
        provenance=key.provenance,
        progress=key.progress if active else None,
        phase=(key.phase or None) if active else None,
        error=JobError(**key.error) if key.error else None,
        links=links,
    )


def _padded_sides(scheme: Scheme[Any, Any], key: Key, width: int | None, height: int | None) -> tuple[int, int]:
    """(height, width) of the images asked for, by default those of the key, after padding."""
    sides = height or key.height or _DEFAULT_SIDE, width or key.width or _DEFAULT_SIDE
    return catalog.padded_size(*sides, scheme.size_multiple)


def _public_request(key: Key) -> dict[str, Any] | None:
    request = key.training_request
    return request and {name: value for name, value in request.items() if name not in ("audit_only", "seed_bits")}


def is_audit_only(key: Key) -> bool:
    """Whether the settings of an evaluation name the seed of the key, so that others can train it again."""
    return bool(key.training_request and key.training_request.get("audit_only"))


def _seed_bits(key: Key) -> float:
    """What the seed of a trained key is worth to a search."""
    if is_audit_only(key):
        return 0.0
    assert key.training_request is not None
    if key.training_request["seed"] is not None:
        return _GIVEN_SEED_BITS
    return float(key.training_request.get("seed_bits", catalog.STORED_SECRET_BITS))


_PUBLIC_STATUS: dict[Status, Any] = {
    Status.QUEUED: "training",
    Status.RUNNING: "training",
    Status.CANCELLING: "cancelling",
    Status.SUCCEEDED: "ready",
    Status.FAILED: "failed",
    Status.CANCELLED: "cancelled",
}


async def export_material(
    session: AsyncSession, app_state: AppState, principal: Principal, id: str, width: int | None, height: int | None
) -> MaterialOut:
    """The key for images of one size.

    Raises UnknownKey, KeyDestroyed, KeyNotReady, UnknownScheme (another version's), NotExportable, SizeMismatch.
    """
    (key,) = await get_many(session, principal, [id])
    require_ready(key)
    scheme = make_scheme_or_422(key.scheme, key.params)
    if scheme.trains or key.encrypted_secret is None:
        raise NotExportable(f"the key is a trained network; {key.scheme} has no explicit form")
    if not scheme.has_explicit_keys:
        raise NotExportable(f"keys of {key.scheme} have no explicit form")
    sides = _padded_sides(scheme, key, width, height)
    if sides[0] * sides[1] > app_state.settings.max_pixels:
        message = (
            f"{sides[1]}x{sides[0]} has more than the {app_state.settings.max_pixels} pixels that an image may have"
        )
        raise Invalid(message, [("/query/width", message)])
    secret = app_state.keyring.open(key.encrypted_secret, purpose="key", owner=key.account_id, id=key.id)
    try:
        exported = await asyncio.to_thread(lambda: scheme.key_to_json(scheme.key(secret, *sides)))
    except catalog.SizeMismatch as error:
        raise SizeMismatch(str(error), [("/query/width", str(error))]) from None
    return MaterialOut(id=key.id, scheme=key.scheme, params=key.params, material=exported)


def require_ready(key: Key) -> None:
    """Raises KeyNotReady."""
    if key.status != Status.SUCCEEDED:
        raise KeyNotReady(f"{key.id} is {_PUBLIC_STATUS[Status(key.status)]}; {retry_hint(key)}")


def retry_hint(key: Key) -> str:
    """What to do about a key that is not ready."""
    will_be_ready = key.status in (Status.QUEUED, Status.RUNNING)
    return "wait until it is ready" if will_be_ready else "train another: POST /keys"


async def destroy(session: AsyncSession, app_state: AppState, principal: Principal, id: str) -> None:
    """Commits. Raises UnknownKey, KeyDestroyed, KeyBusy."""
    (key,) = await get_many(session, principal, [id])
    await queries.lock_for_destruction(session, id)
    await session.refresh(key)
    if key.status in ACTIVE:
        raise KeyBusy(f"cancel the training first: POST /keys/{id}/cancel")
    evaluation_id = await queries.evaluation_using(session, id)
    if evaluation_id is not None:
        raise KeyBusy(
            f"evaluation {evaluation_id} uses {id}; cancel it or wait until it ends, then delete the key again"
        )
    blob = key.weights_blob
    await queries.destroy(session, id)
    await session.commit()
    failpoints.failpoint("key-destroyed-before-blob")
    if blob is not None:  # sealed weights; what goes wrong from here on leaves them to the sweeper
        with suppress(StorageError):
            await asyncio.to_thread(app_state.blobs.delete, blob)
            failpoints.failpoint("weights-gone-before-row")
            await queries.clear_blob(session, id)
            await session.commit()


async def cancel(session: AsyncSession, principal: Principal, id: str) -> KeyOut:
    """Ask the training to stop; asking again is fine. Commits. Raises UnknownKey, KeyDestroyed, NotTraining."""
    (key,) = await get_many(session, principal, [id])
    await session.run_sync(cancellation.cancel_job, id, key.evaluation_id)
    await session.commit()
    await session.refresh(key)
    if key.status not in (Status.CANCELLING, Status.CANCELLED):
        raise NotTraining(f"{id} is {_PUBLIC_STATUS[Status(key.status)]}")
    return to_key_out(key)
