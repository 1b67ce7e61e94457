"""`Client` and `AsyncClient`: the HTTP API as Python objects. The operations are defined in `client.operations`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from unveil.app.client import operations, webhooks
from unveil.app.client.config import resolve_config
from unveil.app.client.evaluation import AsyncEvaluation, Evaluation
from unveil.app.client.key import AsyncKey, Key
from unveil.app.client.operations import Collection
from unveil.app.client.transport import (
    AsyncTransport,
    BoundClient,
    SyncTransport,
    Transport,
    blocking,
    blocking_iterator,
    run_blocking,
)


class _ClientBase(BoundClient):
    @property
    def url(self) -> str:
        return self._transport.config.url


class _CollectionBase(BoundClient):
    def __init__(self, transport: Transport) -> None:
        self._transport = transport


class Client(_ClientBase):
    """A connection to an Unveil service, blocking.

    url and token fall back on those of `local`, the state folder of an `unveil local`, then on UNVEIL_URL and
    UNVEIL_TOKEN. `retries`: number of retries after a lost connection, 429, 502, 503 or 504; Retry-After is
    honoured. Raises ValueError for an invalid address, OSError if `local` is not such a folder.
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
        self.webhooks = Webhooks(self._transport)

    encrypt = blocking(operations.encrypt)
    decrypt = blocking(operations.decrypt)
    schemes = blocking(operations.schemes)
    attacks = blocking(operations.attacks)
    board = blocking(operations.board)
    signing_keys = blocking(operations.signing_keys)
    ready = blocking(operations.ready)

    def close(self) -> None:
        run_blocking(self._transport.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class Keys(_CollectionBase, Collection[Key]):
    create = blocking(operations.create_key)
    get = blocking(operations.get_key)
    list = blocking_iterator(operations.list_keys)
    delete = blocking(operations.delete_key)
    _item = Key


class Datasets(_CollectionBase):
    upload = blocking(operations.upload_dataset)
    get = blocking(operations.get_dataset)
    list = blocking_iterator(operations.list_datasets)
    delete = blocking(operations.delete_dataset)


class Evaluations(_CollectionBase, Collection[Evaluation]):
    create = blocking(operations.create_evaluation)
    estimate = blocking(operations.estimate_evaluation)
    get = blocking(operations.get_evaluation)
    list = blocking_iterator(operations.list_evaluations)
    _item = Evaluation


class Accounts(_CollectionBase):
    create = blocking(operations.create_account)
    list = blocking_iterator(operations.list_accounts)
    revoke = blocking(operations.revoke_account)


class Webhooks(_CollectionBase):
    create = blocking(webhooks.create_webhook)
    get = blocking(webhooks.get_webhook)
    list = blocking(webhooks.list_webhooks)
    deliveries = blocking_iterator(webhooks.list_deliveries)
    delete = blocking(webhooks.delete_webhook)


class AsyncClient(_ClientBase):
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
        self.webhooks = AsyncWebhooks(self._transport)

    encrypt = operations.encrypt
    decrypt = operations.decrypt
    schemes = operations.schemes
    attacks = operations.attacks
    board = operations.board
    signing_keys = operations.signing_keys
    ready = operations.ready

    async def close(self) -> None:
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class AsyncKeys(_CollectionBase, Collection[AsyncKey]):
    create = operations.create_key
    get = operations.get_key
    list = operations.list_keys
    delete = operations.delete_key
    _item = AsyncKey


class AsyncDatasets(_CollectionBase):
    upload = operations.upload_dataset
    get = operations.get_dataset
    list = operations.list_datasets
    delete = operations.delete_dataset


class AsyncEvaluations(_CollectionBase, Collection[AsyncEvaluation]):
    create = operations.create_evaluation
    estimate = operations.estimate_evaluation
    get = operations.get_evaluation
    list = operations.list_evaluations
    _item = AsyncEvaluation


class AsyncAccounts(_CollectionBase):
    create = operations.create_account
    list = operations.list_accounts
    revoke = operations.revoke_account


class AsyncWebhooks(_CollectionBase):
    create = webhooks.create_webhook
    get = webhooks.get_webhook
    list = webhooks.list_webhooks
    deliveries = webhooks.list_deliveries
    delete = webhooks.delete_webhook
