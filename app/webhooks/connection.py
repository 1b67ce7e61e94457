"""Connections to webhook URLs: resolved once, refused unless every address is allowed, pinned to that address.

A receiver's host name is untrusted: it may resolve to the cloud's metadata service, to the database, or to a public
address first and a private one a moment later. So the check is on the address that the socket connects to.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

import httpx

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Not those of the event loop: a slow name server of one receiver must delay nothing else.
_resolver_threads = ThreadPoolExecutor(8, "webhook-resolver")
_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class DeliveryFailed(Exception):
    """The receiver was not reached, for the reason in the message, which is shown to the owner of the webhook."""


def parse_url(text: str) -> httpx.URL:
    """Raises ValueError with what is wrong."""
    try:
        url = httpx.URL(text)
        port = url.port
    except (httpx.InvalidURL, UnicodeError, ValueError) as error:
        raise ValueError(f"is not a URL: {error}") from None
    if url.scheme not in ("https", "http") or not url.host:
        raise ValueError("must begin with https:// and name a host")
    if url.userinfo or url.fragment:
        raise ValueError("must have no user name, password or fragment")
    if port is not None and not 0 < port < 2**16:
        raise ValueError(f"has the port {port}; choose one from 1 to 65535")
    return url


def require_allowed(url: httpx.URL, addresses: Sequence[Address], allowed_networks: Sequence[Network]) -> None:
    """Raises DeliveryFailed unless each address is public, or in a network that the operator allows.

    http is for those networks alone: on the Internet everybody on the way could read it.
    """
    for address in map(_unwrap, addresses):
        if any(address in network for network in allowed_networks):
            continue
        if not _is_public(address):
            raise DeliveryFailed(f"{url.host} is not a public address, and the operator does not allow its network")
        if url.scheme != "https":
            raise DeliveryFailed("http is not encrypted; use https")


def literal_addresses(url: httpx.URL) -> list[Address]:
    """The address that the URL names in place of a host name, if it does."""
    try:
        return [ip_address(url.host)]
    except ValueError:
        return []


def _unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and (address.is_site_local or address.sixtofour is not None):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)


async def resolve(url: httpx.URL) -> list[Address]:
    """All addresses of the host. Raises DeliveryFailed."""
    host, port = url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80)
    loop = asyncio.get_running_loop()
    lookup = partial(socket.getaddrinfo, host.strip("[]"), port, type=socket.SOCK_STREAM)
    try:
        found = await loop.run_in_executor(_resolver_threads, lookup)
    except (OSError, UnicodeError):
        raise DeliveryFailed(f"the host name {url.host} does not resolve") from None
    return [ip_address(str(entry[4][0])) for entry in found]


async def post(
    client: httpx.AsyncClient, url: httpx.URL, addresses: Sequence[Address], headers: dict[str, str], body: bytes
) -> int:
    """The status of the response, whose body is not read. Tries the addresses in turn. Raises DeliveryFailed."""
    host = url.raw_host.decode("ascii")
    headers = {**headers, "Host": url.netloc.decode("ascii"), "Connection": "close"}
    failure = "no address"
    for address in addresses:
        request = client.build_request(
            "POST", url.copy_with(host=str(address)), headers=headers, content=body, extensions={"sni_hostname": host}
        )
        try:
            response = await client.send(request, stream=True)
        except httpx.ConnectError as error:
            failure = str(error) or "no connection"
            continue
        except httpx.HTTPError as error:
            raise DeliveryFailed(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        await response.aclose()
        return response.status_code
    raise DeliveryFailed(f"cannot connect to {url.host}: {failure}")
