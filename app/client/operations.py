"""The operations of the service, once: `AsyncClient` has them as methods, `Client` through `transport.blocking`."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast
from urllib.parse import quote

from unveil.app.client.images import (
    Image,
    Images,
    ImageSource,
    ImageSources,
    MultipartFile,
    as_list,
    parse_images,
    read_key_id,
    to_multipart,
    to_utf8_name,
)
from unveil.app.client.options import Profile
from unveil.app.client.transport import BoundClient, Transport
from unveil.app.client.types import (
    Account,
    AccountCreated,
    Attack,
    Dataset,
    EvaluationEstimate,
    EvaluationSummary,
    JsonWebKey,
    Readiness,
    Scheme,
)

if TYPE_CHECKING:
    from unveil.app.report.board import Board

T = TypeVar("T")
SpecLike = str | Mapping[str, Any]

# The service's default limits of one request; more images are sent in several requests.
_MAX_FILES_PER_REQUEST, _MAX_BYTES_PER_REQUEST = 64, 24 * 2**20
_PAGE_SIZE = 200


class Collection(BoundClient, Generic[T]):
    """A part of the client that returns objects with operations of their own."""

    _item: Callable[[dict[str, Any], Transport], T]

    def _parse(self, raw: dict[str, Any]) -> T:
        return self._item(raw, self._transport)


# --- images -----------------------------------------------------------------------------------------------------


async def encrypt(
    client: BoundClient,
    /,
    images: ImageSources,
    scheme: str | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    key_id: str | None = None,
    allow_audit_key: bool = False,
) -> Images:
    """Encrypt images under a new key, or under the one given.

    Images are paths, bytes, open files, PIL images, and uint8 arrays or tensors. allow_audit_key: use a key with
    `audit_only`, whose seed is not secret.
    """
    results: list[Images] = []
    for parts in _split_batches(as_list(images)):
        form: dict[str, Any] = {"params": json.dumps(dict(params or {}))}
        if scheme is not None:
            form["scheme"] = scheme
        if results and len(set(results[0].key_ids)) == 1:
            key_id = results[0].key_ids[0]  # one key for all: the later requests go on with it
        if key_id is not None:
            form["key_id"] = key_id
        if allow_audit_key:
            form["allow_audit_key"] = "true"
        results.append(await _transform(client, "/encrypt", form, parts))
    return _join_images(results)


async def decrypt(
    client: BoundClient,
    /,
    images: ImageSources,
    key_id: str | Sequence[str] | None = None,
    *,
    allow_changed: bool = False,
) -> Images:
    """Decrypt images. Encrypted PNGs and results of `encrypt` name their keys; others need one `key_id` or one each.

    allow_changed: decrypt even if an image was changed or belongs to another key.
    """
    sources = as_list(images)
    keys = _resolve_key_ids(sources, key_id)
    results: list[Images] = []
    for knows_size, group in groupby(sources, lambda source: isinstance(source, Image)):
        members = list(group)
        for parts in _split_batches(members, first=sum(map(len, results))):
            offset = sum(map(len, results))
            form: dict[str, Any] = {"key_id": keys[offset : offset + len(parts)]}
            if knows_size:  # survives programs that drop the text of a PNG
                batch = [source for source in sources[offset : offset + len(parts)] if isinstance(source, Image)]
                form |= {
                    "original_width": [str(image.original_width) for image in batch],
                    "original_height": [str(image.original_height) for image in batch],
                }
            if allow_changed:
                form["allow_changed"] = "true"
            results.append(await _transform(client, "/decrypt", form, parts))
    return _join_images(results)


async def _transform(client: BoundClient, path: str, form: dict[str, Any], parts: list[MultipartFile]) -> Images:
    response = await client._transport.request(
        "POST", path, data=form, files=lambda: [("images", part) for part in parts]
    )
    result = parse_images(response.json())
    # under the original names: a form cannot hold every character, and the service shortens long names
    images = tuple(replace(image, filename=name) for image, (name, *_) in zip(result, parts, strict=True))
    return replace(result, images=images)


def _split_batches(sources: list[ImageSource], first: int = 0) -> Iterator[list[MultipartFile]]:
    batch: list[MultipartFile] = []
    size = 0
    for index, source in enumerate(sources, first):
        multipart_file = to_multipart(source, index)
        if batch and (len(batch) == _MAX_FILES_PER_REQUEST or size + len(multipart_file[1]) > _MAX_BYTES_PER_REQUEST):
            yield batch
            batch, size = [], 0
        batch.append(multipart_file)
        size += len(multipart_file[1])
    if batch:
        yield batch


def _resolve_key_ids(images: list[ImageSource], key_id: str | Sequence[str] | None) -> list[str]:
    if key_id is None:
        keys = [id for id in map(read_key_id, images) if id is not None]
    elif isinstance(key_id, str):
        keys = [key_id] * len(images)
    else:
        keys = list(key_id)
    if len(keys) != len(images):
        raise ValueError(f"{len(images)} images need one key id, or one each; got {len(keys)}")
    return keys


def _join_images(results: list[Images]) -> Images:
    if not results:
        raise ValueError("no images were given")
    return Images(results[0].scheme, results[0].params, tuple(image for result in results for image in result))


# --- the catalog -------------------------------------------------------------------------------------------------


async def schemes(client: BoundClient, /, width: int = 96, height: int = 96) -> list[Scheme]:
    """Every scheme: parameters, key space for this image size, the paper's numbers."""
    response = await client._transport.request("GET", "/schemes", params={"width": width, "height": height})
    return list(response.json()["items"])


