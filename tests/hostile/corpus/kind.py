"""One kind of hostile upload, and how a form is put together by hand, so that it can be put together wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

BOUNDARY = b"corpus-boundary"


@dataclass(frozen=True)
class RequestBody:
    """A request's body and headers; parts sent one by one go without a Content-Length."""

    content: bytes | Iterable[bytes]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class HostileCase:
    """`code` is that of the problem, or None where it is taken; `makes` is what then is stored."""

    name: str
    path: str
    status: int
    code: str | None
    make: Callable[[], RequestBody]
    makes: Mapping[str, int] = field(default_factory=dict)


def part(
    name: str, data: bytes | str, filename: str | None = None, type: str | None = None, extra: bytes = b""
) -> bytes:
    head = f'Content-Disposition: form-data; name="{name}"'.encode()
    if filename is not None:
        head += b'; filename="' + filename.encode() + b'"'
    if type is not None:
        head += f"\r\nContent-Type: {type}".encode()
    body = data.encode() if isinstance(data, str) else data
    return b"--" + BOUNDARY + b"\r\n" + head + extra + b"\r\n\r\n" + body + b"\r\n"


def image(data: bytes, filename: str = "a.png", type: str = "image/png") -> bytes:
    return part("images", data, filename, type)


def form(*parts: bytes) -> RequestBody:
    body = b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"
    return RequestBody(body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY.decode()}"})


def json_body(text: bytes | str) -> RequestBody:
    return RequestBody(text.encode() if isinstance(text, str) else text, {"Content-Type": "application/json"})


def without_length(sent: RequestBody, step: int = 2**16) -> RequestBody:
    assert isinstance(sent.content, bytes)
    return RequestBody(_Pieces(sent.content, step), sent.headers)


@dataclass(frozen=True)
class _Pieces:
    data: bytes
    step: int

    def __iter__(self) -> Iterator[bytes]:
        for at in range(0, len(self.data), self.step):
            yield self.data[at : at + self.step]


@dataclass(frozen=True)
class Endless:
    """Pieces without end, as far as anybody reads."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'
        while True:
            yield bytes(2**16)
