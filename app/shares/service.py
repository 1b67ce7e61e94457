"""Share links: everybody who has one can read one evaluation, and nothing else, until it expires or is revoked."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.ids import is_id
from unveil.app.db.tables import Evaluation as EvaluationRow
from unveil.app.db.tables import Share
from unveil.app.errors.problem import Conflict, NotFound
from unveil.app.evaluations import service as evaluations
from unveil.app.report.evaluation import Evaluation
from unveil.app.security.envelope import Keyring
from unveil.app.security.principal import Principal
from unveil.app.shares import queries
from unveil.app.shares.schemas import ShareCreate, ShareCreated, ShareOut

_MAX_SHARES = 100  # of an evaluation
_ID = re.compile(r"\b(?:[a-z]+)_[0-9a-f]{32}\b")


@dataclass(frozen=True)
class SharedEvaluation:
    """What a share link leads to."""

    row: EvaluationRow
    reader: Principal
    """The account that measured, with the right to read"""
    images: bool
    expires_at: datetime


async def create(
    session: AsyncSession, keyring: Keyring, principal: Principal, evaluation_id: str, body: ShareCreate, id: str
) -> ShareCreated:
    """The link, whose secret is shown this once. Raises UnknownEvaluation, Conflict."""
    evaluation = await evaluations.get(session, principal, evaluation_id)
    await queries.delete_expired(session, evaluation.id)
    if len(await queries.list_live(session, evaluation.id)) >= _MAX_SHARES:
        raise Conflict(f"the evaluation has {_MAX_SHARES} share links; revoke some")
    secret = secrets.token_urlsafe(32)
    digest = keyring.token_hash(secret)
    share = await queries.add(session, id, digest, evaluation.id, body.expires_in_days, body.images)
    return ShareCreated(**_to_out(share).model_dump(), url=f"/shared/{secret}")


async def list_shares(session: AsyncSession, principal: Principal, evaluation_id: str) -> list[ShareOut]:
    """Newest first, without expired ones. Raises UnknownEvaluation."""
    evaluation = await evaluations.get(session, principal, evaluation_id)
    return [_to_out(share) for share in await queries.list_live(session, evaluation.id)]


async def revoke(session: AsyncSession, principal: Principal, evaluation_id: str, id: str) -> None:
    """The link ends at once. Commits. Raises UnknownEvaluation, NotFound."""
    evaluation = await evaluations.get(session, principal, evaluation_id)
    if not is_id(id) or not await queries.delete_share(session, evaluation.id, id):
        raise NotFound(f"evaluation {evaluation.id} has no share link {id!r}; it may have expired")
    await session.commit()


async def find(session: AsyncSession, keyring: Keyring, secret: str) -> tuple[str, SharedEvaluation] | None:
    """The id of a live link, and what it leads to."""
    found = await queries.find_live(session, keyring.token_hash(secret))
    if found is None:
        return None
    share, evaluation, account = found
    reader = Principal(evaluation.account_id, account, frozenset({"read"}))
    return share.id, SharedEvaluation(evaluation, reader, share.images, share.expires_at)


def hide_other_ids(evaluation: Evaluation, address: str | None = None, *, with_images: bool = True) -> Evaluation:
    """The evaluation with numbers in place of the ids of keys, datasets and whatever else is not its own.

    address: where its links lead to; None leaves them as they are. Without images it has no samples.
    """
    body = evaluation.to_json()
    own = {evaluation.id, *(cell.id for cell in evaluation.cells), *(job.id for job in evaluation.utility)}
    numbers: dict[str, int] = {}

    def hide(match: re.Match[str]) -> str:
        id = match[0]
        if id in own:
            return id
        return f"{id.partition('_')[0]}_{numbers.setdefault(id, len(numbers) + 1)}"

    if not with_images:
        for cell in body["cells"]:
            cell["samples"] = []
    text = _ID.sub(hide, json.dumps(body))
    if address is not None:
        text = text.replace(f'"/evaluations/{evaluation.id}', f'"{address}')
    return Evaluation.from_json(json.loads(text))


def _to_out(share: Share) -> ShareOut:
    return ShareOut(id=share.id, created_at=share.created_at, expires_at=share.expires_at, images=share.images)
