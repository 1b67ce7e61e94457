"""References to resources on the command line: an id, a prefix or suffix of it, a name, or `latest`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from unveil.app.cli.common import UsageError

if TYPE_CHECKING:
    from unveil.app.client.client import Client

LATEST = "latest"
_FULL_ID = re.compile(r"[a-z]+_[0-9a-f]{32}")
_MAX_LISTED = 5
_MIN_ENDING = 6  # digits that tables show of an id


def resolve(reference: str, kind: str, items: Iterable[tuple[str, str]]) -> str:
    """The id that a reference matches among `items`, pairs of id and name, newest first.

    A name takes precedence over a prefix of an id. A reference without a match is returned unchanged, so that the
    service reports the error. Raises UsageError for `latest` without items, and for several matches, such as `latest`
    where an older item has that name.
    """
    if _FULL_ID.fullmatch(reference):
        return reference
    known = list(items)
    if any(id == reference for id, _ in known):
        return reference
    matches = [id for id, name in known if name == reference]
    if reference == LATEST:
        if not known:
            raise UsageError(f"there is no {kind} yet")
        matches = list(dict.fromkeys([known[0][0], *matches]))
    matches = matches or [id for id, _ in known if reference and id.startswith(reference)]
    matches = matches or [id for id, _ in known if reference and id.partition("_")[2].startswith(reference)]
    ending = reference.removeprefix("…")
    matches = matches or [id for id, _ in known if len(ending) >= _MIN_ENDING and id.endswith(ending)]
    if len(matches) > 1:
        more = ", ..." if len(matches) > _MAX_LISTED else ""
        listed = ", ".join(matches[:_MAX_LISTED])
        raise UsageError(
            f"{reference!r} matches {len(matches)} {kind}s: {listed}{more}; give a longer prefix of the id"
        )
    return matches[0] if matches else reference


def evaluation_id(client: Client, reference: str) -> str:
    return resolve(reference, "evaluation", ((item["id"], item["name"]) for item in client.evaluations.list()))


def key_id(client: Client, reference: str) -> str:
    return resolve(reference, "key", ((key.id, "") for key in client.keys.list()))


def dataset_id(client: Client, reference: str) -> str:
    """`latest` and parts of ids refer to uploads: the ids of other datasets are their names."""
    items = [(item["id"], item["name"]) for item in client.datasets.list()]
    if reference == LATEST:
        items = [(id, name) for id, name in items if id != name]
    return resolve(reference, "uploaded dataset" if reference == LATEST else "dataset", items)


def resolve_settings(client: Client, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a scheme or an attack, with the references in `key_id` and `dataset` resolved to ids."""
    resolvers = {"key_id": key_id, "dataset": dataset_id}
    return {
        name: resolvers[name](client, str(value)) if name in resolvers else value for name, value in settings.items()
    }
