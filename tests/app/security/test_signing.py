"""Signatures of reports: what they cover, and what is no valid signature."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from unveil.app.security import signing
from unveil.app.security.envelope import Keyring, new_keyring
from unveil.app.security.signing import ReportSigner, SignatureError, verify_content, verify_file

HTML = b"<!doctype html>\n<p>broken</p>\n"
JSON = json.dumps({"verdict": "broken", "cells": [1, 2]}, indent=2).encode()


def make_signer(keyring: Keyring | None = None) -> ReportSigner:
    return ReportSigner(signing.derive_signing_key(keyring or new_keyring()), "ev_1", "an auditor", "1.0")


def kid(keyring: Keyring) -> str:
    return signing.thumbprint(signing.derive_signing_key(keyring).public_key().public_bytes_raw())


@pytest.mark.parametrize("content", [HTML, JSON, b"# report, no line break at its end"])
def test_a_signed_report_names_its_auditor_and_is_still_what_it_was(content: bytes) -> None:
    keyring = new_keyring()
    signed = make_signer(keyring).sign(content)
    found = verify_content(signed)
    assert (found.claims.auditor, found.claims.evaluation, found.claims.unveil) == ("an auditor", "ev_1", "1.0")
    assert found.kid == kid(keyring)
    if content == JSON:
        assert {name: value for name, value in json.loads(signed).items() if name != "signature"} == json.loads(JSON)
    else:
        assert signed.startswith(content)


@pytest.mark.parametrize("content", [HTML, JSON])
def test_no_byte_of_a_signed_report_can_be_changed(content: bytes) -> None:
    signed = make_signer().sign(content)
    for position in range(len(signed.rstrip())):
        changed = bytearray(signed)
        changed[position] ^= 4
        with pytest.raises(SignatureError):
            verify_content(bytes(changed))


@pytest.mark.parametrize("content", [HTML, JSON])
def test_nothing_can_be_added_and_no_other_signature_put_in(content: bytes) -> None:
    signer = make_signer()
    signed = signer.sign(content)
    for changed in (
        content,
        signed + b"<p>no leak found</p>",
        b" " + signed,
        signed.replace(b"broken", b"robust"),
        signer.sign(content.replace(b"broken", b"leaks ")).replace(b"leaks ", b"broken"),
    ):
        with pytest.raises(SignatureError):
            verify_content(changed)


PDF = b"%PDF-1.7\nbroken\nxref\n0 1\ntrailer\nstartxref\n16\n%%EOF"


def test_a_signed_pdf_ends_as_readers_expect_and_no_byte_of_it_can_be_changed(tmp_path: Path) -> None:
    signed, file = make_signer().sign(PDF), tmp_path / "report.pdf"
    assert signed.endswith(b"\nstartxref\n16\n%%EOF\n")
    file.write_bytes(signed)
    assert verify_file(file).claims.report_sha256 == hashlib.sha256(PDF).hexdigest()
    changed = [signed[:at] + bytes([signed[at] ^ 4]) + signed[at + 1 :] for at in range(len(signed))]
    cut = [signed[:at] + signed[at + 1 :] for at in range(len(PDF) - 8, len(signed))]
    for content in (*changed, *cut, PDF, signed + b" ", signed.replace(b"\n16\n", b"\n9\n"), make_signer().sign(HTML)):
        file.write_bytes(content)
        with pytest.raises(SignatureError):
            verify_file(file)


def test_a_signature_by_another_key_is_seen_by_its_thumbprint() -> None:
    assert verify_content(make_signer().sign(HTML)).kid != verify_content(make_signer().sign(HTML)).kid


def test_a_header_cannot_choose_another_algorithm() -> None:
    signed = make_signer().sign(HTML)
    header = signed.split(b": ")[1].split(b".")[0]
    plain = json.loads(base64.urlsafe_b64decode(header + b"=="))
    for name, value in (("alg", "none"), ("typ", "JWT"), ("jwk", {}), ("jwk", None)):
        forged = base64.urlsafe_b64encode(json.dumps({**plain, name: value}).encode()).rstrip(b"=")
        with pytest.raises(SignatureError):
            verify_content(signed.replace(header, forged))


def test_the_signature_is_a_json_web_signature_and_its_key_has_the_published_thumbprint() -> None:
    header, payload, signature = make_signer().sign(HTML).split(b": ")[1].split(b" ")[0].split(b".")
    jwk = json.loads(base64.urlsafe_b64decode(header + b"=="))["jwk"]
    public_key = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))
    public_key.verify(base64.urlsafe_b64decode(signature + b"=="), header + b"." + payload)
    # RFC 8037, appendix A.3
    example = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert signing.thumbprint(example) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_rotation_changes_the_key_and_leaves_earlier_signatures_valid() -> None:
    keyring = new_keyring()
    before = make_signer(keyring).sign(HTML)
    rotated = keyring.with_new_master_key().with_primary_master_key_only()
    after = make_signer(rotated).sign(HTML)
    assert [verify_content(each).kid for each in (before, after)] == [kid(keyring), kid(rotated)]
    assert kid(keyring) != kid(rotated)


def test_the_key_is_derived_and_never_the_master_key_itself() -> None:
    keyring = new_keyring()
    key = signing.derive_signing_key(keyring)
    assert key.private_bytes_raw() != keyring.master_keys[1]
    assert key.private_bytes_raw() == signing.derive_signing_key(keyring).private_bytes_raw()
    assert isinstance(key, Ed25519PrivateKey)


def test_a_zip_is_valid_only_with_all_its_files_and_no_other(tmp_path: Path) -> None:
    signer = make_signer()
    files = {"report.html": signer.sign(HTML), "cells/0/scores.csv": b"index,ssim\n"}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    files[signing.MANIFEST] = signer.sign(json.dumps({"files": digests}, indent=2).encode())

    def write(files: dict[str, bytes]) -> Path:
        path = tmp_path / "report.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path

    assert verify_file(write(files)).claims.evaluation == "ev_1"
    for changed in (
        {**files, "more.html": b""},
        {**files, "cells/0/scores.csv": b"index,psnr\n"},
        {name: content for name, content in files.items() if name != "report.html"},
        {name: content for name, content in files.items() if name != signing.MANIFEST},
        {**files, signing.MANIFEST: signer.sign(b'{\n  "files": {}\n}')},
        {**files, signing.MANIFEST: signer.sign(JSON)},
        {**files, signing.MANIFEST: signer.sign(HTML)},
    ):
        with pytest.raises(SignatureError):
            verify_file(write(changed))

    page = tmp_path / "report.html"  # a browser shows what stands before the zip
    page.write_bytes(b"<!doctype html><p>no leak found</p>" + write(files).read_bytes())
    with pytest.raises(SignatureError, match="does not end with a signature"):
        verify_file(page)
    text = tmp_path / "text.zip"
    text.write_bytes(signer.sign(HTML))
    with pytest.raises(SignatureError, match="damaged"):
        verify_file(text)
