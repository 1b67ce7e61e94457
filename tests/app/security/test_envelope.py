"""The envelope: what opens, what does not, and what a rotation changes."""

from __future__ import annotations

import pytest

from unveil.app.security.envelope import DecryptionError, Keyring, load_keyring, new_keyring, parse_keyring
from unveil.app.settings import Settings

MINE = {"purpose": "key", "owner": "acct_a", "id": "key_1"}


@pytest.fixture
def keyring() -> Keyring:
    return new_keyring()


def test_what_is_sealed_opens_and_shows_nothing(keyring):
    sealed = keyring.seal(b"secret", **MINE)
    assert keyring.open(sealed, **MINE) == b"secret"
    assert b"secret" not in sealed
    assert keyring.seal(b"secret", **MINE) != sealed


@pytest.mark.parametrize("other", [{"owner": "acct_b"}, {"id": "key_2"}, {"purpose": "checkpoints"}])
def test_what_was_moved_to_another_row_does_not_open(keyring, other):
    with pytest.raises(DecryptionError):
        keyring.open(keyring.seal(b"secret", **MINE), **(MINE | other))


def test_no_byte_of_it_can_be_changed_or_left_out(keyring):
    sealed = keyring.seal(b"secret", **MINE)
    for at in range(len(sealed)):
        for damaged in (sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], sealed[:at]):
            with pytest.raises(DecryptionError):
                keyring.open(damaged, **MINE)


def test_a_body_opens_under_its_own_lock_only(keyring):
    lock, other = keyring.new_wrapped_key(**MINE), keyring.new_wrapped_key(**MINE)
    body = keyring.encrypt_with_data_key(lock, b"weights", **MINE)
    assert keyring.open(lock + body, **MINE) == b"weights"
    with pytest.raises(DecryptionError):
        keyring.open(other + body, **MINE)


def test_rewrapping_needs_no_body_and_frees_from_the_old_master(keyring):
    lock = keyring.new_wrapped_key(**MINE)
    body = keyring.encrypt_with_data_key(lock, b"weights", **MINE)
    both = keyring.with_new_master_key()
    rewrapped = both.rewrap(lock, **MINE)
    new = Keyring(keyring.pepper, {2: both.master_keys[2]})
    assert new.open(rewrapped + body, **MINE) == b"weights"
    with pytest.raises(DecryptionError, match="not in the keyring"):
        new.open(lock + body, **MINE)


def test_the_file_form_comes_back(keyring):
    keyring = keyring.with_new_master_key()
    read = parse_keyring(keyring.dumps())
    assert (read.pepper, read.master_keys) == (keyring.pepper, keyring.master_keys)
    assert repr(keyring) == "Keyring()"


@pytest.mark.parametrize("text", ["", "pepper:x", "1:AAAA", "pepper:{k}", "1:{k}", "pepper:{k}\n0:{k}", "a:{k}\n1:{k}"])
def test_a_file_that_is_no_keyring_is_refused(text):
    with pytest.raises(ValueError):
        parse_keyring(text.replace("{k}", "A" * 43 + "="))


def test_production_needs_a_ring_of_its_own():
    with pytest.raises(RuntimeError, match="UNVEIL_KEYRING_FILE"):
        load_keyring(Settings(environment="production"))
