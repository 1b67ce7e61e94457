"""`Client` and `AsyncClient`: the HTTP API as Python objects. The operations are defined in `client.operations`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from unveil.app.client import operations
from unveil.app.client.config import resolve_config
from unveil.app.client.evaluation import AsyncEvaluation, Evaluation
from unveil.app.client.key import AsyncKey, Key
from unveil.app.client.operations import Collection
from unveil.app.client.operations_core import BoundClient
from unveil.app.client.transport import (
    AsyncTransport,
    SyncTransport,
    async_iterator_method,
    async_method,
    sync_iterator_method,
    sync_method,
)


class Client(BoundClient):
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
        self._transport = SyncTransport(resolve_config(url, token, local=local, timeout=timeout, retries=retries))
        self.keys = Keys(self._transport)
        self.datasets = Datasets(self._transport)
        self.evaluations = Evaluations(self._transport)
        self.accounts = Accounts(self._transport)

    encrypt = sync_method(operations.encrypt)
    decrypt = sync_method(operations.decrypt)
    schemes = sync_method(operations.schemes)
    attacks = sync_method(operations.attacks)
    ready = sync_method(operations.ready)

    @property
    def url(self) -> str:
        return str(self._transport.config.url)

    def close(self) -> None:
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _CollectionBase(BoundClient):
    def __init__(self, transport: SyncTransport | AsyncTransport) -> None:
        self._transport = transport


class Keys(_CollectionBase, Collection[Key]):
    create = sync_method(operations.create_key)
    get = sync_method(operations.get_key)
    list = sync_iterator_method(operations.list_keys)
    delete = sync_method(operations.delete_key)

    def _parse(self, raw: dict[str, Any]) -> Key:
        return Key(raw, self._transport)


class Datasets(_CollectionBase):
    upload = sync_method(operations.upload_dataset)
    get = sync_method(operations.get_dataset)
    list = sync_iterator_method(operations.list_datasets)
    delete = sync_method(operations.delete_dataset)


class Evaluations(_CollectionBase, Collection[Evaluation]):
    create = sync_method(operations.create_evaluation)
    get = sync_method(operations.get_evaluation)
    list = sync_iterator_method(operations.list_evaluations)

    def _parse(self, raw: dict[str, Any]) -> Evaluation:
        return Evaluation(raw, self._transport)


class Accounts(_CollectionBase):
    create = sync_method(operations.create_account)
    list = sync_iterator_method(operations.list_accounts)
    revoke = sync_method(operations.revoke_account)


class AsyncClient(BoundClient):
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
        self._transport = AsyncTransport(resolve_config(url, token, local=local, timeout=timeout, retries=retries))
        self.keys = AsyncKeys(self._transport)
        self.datasets = AsyncDatasets(self._transport)
        self.evaluations = AsyncEvaluations(self._transport)
        self.accounts = AsyncAccounts(self._transport)

    encrypt = async_method(operations.encrypt)
    decrypt = async_method(operations.decrypt)
    schemes = async_method(operations.schemes)
    attacks = async_method(operations.attacks)
    ready = async_method(operations.ready)

    @property
    def url(self) -> str:
        return str(self._transport.config.url)

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class AsyncKeys(_CollectionBase, Collection[AsyncKey]):
    create = async_method(operations.create_key)
    get = async_method(operations.get_key)
    list = async_iterator_method(operations.list_keys)
    delete = async_method(operations.delete_key)

    def _parse(self, raw: dict[str, Any]) -> AsyncKey:
        return AsyncKey(raw, self._transport)


class AsyncDatasets(_CollectionBase):
    upload = async_method(operations.upload_dataset)
    get = async_method(operations.get_dataset)
    list = async_iterator_method(operations.list_datasets)
    delete = async_method(operations.delete_dataset)


class AsyncEvaluations(_CollectionBase, Collection[AsyncEvaluation]):
    create = async_method(operations.create_evaluation)
    get = async_method(operations.get_evaluation)
    list = async_iterator_method(operations.list_evaluations)

    def _parse(self, raw: dict[str, Any]) -> AsyncEvaluation:
        return AsyncEvaluation(raw, self._transport)


class AsyncAccounts(_CollectionBase):
    create = async_method(operations.create_account)
    list = async_iterator_method(operations.list_accounts)
    revoke = async_method(operations.revoke_account)
