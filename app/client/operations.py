"""Every call of the service, once: what `Client` sends blocking and `AsyncClient` awaiting."""

from __future__ import annotations

import json
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Generic, Literal, TypeVar
from urllib.parse import quote

from unveil.app.client.images import Image, Images, Part, Source, Sources, parse_images, part, several
from unveil.app.client.operations_core import Caller, Item, Request, Stream, Talk
from unveil.app.client.types import Account, AccountCreated, Attack, Dataset, EvaluationHead, Ready, Scheme

T = TypeVar("T")
Named = str | Mapping[str, Any]
Profile = Literal["smoke", "quick", "paper"]

# More than the service takes in a request, by its defaults, are sent as several requests.
_FILES, _BYTES = 64, 24 * 2**20
_PAGE = 200


class Room(Caller, ABC, Generic[T]):
    """A part of the client whose answers are objects with calls of their own."""

    @abstractmethod
    def _thing(self, raw: dict[str, Any]) -> T:
        """The object of an answer."""


# --- images -----------------------------------------------------------------------------------------------------


def encrypt(
    _: Caller,
    /,
    images: Sources,
    scheme: str | None = None,
    params: Mapping[str, Any] | None = None,
    *,
    key_id: str | None = None,
) -> Talk[Images]:
    """Protect images under a fresh key, or under the one given. Paths, bytes and uint8 arrays are taken."""
    answers: list[Images] = []
    for parts in _batches(several(images)):
        form: dict[str, Any] = {"params": json.dumps(dict(params or {}))}
        if scheme is not None:
            form["scheme"] = scheme
        if answers and len(set(answers[0].key_ids)) == 1:
            key_id = answers[0].key_ids[0]  # one key for all: the later requests go on with it
        if key_id is not None:
            form["key_id"] = key_id
        answers.append((yield from _transform("/encrypt", form, parts)))
    return _joined(answers)


def decrypt(_: Caller, /, images: Sources, key_id: str | Sequence[str] | None = None) -> Talk[Images]:
    """Undo `encrypt`. Images that `encrypt` answered know their keys; others need one `key_id` or one each."""
    sources = several(images)
    keys = _keys_for(sources, key_id)
    answers: list[Images] = []
    for parts in _batches(sources):
        done = sum(map(len, answers))
        answers.append((yield from _transform("/decrypt", {"key_id": keys[done : done + len(parts)]}, parts)))
    return _joined(answers)


def _transform(path: str, form: dict[str, Any], parts: list[Part]) -> Talk[Images]:
    response = yield Request("POST", path, data=form, files=lambda: [("images", part) for part in parts])
    answer = parse_images(response.json())
    # by the names that were given: a form cannot carry each letter, and the service cuts long ones
    named = tuple(replace(image, filename=name) for image, (name, *_) in zip(answer, parts, strict=True))
    return replace(answer, images=named)


def _batches(sources: list[Source]) -> Iterator[list[Part]]:
    batch: list[Part] = []
    size = 0
    for index, source in enumerate(sources):
        next_part = part(source, index)
        if batch and (len(batch) == _FILES or size + len(next_part[1]) > _BYTES):
            yield batch
            batch, size = [], 0
        batch.append(next_part)
        size += len(next_part[1])
    if batch:
        yield batch


def _keys_for(images: list[Source], key_id: str | Sequence[str] | None) -> list[str]:
    if key_id is None:
        keys = [image.key_id for image in images if isinstance(image, Image)]
    elif isinstance(key_id, str):
        keys = [key_id] * len(images)
    else:
        keys = list(key_id)
    if len(keys) != len(images):
        raise ValueError(f"{len(images)} images need one key id, or one each; got {len(keys)}")
    return keys


def _joined(answers: list[Images]) -> Images:
    if not answers:
        raise ValueError("no images were given")
    return Images(answers[0].scheme, answers[0].params, tuple(image for answer in answers for image in answer))


# --- what there is ----------------------------------------------------------------------------------------------


def schemes(_: Caller, /, width: int = 96, height: int = 96) -> Talk[list[Scheme]]:
    """Every scheme: parameters, key space for this image size, the paper's numbers."""
    response = yield Request("GET", "/schemes", params={"width": width, "height": height})
    return list(response.json()["items"])


def attacks(_: Caller, /) -> Talk[list[Attack]]:
    """Every attack: parameters, threat model, the schemes it applies to."""
    response = yield Request("GET", "/attacks")
    return list(response.json()["items"])


def ready(_: Caller, /) -> Talk[Ready]:
    """What the service says of its parts. Raises ServerProblem when one is away."""
    response = yield Request("GET", "/health/ready")
    answer: Ready = response.json()
    return answer


# --- keys -------------------------------------------------------------------------------------------------------


def create_key(
    keys: Room[T],
    /,
    scheme: str,
    params: Mapping[str, Any] | None = None,
    material: Mapping[str, Any] | None = None,
    *,
    idempotency_key: str | None = None,
) -> Talk[T]:
    """Draw a key, or keep the one that `material` spells out. That of a network is trained: `wait` for it."""
    order: dict[str, Any] = {"scheme": scheme, "params": dict(params or {})}
    if material is not None:
        order["material"] = dict(material)
    response = yield Request("POST", "/keys", json=order, headers=_once(idempotency_key))
    return keys._thing(response.json())


def get_key(keys: Room[T], /, id: str) -> Talk[T]:
    """One key, never its secret."""
    response = yield Request("GET", _at("keys", id))
    return keys._thing(response.json())