async def attacks(client: BoundClient, /) -> list[Attack]:
    """Every attack: parameters, threat model, the schemes it applies to."""
    response = await client._transport.request("GET", "/attacks")
    return list(response.json()["items"])


async def board(
    client: BoundClient,
    /,
    dataset: str | None = None,
    profile: Profile | None = None,
    threat_model: str | None = None,
) -> Board:
    """Schemes compared across finished evaluations. dataset: a name or SHA-256; the default has the most evaluations.

    Evaluations join the board a few at a time: call again while `pending` is above 0.
    """
    from unveil.app.report.board import Board  # the package of reports, which few commands need

    params = {"dataset": dataset, "profile": profile, "threat_model": threat_model}
    given = {name: value for name, value in params.items() if value is not None}
    return Board.from_json((await client._transport.request("GET", "/board", params=given)).json())


async def signing_keys(client: BoundClient, /) -> list[JsonWebKey]:
    """The public keys that reports are signed with, the current one first."""
    return list((await client._transport.request("GET", "/.well-known/jwks.json")).json()["keys"])


async def ready(client: BoundClient, /) -> Readiness:
    """The state of the service's components. Raises ServerProblem if one does not answer."""
    return cast(Readiness, (await client._transport.request("GET", "/health/ready")).json())


# --- keys -------------------------------------------------------------------------------------------------------


async def create_key(
    keys: Collection[T],
    /,
    scheme: str,
    params: Mapping[str, Any] | None = None,
    material: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None = None,
) -> T:
    """Draw a key, or store the one in `material`. The key of a network is trained: `wait` for it."""
    body: dict[str, Any] = {"scheme": scheme, "params": dict(params or {})}
    if material is not None:
        body["material"] = dict(material)
    headers = _idempotency_headers(idempotency_key)
    response = await keys._transport.request("POST", "/keys", json=body, headers=headers)
    return keys._parse(response.json())


async def get_key(keys: Collection[T], /, id: str) -> T:
    """One key, without its secret."""
    response = await keys._transport.request("GET", resource_path("keys", id))
    return keys._parse(response.json())


def list_keys(keys: Collection[T], /) -> AsyncGenerator[T]:
    """Your keys, newest first."""
    return iterate_pages(keys, "/keys", keys._parse)


async def delete_key(client: BoundClient, /, id: str) -> None:
    """Destroy the key. Images that it protects can no longer be decrypted."""
    await client._transport.request("DELETE", resource_path("keys", id))


# --- datasets ---------------------------------------------------------------------------------------------------


async def get_dataset(client: BoundClient, /, id: str) -> Dataset:
    """One dataset, by the name of a built-in one or the id of an upload."""
    return cast(Dataset, (await client._transport.request("GET", resource_path("datasets", id))).json())


def list_datasets(client: BoundClient, /) -> AsyncGenerator[Dataset]:
    """Built-in datasets, the operator's folders, then your uploads."""
    return iterate_pages(client, "/datasets", _identity)


async def upload_dataset(
    client: BoundClient,
    /,
    archive: str | Path,
    name: str | None = None,
    *,
    kind: Literal["plain", "protected", "reconstructed"] = "plain",
    originals: str | Path | None = None,
    size: int = 96,
    seed: int = 0,
    idempotency_key: str | None = None,
) -> Dataset:
    """Upload a zip, or a folder, of class folders (below train/ and test/, if you have them), or a .npy or .npz."""
    sources = {"archive": archive} if originals is None else {"archive": archive, "originals": originals}
    paths = {field: Path(source).absolute() for field, source in sources.items()}  # noqa: ASYNC240
    form = {"name": paths["archive"].stem if name is None else name, "kind": kind, "size": str(size), "seed": str(seed)}
    with ExitStack() as stack:

        def files() -> dict[str, Any]:
            stack.close()
            return {
                field: (f"{path.stem}.zip", stack.enter_context(_open_as_zip(path))) for field, path in paths.items()
            }

        headers = _idempotency_headers(idempotency_key)
        response = await client._transport.request("POST", "/datasets", data=form, files=files, headers=headers)
    return cast(Dataset, response.json())


async def delete_dataset(client: BoundClient, /, id: str) -> None:
    """Delete an upload. Evaluations that used it keep their results."""
    await client._transport.request("DELETE", resource_path("datasets", id))


@contextmanager
def _open_as_zip(path: Path) -> Iterator[IO[bytes]]:
    """The zip, or the folder as one: on disk, for it may be large."""
    if not path.is_dir():
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as buffer:
        # stored uncompressed, because images are compressed; a file may be older than the zip format can express
        with zipfile.ZipFile(buffer, "w", strict_timestamps=False) as archive:
            for member in _walk_files(path):
                archive.write(member, to_utf8_name(str(member.relative_to(path))))
        buffer.seek(0)
        yield buffer


