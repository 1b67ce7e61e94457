"""A plug-in scheme that raises, or returns something else than images, is rejected in words; the worker goes on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.worker.encryption.test_handlers import get_code, make_request
from unveil.app.db.ids import new_id
from unveil.app.errors.problem import Problem
from unveil.app.rpc.messages import Operation, Rejection, TransformReply
from unveil.models import registry
from unveil.models.registry import Origin
from unveil.models.schemes.base import Scheme
from unveil.worker.encryption import handlers


class Faulty(Scheme):
    """Fails as the pixel at the top left says."""

    name = "acme/faulty"
    title = "Faulty"
    source = "tests"

    def derive(self, seed, height, width):
        return seed

    def encrypt(self, images, key):
        match int(images[0, 0, 0, 0]):
            case 0:
                raise ZeroDivisionError("division by zero")
            case 1:
                raise FileNotFoundError("weights.npz")
            case 2:
                return images.astype(np.float64)
            case 3:
                return images[:, :1]
            case 4:
                return None
        return 255 - images

    def decrypt(self, images, key):
        raise RuntimeError("no way back")


@pytest.fixture
def faulty() -> Iterator[str]:
    registry.load()
    registry.register("scheme", Faulty, Origin("acme", "1", "0" * 64))
    yield Faulty.name
    del registry._registry["scheme"][Faulty.name]


def encrypt_request(account: str, name: str, top_left: int):
    from unveil.models.core.images import to_png

    image = np.full((8, 8, 3), top_left, np.uint8)
    return make_request(account, [new_id("key")], pngs=[to_png(image)], scheme=name, settings={})


@pytest.mark.parametrize(
    ("top_left", "message"),
    [
        (0, "ZeroDivisionError: division by zero"),
        (1, "FileNotFoundError: weights.npz"),
        (2, "uint8 [1, 8, 8, 3] was expected, and it returned float64 [1, 8, 8, 3]"),
        (3, "it returned uint8 [1, 1, 8, 3]"),
        (4, "it returned <class 'NoneType'>"),
    ],
)
def test_a_plugin_that_fails_rejects_the_request(runtime, account, faulty: str, top_left: int, message: str) -> None:
    reply = handlers.process_request(runtime, encrypt_request(account, faulty, top_left))
    (rejection,) = reply.rejections
    assert isinstance(rejection, Rejection)
    assert (rejection.code, rejection.pointer) == ("plugin_failed", "/scheme")
    assert rejection.detail.startswith("the plug-in scheme acme/faulty failed: ")
    assert message in rejection.detail
    assert Problem.by_code[rejection.code].status == 422


def test_a_plugin_that_fails_to_decrypt_rejects_that_alone(runtime, account, faulty: str) -> None:
    request = encrypt_request(account, faulty, 9)
    encrypted = handlers.process_request(runtime, request)
    assert isinstance(encrypted, TransformReply)
    back = make_request(
        account, request.key_ids, draw=False, pngs=[encrypted.images[0].png], operation=Operation.DECRYPT,
        scheme=faulty, settings={},
    )  # fmt: skip
    assert get_code(handlers.process_request(runtime, back)) == "plugin_failed"


def test_an_error_of_a_built_in_scheme_stays_a_fault_of_the_service(
    runtime, account, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("unveil.models.schemes.tanaka.Tanaka.encrypt", fail)
    assert get_code(handlers.process_request(runtime, make_request(account, [new_id("key")]))) == "internal"