def list_keys(keys: Room[T], /) -> Stream[T]:
    """Your keys, newest first."""
    return _pages("/keys", keys._thing)


def delete_key(_: Caller, /, id: str) -> Talk[None]:
    """Destroy the key: what it protects is lost."""
    yield Request("DELETE", _at("keys", id))


# --- datasets ---------------------------------------------------------------------------------------------------


def get_dataset(_: Caller, /, id: str) -> Talk[Dataset]:
    """One dataset, by the name of a built-in one or the id of an upload."""
    response = yield Request("GET", _at("datasets", id))
    answer: Dataset = response.json()
    return answer


def list_datasets(_: Caller, /) -> Stream[Dataset]:
    """Built-in sets, the operator's folders, then uploads."""
    return _pages("/datasets", _plain)


def upload_dataset(
    _: Caller,
    /,
    archive: str | Path,
    name: str | None = None,
    *,
    kind: Literal["plain", "protected"] = "plain",
    originals: str | Path | None = None,
    size: int = 96,
    seed: int = 0,
    idempotency_key: str | None = None,
) -> Talk[Dataset]:
    """Upload a zip, or a folder, of class folders (below train/ and test/, if you have them)."""
    paths = {"archive": Path(archive)} | ({} if originals is None else {"originals": Path(originals)})
    form = {
        "name": Path(archive).absolute().stem if name is None else name,
        "kind": kind,
        "size": str(size),
        "seed": str(seed),
    }
    with ExitStack() as opened:

        def files() -> dict[str, Any]:
            opened.close()
            return {field: (f"{path.stem}.zip", opened.enter_context(_zipped(path))) for field, path in paths.items()}

        response = yield Request("POST", "/datasets", data=form, files=files, headers=_once(idempotency_key))
    answer: Dataset = response.json()
    return answer


def delete_dataset(_: Caller, /, id: str) -> Talk[None]:
    """Delete an upload. Evaluations that used it keep their results."""
    yield Request("DELETE", _at("datasets", id))


@contextmanager
def _zipped(path: Path) -> Iterator[IO[bytes]]:
    """The zip, or the folder as one: on disk, for it may be large."""
    if not path.is_dir():
        with path.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as made:
        # stored as they are: images are compressed already; and a file may be older than a zip can say
        with zipfile.ZipFile(made, "w", strict_timestamps=False) as archive:
            for member in sorted(path.rglob("*")):
                if member.is_file():
                    archive.write(member, member.relative_to(path))
        made.seek(0)
        yield made


# --- evaluations ------------------------------------------------------------------------------------------------


def create_evaluation(
    evaluations: Room[T],
    /,
    *,
    schemes: Sequence[Named],
    attacks: Sequence[Named],
    dataset: str | None = "sample",
    name: str | None = None,
    profile: Profile = "quick",
    idempotency_key: str | None = None,
    **settings: Any,
) -> Talk[T]:
    """Order schemes x attacks on a dataset. A scheme or an attack is a name or a mapping with its settings.

    settings: seed, keys, samples, public_dataset, utility, ssim_mode. With `idempotency_key` a second call of the same
    order answers the first evaluation.
    """
    order = {
        "schemes": [_named(scheme) for scheme in schemes],
        "attacks": [_named(attack) for attack in attacks],
        "dataset": dataset,
        "profile": profile,
        **settings,
    }
    if name is not None:
        order["name"] = name
    response = yield Request("POST", "/evaluations", json=order, headers=_once(idempotency_key))
    return evaluations._thing(response.json())


def get_evaluation(evaluations: Room[T], /, id: str) -> Talk[T]:
    """One evaluation with its cells."""
    response = yield Request("GET", _at("evaluations", id))
    return evaluations._thing(response.json())


def list_evaluations(_: Caller, /) -> Stream[EvaluationHead]:
    """Newest first, without their cells."""
    return _pages("/evaluations", _plain)


def _named(thing: Named) -> dict[str, Any]:
    return {"name": thing} if isinstance(thing, str) else dict(thing)


# --- accounts, for administrators -------------------------------------------------------------------------------


def create_account(_: Caller, /, name: str, scopes: Sequence[str]) -> Talk[AccountCreated]:
    """Make an account. Its token is in this answer and nowhere else."""
    response = yield Request("POST", "/accounts", json={"name": name, "scopes": list(scopes)})
    answer: AccountCreated = response.json()
    return answer


def list_accounts(_: Caller, /) -> Stream[Account]:
    """Newest first, revoked ones too."""
    return _pages("/accounts", _plain)


def revoke_account(_: Caller, /, account: str) -> Talk[None]:
    """End an account's tokens and sessions, by its name or id; what it owns stays."""
    yield Request("DELETE", _at("accounts", account))


# --- what they share --------------------------------------------------------------------------------------------


def _pages(path: str, made: Callable[[dict[str, Any]], T]) -> Stream[T]:
    """Every item of a list, page by page as they are needed."""
    params: dict[str, Any] = {"limit": _PAGE}
    while True:
        response = yield Request("GET", path, params=params)
        page = response.json()
        for item in page["items"]:
            yield Item(made(item))
        if page.get("next") is None:
            return
        params = {**params, "cursor": page["next"]}


def _at(room: str, id: str) -> str:
    """The address of a thing. What is no id must not lead to another address: dots count in a path."""
    return f"/{room}/{quote(id, safe='').replace('.', '%2E')}"


def _plain(item: Any) -> Any:
    return item


def _once(idempotency_key: str | None) -> dict[str, str]:
    return {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