def _walk_files(folder: Path, parents: tuple[str, ...] = ()) -> Iterator[Path]:
    """The files below a folder. Follows links, but not in circles."""
    real = os.path.realpath(folder)
    if real not in parents:
        for entry in sorted(folder.iterdir()):
            if entry.is_dir():
                yield from _walk_files(entry, (*parents, real))
            elif entry.is_file():
                yield entry


# --- evaluations ------------------------------------------------------------------------------------------------


async def estimate_evaluation(
    client: BoundClient,
    /,
    *,
    schemes: SpecLike | Sequence[SpecLike],
    attacks: SpecLike | Sequence[SpecLike],
    dataset: str | None = "sample",
    profile: Profile = "quick",
    **settings: Any,
) -> EvaluationEstimate:
    """What `create` with these arguments would run and cost, and what the account has left. Creates nothing."""
    body = _evaluation_request(schemes, attacks, dataset, profile, settings)
    response = await client._transport.request("POST", "/evaluations/estimate", json=body)
    return cast("EvaluationEstimate", response.json())


async def create_evaluation(
    evaluations: Collection[T],
    /,
    *,
    schemes: SpecLike | Sequence[SpecLike],
    attacks: SpecLike | Sequence[SpecLike],
    dataset: str | None = "sample",
    name: str | None = None,
    profile: Profile = "quick",
    idempotency_key: str | None = None,
    **settings: Any,
) -> T:
    """Create an evaluation. A scheme or an attack is a name, or a mapping with its settings.

    settings: seed, keys, samples, public_dataset, utility, ssim_mode. With `idempotency_key` a second call of the same
    request returns the first evaluation.
    """
    body = _evaluation_request(schemes, attacks, dataset, profile, settings)
    if name is not None:
        body["name"] = name
    headers = _idempotency_headers(idempotency_key)
    response = await evaluations._transport.request("POST", "/evaluations", json=body, headers=headers)
    return evaluations._parse(response.json())


def _evaluation_request(
    schemes: SpecLike | Sequence[SpecLike],
    attacks: SpecLike | Sequence[SpecLike],
    dataset: str | None,
    profile: Profile,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "schemes": _to_entries(schemes),
        "attacks": _to_entries(attacks),
        "dataset": dataset,
        "profile": profile,
        **settings,
    }


async def get_evaluation(evaluations: Collection[T], /, id: str) -> T:
    """One evaluation with its cells."""
    response = await evaluations._transport.request("GET", resource_path("evaluations", id))
    return evaluations._parse(response.json())


def list_evaluations(
    client: BoundClient, /, *, q: str = "", status: str = "", scheme: str = "", dataset: str = "", tag: str = ""
) -> AsyncGenerator[EvaluationSummary]:
    """Newest first, without their cells. q: part of the name, of the notes or of a tag. dataset: name or id."""
    chosen = {"q": q, "status": status, "scheme": scheme, "dataset": dataset, "tag": tag}
    given = {name: value for name, value in chosen.items() if value}
    return iterate_pages(client, "/evaluations", _identity, given)


def _to_entries(specs: SpecLike | Sequence[SpecLike]) -> list[dict[str, Any]]:
    if isinstance(specs, (str, Mapping)):
        specs = [specs]
    return [{"name": spec} if isinstance(spec, str) else dict(spec) for spec in specs]


# --- accounts, for administrators -------------------------------------------------------------------------------


async def create_account(client: BoundClient, /, name: str, scopes: Sequence[str]) -> AccountCreated:
    """Create an account. Only this response contains its token."""
    body = {"name": name, "scopes": list(scopes)}
    return cast(AccountCreated, (await client._transport.request("POST", "/accounts", json=body)).json())


def list_accounts(client: BoundClient, /) -> AsyncGenerator[Account]:
    """All accounts, newest first, including revoked accounts."""
    return iterate_pages(client, "/accounts", _identity)


async def revoke_account(client: BoundClient, /, account: str) -> None:
    """Revoke an account, by name or id: its tokens, sessions and jobs end."""
    await client._transport.request("DELETE", resource_path("accounts", account))


# --- shared helpers ---------------------------------------------------------------------------------------------


async def iterate_pages(
    client: BoundClient, path: str, parse: Callable[[dict[str, Any]], T], chosen: Mapping[str, str] | None = None
) -> AsyncGenerator[T]:
    """Every item of a list; pages are requested as they are needed."""
    params: dict[str, Any] = {"limit": _PAGE_SIZE, **(chosen or {})}
    while True:
        page = (await client._transport.request("GET", path, params=params)).json()
        for item in page["items"]:
            yield parse(item)
        if page.get("next") is None:
            return
        params = {**params, "cursor": page["next"]}


def resource_path(collection: str, id: str) -> str:
    """The path of a resource. Dots are escaped, so that an invalid id cannot lead to another path."""
    return f"/{collection}/{quote(id, safe='').replace('.', '%2E')}"


def _identity(item: Any) -> Any:
    return item


def _idempotency_headers(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
