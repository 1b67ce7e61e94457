"""`Client` and `AsyncClient`: the HTTP API as Python objects. The operations are defined in `client.operations`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unveil.app.client import operations
from unveil.app.client.config import find
from unveil.app.client.evaluation import AsyncEvaluation, Evaluation
from unveil.app.client.key import AsyncKey, Key
from unveil.app.client.operations import Room
from unveil.app.client.operations_core import Caller
from unveil.app.client.transport import AsyncWire, Wire, async_iterating, awaiting, blocking, iterating


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

    encrypt = blocking(operations.encrypt)
    decrypt = blocking(operations.decrypt)
    schemes = blocking(operations.schemes)
    attacks = blocking(operations.attacks)
    ready = blocking(operations.ready)

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
    create = blocking(operations.create_key)
    get = blocking(operations.get_key)
    list = iterating(operations.list_keys)
    delete = blocking(operations.delete_key)

    def _thing(self, raw: dict[str, Any]) -> Key:
        return Key(raw, self._wire)


class Datasets(_Part):
    upload = blocking(operations.upload_dataset)
    get = blocking(operations.get_dataset)
    list = iterating(operations.list_datasets)
    delete = blocking(operations.delete_dataset)


class Evaluations(_Part, Room[Evaluation]):
    create = blocking(operations.create_evaluation)
    get = blocking(operations.get_evaluation)
    list = iterating(operations.list_evaluations)

    def _thing(self, raw: dict[str, Any]) -> Evaluation:
        return Evaluation(raw, self._wire)


class Accounts(_Part):
    create = blocking(operations.create_account)
    list = iterating(operations.list_accounts)
    revoke = blocking(operations.revoke_account)


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

    encrypt = awaiting(operations.encrypt)
    decrypt = awaiting(operations.decrypt)
    schemes = awaiting(operations.schemes)
    attacks = awaiting(operations.attacks)
    ready = awaiting(operations.ready)

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
    create = awaiting(operations.create_key)
    get = awaiting(operations.get_key)
    list = async_iterating(operations.list_keys)
    delete = awaiting(operations.delete_key)

    def _thing(self, raw: dict[str, Any]) -> AsyncKey:
        return AsyncKey(raw, self._wire)


class AsyncDatasets(_Part):
    upload = awaiting(operations.upload_dataset)
    get = awaiting(operations.get_dataset)
    list = async_iterating(operations.list_datasets)
    delete = awaiting(operations.delete_dataset)


class AsyncEvaluations(_Part, Room[AsyncEvaluation]):
    create = awaiting(operations.create_evaluation)
    get = awaiting(operations.get_evaluation)
    list = async_iterating(operations.list_evaluations)

    def _thing(self, raw: dict[str, Any]) -> AsyncEvaluation:
        return AsyncEvaluation(raw, self._wire)


class AsyncAccounts(_Part):
    create = awaiting(operations.create_account)
    list = async_iterating(operations.list_accounts)
    revoke = awaiting(operations.revoke_account)
