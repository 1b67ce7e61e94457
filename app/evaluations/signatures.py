"""Who signs a report, and GET /.well-known/jwks.json: the public keys that reports of this service were signed with."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.db.tables import Account, Evaluation, SigningKey
from unveil.app.dependencies import AppStateDep, Session
from unveil.app.http.authentication import AuthenticatedRoute, optional_principal
from unveil.app.security.envelope import Keyring
from unveil.app.security.signing import ReportSigner, derive_signing_key, to_jwk
from unveil.models.core.version import __version__

router = APIRouter(tags=["evaluations"], route_class=AuthenticatedRoute)


class JsonWebKey(BaseModel):
    """A public key (RFC 8037)."""

    kty: str = Field(examples=["OKP"])
    crv: str = Field(examples=["Ed25519"])
    x: str = Field(description="The public key, base64url", examples=["11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"])
    kid: str = Field(
        description="Thumbprint (RFC 7638), as `unveil report keys` prints it",
        examples=["kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"],
    )
    use: str = Field(examples=["sig"])
    alg: str = Field(examples=["EdDSA"])


class JsonWebKeySet(BaseModel):
    keys: list[JsonWebKey]


@router.get("/.well-known/jwks.json", dependencies=[Depends(optional_principal)])
async def list_signing_keys(app_state: AppStateDep, session: Session) -> JsonWebKeySet:
    """The public keys that verify reports of this service, the current one first. Needs no token.

    A rotation of the master key adds one; the earlier ones stay, so that earlier reports remain verifiable.
    """
    current = derive_signing_key(app_state.keyring).public_key().public_bytes_raw()
    await _store(session, current)
    keys = (await session.scalars(select(SigningKey.public_key).order_by(SigningKey.created_at.desc()))).all()
    ordered = sorted(keys, key=lambda key: key != current)
    return JsonWebKeySet.model_validate({"keys": [to_jwk(key) for key in ordered]})


async def load_signer(session: AsyncSession, keyring: Keyring, evaluation: Evaluation) -> ReportSigner:
    """The signer of an evaluation's reports. Commits: its public key is served from now on."""
    auditor = (await session.scalars(select(Account.name).where(Account.id == evaluation.account_id))).one()
    key = derive_signing_key(keyring)
    await _store(session, key.public_key().public_bytes_raw())
    return ReportSigner(key, evaluation.id, auditor, __version__)


async def _store(session: AsyncSession, public_key: bytes) -> None:
    if await session.get(SigningKey, public_key) is None:
        await session.execute(insert(SigningKey).values(public_key=public_key).on_conflict_do_nothing())
        await session.commit()
