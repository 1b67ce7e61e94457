"""Signatures of reports: a JSON Web Signature (RFC 7515) with Ed25519 (RFC 8037) at the end of the file.

The payload names the auditor, the evaluation and the SHA-256 of the file without its signature; the header holds the
public key. HTML, Markdown and PDF end with a comment that holds the signature, JSON has it as the last member, and a
zip has a signed `manifest.json` with the SHA-256 of every other file. A signature proves who made the report and that
nobody has changed it since; it does not prove that a scheme is safe.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from unveil.app.security.envelope import Keyring

MANIFEST = "manifest.json"
_INFO = b"unveil report signature v1"
_TYPE = "unveil-report"
_PDF_START = b"%PDF-"
_COMMENT = re.compile(rb"\n<!-- unveil-signature: ([\w.-]+) -->\s*\Z")
# A PDF must end with the offset of its cross-reference table, so that line stands behind the comment again.
_PDF_END = re.compile(rb"startxref\s+(\d+)\s+%%EOF\s*\Z")
_PDF_COMMENT = re.compile(rb"\n% unveil-signature: ([\w.-]+)\nstartxref\n(\d+)\n%%EOF\n\Z")
_MEMBER = re.compile(rb',\n  "signature": "([\w.-]+)"\n}\s*\Z')


class SignatureError(ValueError):
    """The file has no signature, or one that is not valid; the message says which."""


@dataclass(frozen=True)
class Claims:
    """What a signature states."""

    evaluation: str
    auditor: str
    """Name of the account"""
    unveil: str
    """Version of the service"""
    signed_at: str
    report_sha256: str


@dataclass(frozen=True)
class Signature:
    claims: Claims
    kid: str
    """Thumbprint of the public key (RFC 7638)"""


@dataclass(frozen=True)
class ReportSigner:
    """Signs the reports of one evaluation."""

    key: Ed25519PrivateKey
    evaluation: str
    auditor: str
    unveil: str

    def sign(self, content: bytes) -> bytes:
        """The JSON, HTML, Markdown or PDF file with its signature. JSON must be indented by two spaces."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        claims = Claims(self.evaluation, self.auditor, self.unveil, now, hashlib.sha256(content).hexdigest())
        jws = _make_jws(asdict(claims), self.key)
        if content.startswith(_PDF_START) and (end := _PDF_END.search(content)):
            return content + b"\n% unveil-signature: " + jws + b"\nstartxref\n" + end[1] + b"\n%%EOF\n"
        if content.endswith(b"\n}"):
            return content.removesuffix(b"\n}") + b',\n  "signature": "' + jws + b'"\n}'
        return content + b"\n<!-- unveil-signature: " + jws + b" -->\n"


def derive_signing_key(keyring: Keyring) -> Ed25519PrivateKey:
    """From the master key that encrypts; a rotation of the master key changes it."""
    master_key = keyring.master_keys[keyring.primary_version]
    return Ed25519PrivateKey.from_private_bytes(HKDF(SHA256(), length=32, salt=None, info=_INFO).derive(master_key))


def to_jwk(public_key: bytes) -> dict[str, str]:
    """The JSON Web Key (RFC 8037) of 32 bytes."""
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _encode(public_key)}
    return {**jwk, "kid": thumbprint(public_key), "use": "sig", "alg": "EdDSA"}


