"""`Client` and `AsyncClient`: the whole service as Python objects. What a call does stands in `app.client.calls`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.client import calls
from app.client.address import find
from app.client.calls import Room
from app.client.evaluation import AsyncEvaluation, Evaluation
from app.client.key import AsyncKey, Key
from app.client.talk import Caller
from app.client.wire import AsyncWire, Wire, async_iterating, awaiting, blocking, iterating


class Client(Caller):
    """A connection to an Unveil service, blocking.

    url and token fall back on those of `local`, the state folder of an `unveil local`, then on UNVEIL_URL and
    UNVEIL_TOKEN. `retries` counts the further tries after a lost connection, 429, 502, 503 or 504; Retry-After is
    honoured. Raises ValueError where the address is none, OSError where `local` is no such folder.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        local: str | Path | None = None,
        timeout: float = 120.0,
        retries: int = 5,
    ) -> None:
        self._wire = Wire(find(url, token, local=local, timeout=timeout, retries=retries))
        self.keys = Keys(self._wire)
        self.datasets = Datasets(self._wire)
        self.evaluations = Evaluations(self._wire)
        self.accounts = Accounts(self._wire)

    encrypt = blocking(calls.encrypt)
    decrypt = blocking(calls.decrypt)
    schemes = blocking(calls.schemes)
    attacks = blocking(calls.attacks)
    ready = blocking(calls.ready)

    @property
    def url(self) -> str:
        return str(self._wire.address.url)

    def close(self) -> None:
        self._wire.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Part(Caller):
    def __init__(self, wire: Wire | AsyncWire) -> None:
        self._wire = wire


class Keys(_Part, Room[Key]):
    create = blocking(calls.create_key)
    get = blocking(calls.get_key)
    list = iterating(calls.list_keys)
    delete = blocking(calls.delete_key)

    def _thing(self, raw: dict[str, Any]) -> Key:
        return Key(raw, self._wire)


class Datasets(_Part):
    upload = blocking(calls.upload_dataset)
    get = blocking(calls.get_dataset)
    list = iterating(calls.list_datasets)
    delete = blocking(calls.delete_dataset)


class Evaluations(_Part, Room[Evaluation]):
    create = blocking(calls.create_evaluation)
    get = blocking(calls.get_evaluation)
    list = iterating(calls.list_evaluations)

    def _thing(self, raw: dict[str, Any]) -> Evaluation:
        return Evaluation(raw, self._wire)


class Accounts(_Part):
    create = blocking(calls.create_account)
    list = iterating(calls.list_accounts)
    revoke = blocking(calls.revoke_account)


class AsyncClient(Caller):
    """The same, awaiting: `async with AsyncClient() as unveil: await unveil.encrypt(...)`."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        local: str | Path | None = None,
        timeout: float = 120.0,
        retries: int = 5,
    ) -> None:
        self._wire = AsyncWire(find(url, token, local=local, timeout=timeout, retries=retries))
        self.keys = AsyncKeys(self._wire)
        self.datasets = AsyncDatasets(self._wire)
        self.evaluations = AsyncEvaluations(self._wire)
        self.accounts = AsyncAccounts(self._wire)

    encrypt = awaiting(calls.encrypt)
    decrypt = awaiting(calls.decrypt)
    schemes = awaiting(calls.schemes)
    attacks = awaiting(calls.attacks)
    ready = awaiting(calls.ready)

    @property
    def url(self) -> str:
        return str(self._wire.address.url)

    async def close(self) -> None:
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class AsyncKeys(_Part, Room[AsyncKey]):
    create = awaiting(calls.create_key)
    get = awaiting(calls.get_key)
    list = async_iterating(calls.list_keys)
    delete = awaiting(calls.delete_key)

    def _thing(self, raw: dict[str, Any]) -> AsyncKey:
        return AsyncKey(raw, self._wire)


class AsyncDatasets(_Part):
    upload = awaiting(calls.upload_dataset)
    get = awaiting(calls.get_dataset)
    list = async_iterating(calls.list_datasets)
    delete = awaiting(calls.delete_dataset)


class AsyncEvaluations(_Part, Room[AsyncEvaluation]):
    create = awaiting(calls.create_evaluation)
    get = awaiting(calls.get_evaluation)
    list = async_iterating(calls.list_evaluations)

    def _thing(self, raw: dict[str, Any]) -> AsyncEvaluation:
        return AsyncEvaluation(raw, self._wire)


class AsyncAccounts(_Part):
    create = awaiting(calls.create_account)
    list = async_iterating(calls.list_accounts)
    revoke = awaiting(calls.revoke_account)
