"""`Client`: the whole service as Python objects."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from app.client.evaluation import Evaluation
from app.client.images import Image, Images, Source, parse_images, part
from app.client.transport import Transport

# The service's default limit of files a request; more are sent as several requests.
_BATCH = 64

Named = str | Mapping[str, Any]


class Client:
    """A connection to an Unveil service.

    url and token fall back on UNVEIL_URL and UNVEIL_TOKEN. `retries` counts the further tries after a lost
    connection, 429, 502, 503 or 504; Retry-After is honoured.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, *, timeout: float = 120.0, retries: int = 5
    ) -> None:
        url = url or os.environ.get("UNVEIL_URL", "http://127.0.0.1:8000")
        self._transport = Transport(url, token or os.environ.get("UNVEIL_TOKEN"), timeout=timeout, retries=retries)
        self.keys = Keys(self._transport)
        self.datasets = Datasets(self._transport)
        self.evaluations = Evaluations(self._transport)

    @property
    def url(self) -> str:
        return self._transport.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    def encrypt(
        self,
        images: Sequence[Source],
        scheme: str | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        key_id: str | None = None,
    ) -> Images:
        """Protect images under a fresh key, or under the one given. Paths, bytes and uint8 arrays are taken."""
        answers: list[Images] = []
        for start in range(0, len(images), _BATCH):
            batch = images[start : start + _BATCH]
            form: dict[str, Any] = {"params": json.dumps(dict(params or {}))}
            if scheme is not None:
                form["scheme"] = scheme
            if answers and len(set(answers[0].key_ids)) == 1:
                key_id = answers[0].key_ids[0]  # one key for all: the later requests go on with it
            if key_id is not None:
                form["key_id"] = key_id
            answers.append(self._transform("/encrypt", batch, start, form))
        return _joined(answers)

    def decrypt(self, images: Sequence[Source], key_id: str | Sequence[str] | None = None) -> Images:
        """Undo `encrypt`. Images that `encrypt` answered know their keys; others need one `key_id` or one each."""
        keys = _keys_for(images, key_id)
        answers = []
        for start in range(0, len(images), _BATCH):
            end = start + _BATCH
            answers.append(self._transform("/decrypt", images[start:end], start, {"key_id": keys[start:end]}))
        return _joined(answers)

    def schemes(self, width: int = 96, height: int = 96) -> list[dict[str, Any]]:
        """Every scheme: parameters, key space for this image size, the paper's numbers."""
        return list(self._get("/schemes", params={"width": width, "height": height})["items"])

    def attacks(self) -> list[dict[str, Any]]:
        """Every attack: parameters, threat model, the schemes it applies to."""
        return list(self._get("/attacks")["items"])

    def ready(self) -> dict[str, Any]:
        """What the service says of its parts. Raises ServerProblem when one is away."""
        return self._get("/health/ready")

    def _get(self, path: str, **options: Any) -> dict[str, Any]:
        return dict(self._transport.request("GET", path, **options).json())

    def _transform(self, path: str, batch: Sequence[Source], first: int, form: dict[str, Any]) -> Images:
        parts = [("images", part(source, first + i)) for i, source in enumerate(batch)]
        return parse_images(self._transport.request("POST", path, data=form, files=lambda: parts).json())


class Keys:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, scheme: str, params: Mapping[str, Any] | None = None, material: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """A key from explicit material, or (202, status training) a trained one."""
        order: dict[str, Any] = {"scheme": scheme, "params": dict(params or {})}
        if material is not None:
            order["material"] = dict(material)
        return dict(self._transport.request("POST", "/keys", json=order).json())

    def get(self, id: str) -> dict[str, Any]:
        return dict(self._transport.request("GET", f"/keys/{id}").json())

    def list(self) -> Iterator[dict[str, Any]]:
        return _pages(self._transport, "/keys")

    def material(self, id: str) -> dict[str, Any]:
        """The secret itself; the token needs the scope keys:export."""
        return dict(self._transport.request("GET", f"/keys/{id}/material").json())

    def delete(self, id: str) -> None:
        """Destroy the key: what it protects is lost."""
        self._transport.request("DELETE", f"/keys/{id}")


class Datasets:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, id: str) -> dict[str, Any]:
        return dict(self._transport.request("GET", f"/datasets/{id}").json())

    def list(self) -> Iterator[dict[str, Any]]:
        """Built-in sets, the operator's folders, then uploads."""
        return _pages(self._transport, "/datasets")

    def upload(
        self,
        archive: str | Path,
        name: str | None = None,
        *,
        kind: Literal["plain", "protected"] = "plain",
        originals: str | Path | None = None,
        size: int = 96,
        seed: int = 0,
    ) -> dict[str, Any]:
        """Upload a zip of class folders (below train/ and test/, if you have them). It is streamed from disk."""
        paths = {"archive": Path(archive)} | ({} if originals is None else {"originals": Path(originals)})
        form = {"name": name or Path(archive).stem, "kind": kind, "size": str(size), "seed": str(seed)}
        with ExitStack() as open_files:

            def files() -> dict[str, Any]:
                open_files.pop_all().close()
                return {field: (p.name, open_files.enter_context(p.open("rb"))) for field, p in paths.items()}

            return dict(self._transport.request("POST", "/datasets", data=form, files=files).json())

    def delete(self, id: str) -> None:
        self._transport.request("DELETE", f"/datasets/{id}")


class Evaluations:
    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        *,
        schemes: Sequence[Named],
        attacks: Sequence[Named],
        dataset: str = "sample",
        name: str = "",
        profile: Literal["smoke", "quick", "paper"] = "quick",
        **settings: Any,
    ) -> Evaluation:
        """Order schemes x attacks on a dataset. A scheme or an attack is a name or a mapping with its settings."""
        order = {
            "schemes": [_named(scheme) for scheme in schemes],
            "attacks": [_named(attack) for attack in attacks],
            "dataset": dataset,
            "profile": profile,
            **settings,
        }
        if name:
            order["name"] = name
        response = self._transport.request("POST", "/evaluations", json=order)
        return Evaluation(response.json(), self._transport)

    def get(self, id: str) -> Evaluation:
        return Evaluation(self._transport.request("GET", f"/evaluations/{id}").json(), self._transport)

    def list(self) -> Iterator[dict[str, Any]]:
        """Newest first."""
        return _pages(self._transport, "/evaluations")


def _named(thing: Named) -> dict[str, Any]:
    return {"name": thing} if isinstance(thing, str) else dict(thing)


def _pages(transport: Transport, path: str) -> Iterator[dict[str, Any]]:
    """Every item of a list, page by page as they are needed."""
    params: dict[str, Any] = {"limit": 200}
    while True:
        page = transport.request("GET", path, params=params).json()
        yield from page["items"]
        if page.get("next") is None:
            return
        params["cursor"] = page["next"]


def _keys_for(images: Sequence[Source], key_id: str | Sequence[str] | None) -> list[str]:
    if key_id is None:
        keys = [image.key_id for image in images if isinstance(image, Image)]
    elif isinstance(key_id, str):
        keys = [key_id] * len(images)
    else:
        keys = list(key_id)
    if len(keys) != len(images):
        raise ValueError(f"{len(images)} images need one key id, or one each; got {len(keys)}")
    return keys


def _joined(answers: Sequence[Images]) -> Images:
    if not answers:
        raise ValueError("no images were given")
    return Images(answers[0].scheme, answers[0].params, tuple(image for answer in answers for image in answer))