def thumbprint(public_key: bytes) -> str:
    """SHA-256 thumbprint of the JSON Web Key (RFC 7638), in 43 characters."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _encode(public_key)}  # in lexicographic order
    return _encode(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def thumbprint_of_jwk(jwk: Mapping[str, str]) -> str:
    """Raises KeyError, ValueError."""
    return thumbprint(_decode(jwk["x"]))


def verify_file(path: Path) -> Signature:
    """The valid signature of a report file in any format. Raises SignatureError, OSError.

    The suffix decides whether it is a zip or a PDF, as it does for what will open the file: a signed zip stays one when
    a page is put before it.
    """
    if path.suffix.lower() == ".pdf":
        return _verify_pdf(path.read_bytes())
    if path.suffix.lower() != ".zip":
        return verify_content(path.read_bytes())
    try:
        with zipfile.ZipFile(path) as archive:
            return _verify_zip(archive)
    except zipfile.BadZipFile as error:
        raise SignatureError(f"the zip is damaged: {error}") from None


def verify_content(content: bytes) -> Signature:
    """Of a JSON, HTML or Markdown file. Raises SignatureError."""
    if match := _COMMENT.search(content):
        signed = content[: match.start()]
    elif match := _MEMBER.search(content):
        signed = content[: match.start()] + b"\n}"
    else:
        raise SignatureError("it does not end with a signature: it was changed, or was made without the service")
    return _verify_digest(match[1], signed)


def _verify_digest(jws: bytes, signed: bytes) -> Signature:
    signature = _verify_jws(jws)
    if signature.claims.report_sha256 != hashlib.sha256(signed).hexdigest():
        raise SignatureError("its content was changed after it was signed")
    return signature


def _verify_pdf(content: bytes) -> Signature:
    match = _PDF_COMMENT.search(content)
    if not content.startswith(_PDF_START) or match is None:
        raise SignatureError("it does not end with a signature: it was changed, or was made without the service")
    signed = content[: match.start()]
    end = _PDF_END.search(signed)
    if end is None or end[1] != match[2]:  # readers start at the last offset
        raise SignatureError("its content was changed after it was signed")
    return _verify_digest(match[1], signed)


def _verify_zip(archive: zipfile.ZipFile) -> Signature:
    names = archive.namelist()
    if MANIFEST not in names:
        raise SignatureError(f"the zip has no {MANIFEST}, which holds the signature")
    manifest = archive.read(MANIFEST)
    signature = verify_content(manifest)
    try:
        digests: Mapping[str, str] = json.loads(manifest)["files"]
    except (ValueError, KeyError):  # such as a signed report under the name of the manifest
        raise SignatureError(f"{MANIFEST} in the zip is a signed file of another kind") from None
    if sorted(names) != sorted([*digests, MANIFEST]):
        raise SignatureError("files were added to the zip or removed from it after it was signed")
    for name, digest in digests.items():
        with archive.open(name) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:  # type: ignore[arg-type]
                raise SignatureError(f"{name} in the zip was changed after it was signed")
    return signature


# --- JSON Web Signature, compact serialization ------------------------------------------------------------------


def _make_jws(payload: Mapping[str, Any], key: Ed25519PrivateKey) -> bytes:
    public_key = key.public_key().public_bytes_raw()
    jwk = {"crv": "Ed25519", "kty": "OKP", "x": _encode(public_key)}
    header = {"alg": "EdDSA", "typ": _TYPE, "kid": thumbprint(public_key), "jwk": jwk}
    message = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps(payload).encode())}"
    return f"{message}.{_encode(key.sign(message.encode()))}".encode()


def _verify_jws(jws: bytes) -> Signature:
    """Raises SignatureError."""
    try:
        message, _, signature = jws.rpartition(b".")
        header, payload = (json.loads(_decode(part)) for part in message.split(b"."))
        if (header["alg"], header["typ"]) != ("EdDSA", _TYPE):
            raise SignatureError("its signature is of another kind")
        public_key = _decode(header["jwk"]["x"])
        Ed25519PublicKey.from_public_bytes(public_key).verify(_decode(signature), message)
        return Signature(
            Claims(**{name: str(payload[name]) for name in Claims.__annotations__}), thumbprint(public_key)
        )
    except SignatureError:
        raise
    except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError):
        raise SignatureError("its signature is not valid") from None


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _decode(value: bytes | str) -> bytes:
    """Raises ValueError, also for bits that encode nothing: one value has one text."""
    text = value if isinstance(value, str) else value.decode()
    decoded = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(decoded) != text:
        raise ValueError("not canonical base64url")
    return decoded
