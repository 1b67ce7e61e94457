"""The address of the service, the token, the timeout and the retries of a client."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx


@dataclass(frozen=True)
class ClientConfig:
    url: str
    token: str | None
    timeout: float
    retries: int

    def __post_init__(self) -> None:
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{self.url!r} is not a valid address: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{self.url!r} is not a valid address: it must begin with http:// or https://")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ValueError("the token has invalid characters; give the line that `unveil` printed")

    def path_of(self, link: str) -> str:
        """The path below `url` that a link of the service names; behind a proxy, links begin with the path of `url`."""
        root = httpx.URL(self.url).path.rstrip("/")
        return link.removeprefix(root) if link.startswith(f"{root}/") else link

    @property
    def httpx_options(self) -> dict[str, Any]:
        """Of an httpx client."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        tls = self.url.startswith("https://")  # without it, certificates need not be read, which takes 0.2 s
        return {"base_url": self.url, "headers": headers, "timeout": self.timeout, "verify": tls}


def resolve_config(
    url: str | None, token: str | None, *, local: str | Path | None, timeout: float, retries: int
) -> ClientConfig:
    """The arguments, else the address and token in the folder of an `unveil local`, else UNVEIL_URL and UNVEIL_TOKEN.

    Raises OSError if the folder cannot be read.
    """
    if local is not None:
        url, token = url or _read_line(Path(local, "address")), token or _read_line(Path(local, "token"))
    url = url or os.environ.get("UNVEIL_URL") or "http://127.0.0.1:8000"
    return ClientConfig(url.rstrip("/"), token or os.environ.get("UNVEIL_TOKEN"), timeout, retries)


def _read_line(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()
