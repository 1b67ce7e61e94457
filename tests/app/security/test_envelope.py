"""The envelope: what opens, what does not, and what a rotation changes."""

from __future__ import annotations

import pytest

from unveil.app.security.envelope import KeyRing, Unreadable, load_key_ring, new_key_ring, parse_key_ring
from unveil.app.settings import Settings

MINE = {"purpose": "key", "owner": "acct_a", "id": "key_1"}


@pytest.fixture
def ring() -> KeyRing:
    return new_key_ring()


def test_what_is_sealed_opens_and_shows_nothing(ring):
    sealed = ring.seal(b"secret", **MINE)
    assert ring.open(sealed, **MINE) == b"secret"
    assert b"secret" not in sealed
    assert ring.seal(b"secret", **MINE) != sealed


@pytest.mark.parametrize("other", [{"owner": "acct_b"}, {"id": "key_2"}, {"purpose": "recovered-key"}])
def test_what_was_moved_to_another_row_does_not_open(ring, other):
    with pytest.raises(Unreadable):
        ring.open(ring.seal(b"secret", **MINE), **(MINE | other))


def test_no_byte_of_it_can_be_changed_or_left_out(ring):
    sealed = ring.seal(b"secret", **MINE)
    for at in range(len(sealed)):
        for damaged in (sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], sealed[:at]):
            with pytest.raises(Unreadable):
                ring.open(damaged, **MINE)


def test_a_body_opens_under_its_own_lock_only(ring):
    lock, other = ring.new_lock(**MINE), ring.new_lock(**MINE)
    body = ring.seal_under(lock, b"weights", **MINE)
    assert ring.open(lock + body, **MINE) == b"weights"
    with pytest.raises(Unreadable):
        ring.open(other + body, **MINE)


def test_rewrapping_needs_no_body_and_frees_from_the_old_master(ring):
    lock = ring.new_lock(**MINE)
    body = ring.seal_under(lock, b"weights", **MINE)
    both = ring.with_new_master()
    rewrapped = both.rewrap(lock, **MINE)
    assert both.is_current(rewrapped)
    new = KeyRing(ring.pepper, {2: both.masters[2]})
    assert new.open(rewrapped + body, **MINE) == b"weights"
    with pytest.raises(Unreadable, match="not in the key ring"):
        new.open(lock + body, **MINE)


def test_the_file_form_comes_back(ring):
    ring = ring.with_new_master()
    read = parse_key_ring(ring.dump())
    assert (read.pepper, read.masters) == (ring.pepper, ring.masters)
    assert repr(ring) == "KeyRing()"


@pytest.mark.parametrize("text", ["", "pepper:x", "1:AAAA", "pepper:{k}", "1:{k}", "pepper:{k}\n0:{k}", "a:{k}\n1:{k}"])
def test_a_file_that_is_no_key_ring_is_refused(text):
    with pytest.raises(ValueError):
        parse_key_ring(text.replace("{k}", "A" * 43 + "="))


def test_production_needs_a_ring_of_its_own():
    with pytest.raises(RuntimeError, match="UNVEIL_KEYRING_FILE"):
        load_key_ring(Settings(environment="production"))
