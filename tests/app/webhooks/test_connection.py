"""Which addresses webhooks may reach, and that the connection goes to the address that was checked."""

from __future__ import annotations

import datetime
import socket
import ssl
from ipaddress import ip_address, ip_network

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.app.webhooks.receiver import receive
from unveil.app.webhooks import connection
from unveil.app.webhooks.connection import DeliveryFailed

URL = httpx.URL("https://receiver.test/")
LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.2.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fc00::1", "fec0::1", "ff02::1",
        "2001:db8::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "2002:a00:1::",
        "2001::1",
    ],
)  # fmt: skip
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(DeliveryFailed, match="not a public address"):
        connection.require_allowed(URL, [ip_address("1.1.1.1"), ip_address(address)], ())


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1"])
def test_a_public_address_is_allowed_by_https_alone(address: str) -> None:
    connection.require_allowed(URL, [ip_address(address)], ())
    with pytest.raises(DeliveryFailed, match="use https"):
        connection.require_allowed(URL.copy_with(scheme="http"), [ip_address(address)], LOOPBACK)


def test_the_operator_allows_networks_one_by_one() -> None:
    http = URL.copy_with(scheme="http")
    connection.require_allowed(http, [ip_address("127.0.0.1"), ip_address("::ffff:127.0.0.1")], LOOPBACK)
    with pytest.raises(DeliveryFailed):
        connection.require_allowed(http, [ip_address("127.0.0.1"), ip_address("10.0.0.1")], LOOPBACK)


@pytest.mark.parametrize(
    "text",
    ["", "ftp://a.test/", "//a.test", "https://", "https:///x", "https://u:p@a.test/", "https://a.test/#x",
     "https://a.test:0/", "https://a.test:99999/", "https://a.test:x/", "https://[::1/", "javascript:alert(1)"],
)  # fmt: skip
def test_a_text_that_is_no_usable_url_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        connection.parse_url(text)


def certificate(name: str, folder) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server with a certificate for this name, and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signed = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = signed.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(private + pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "server.pem")
    return server, ssl.create_default_context(cadata=pem.decode())


@pytest.mark.anyio
async def test_the_name_is_resolved_once_and_the_certificate_is_checked_for_it(tmp_path, monkeypatch) -> None:
    """A name server that answers differently the second time changes nothing."""
    lookups = []

    def resolve(host, port, **_):
        lookups.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1" if len(lookups) == 1 else "10.0.0.1", port))]

    server, trusting = certificate("receiver.test", tmp_path)
    with receive(server) as received, monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", resolve)
        url = httpx.URL(f"https://receiver.test:{received.port}/hook?a=1")
        addresses = await connection.resolve(url)
        patched.undo()
        async with httpx.AsyncClient(trust_env=False, verify=trusting) as client:
            assert await connection.post(client, url, addresses, {"x-a": "b"}, b"{}") == 200
            with pytest.raises(DeliveryFailed, match=r"cannot connect to other\.test: .*certificate"):
                await connection.post(client, url.copy_with(host="other.test"), addresses, {}, b"{}")
    assert lookups == ["receiver.test"]
    ((path, headers, body),) = received.requests
    assert (path, headers["host"], headers["x-a"], body) == (
        "/hook?a=1", f"receiver.test:{received.port}", "b", b"{}"
    )  # fmt: skip
