"""The asyncio client against the running service: each of its calls at least once, several at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.sample_images import archive, classes, pixels, png
from unveil.app.client.client import AsyncClient, Client
from unveil.app.client.errors import Forbidden, UnknownKey
from unveil.app.local.stack import LocalStack

SMALL = {"dataset": "sample", "profile": "smoke", "keys": 1, "samples": 1}
LONG_TRAINING = {"name": "itn", "epochs": 400}  # no machine is fast enough to finish it before the test cancels it


@pytest.mark.anyio
async def test_images_and_keys(stack: LocalStack) -> None:
    async with AsyncClient(local=stack.state) as client:
        protected = await asyncio.gather(*(client.encrypt(png(i), "tanaka") for i in range(3)))
        assert len({images.key_ids[0] for images in protected}) == 3
        plain = await asyncio.gather(*map(client.decrypt, protected))
        assert [np.array_equal(images[0].pixels, pixels(i)) for i, images in enumerate(plain)] == [True] * 3
        key = await client.keys.get(protected[0].key_ids[0])
        assert (await key.wait(timeout=5)).ready
        assert key.id in [item.id async for item in client.keys.list()]
        await key.delete()
        with pytest.raises(UnknownKey):
            await client.keys.get("key_" + "0" * 32)


@pytest.mark.anyio
async def test_an_evaluation_is_ordered_followed_and_reported(stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(archive(classes(5)))
    async with AsyncClient(stack.url, stack.token) as client:
        made, schemes, attacks = await asyncio.gather(
            client.datasets.upload(tmp_path / "set.zip", size=16), client.schemes(), client.attacks()
        )
        assert {"tanaka"} <= {scheme["name"] for scheme in schemes}
        assert {"fr"} <= {attack["name"] for attack in attacks}
        evaluation = await client.evaluations.create(schemes=["tanaka"], attacks=["none", "fr"], **SMALL)
        looks: list[str] = []
        events, _ = await asyncio.gather(
            _all(evaluation.events()), evaluation.wait(progress=lambda now: looks.append(now.status), timeout=150)
        )
        assert looks[-1] == evaluation.status == "succeeded"
        assert events[-1].data["status"] == "succeeded"
        assert b"<html" in (await evaluation.report())[:200].lower()
        assert (await evaluation.pixels(evaluation.cells[0].samples[0].plain)).shape == (96, 96, 3)
        assert evaluation.id in [item["id"] async for item in client.evaluations.list()]
        await asyncio.gather(evaluation.delete(), client.datasets.delete(made["id"]))


@pytest.mark.anyio
async def test_a_call_that_is_given_up_leaves_the_client_well(stack: LocalStack) -> None:
    async with AsyncClient(stack.url, stack.token) as client:
        evaluation = await client.evaluations.create(schemes=["pixelwise"], attacks=[LONG_TRAINING], **SMALL)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(evaluation.wait(progress=True), 0.05)
        assert (await client.ready())["status"] == "ok"
        await evaluation.cancel()
        assert (await evaluation.wait(timeout=120)).status == "cancelled"


@pytest.mark.anyio
async def test_accounts_are_made_by_an_administrator_alone(stack: LocalStack) -> None:
    async with AsyncClient(stack.url, stack.token) as client:
        made = await client.accounts.create("made by client", ["read"])
        assert made["id"] in [account["id"] async for account in client.accounts.list()]
        with Client(stack.url, made["token"]) as reader, pytest.raises(Forbidden, match="admin"):
            reader.accounts.create("another", ["read"])
        await client.accounts.revoke(made["id"])


async def _all(items):
    return [item async for item in items]
