"""Rows that tests need, as the service would have written them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func
from sqlalchemy.orm import Session, sessionmaker

from unveil.app.db.ids import new_id
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Account, Cell, Evaluation, Key, Token
from unveil.app.report import evaluation as view
from unveil.app.security.envelope import Keyring
from unveil.models.catalog import Scheme
from unveil.models.core.cell_result import CellResult, IdentificationSummary, SsimSummary

SMOKE = {
    "dataset": "sample", "public_dataset": None, "profile": "smoke", "seed": 0, "samples": 2, "keys": 1,
    "utility": False, "ssim_mode": "rgb7",
}  # fmt: skip
ALL_SCOPES = ["encrypt", "keys", "keys:export", "evaluate", "read", "admin"]


def make_account(sessions: sessionmaker[Session], name: str = "owner") -> str:
    id = new_id("acc")
    with sessions.begin() as session:
        session.add(Account(id=id, name=name))
    return id


def make_token(
    sessions: sessionmaker[Session], keyring: Keyring, account_id: str, scopes: list[str] = ALL_SCOPES
) -> str:
    token = new_id("token")
    with sessions.begin() as session:
        session.add(Token(id=new_id("tok"), hash=keyring.token_hash(token), account_id=account_id, scopes=scopes))
    return token


def make_evaluation(
    sessions: sessionmaker[Session],
    account_id: str,
    attacks: tuple[str, ...] = ("none",),
    *,
    settings: dict[str, Any] | None = None,
    scheme: dict[str, Any] | None = None,
) -> tuple[str, list[str]]:
    """An evaluation of one scheme under the named attacks, just ordered and not yet sent: (its id, its cells' ids)."""
    evaluation_id, cell_ids = new_id("ev"), [new_id("cell") for _ in attacks]
    scheme = scheme or {"name": "tanaka", "variant": "paper", "block": 4}
    with sessions.begin() as session:
        session.add(
            Evaluation(
                id=evaluation_id,
                account_id=account_id,
                name="test",
                status=Status.QUEUED,
                settings={
                    **SMOKE, **(settings or {}), "schemes": [scheme], "attacks": [{"name": name} for name in attacks]
                },
                event_seq=0,
            )
        )  # fmt: skip
        session.flush()
        for position, (cell_id, attack) in enumerate(zip(cell_ids, attacks, strict=True)):
            session.add(
                Cell(
                    id=cell_id,
                    evaluation_id=evaluation_id,
                    position=position,
                    scheme=scheme,
                    attack={"name": attack},
                    threat_model="ciphertext-only",
                    status=Status.QUEUED,
                )
            )
    return evaluation_id, cell_ids


def make_view(cells: Sequence[view.Cell], verdicts: Sequence[view.EvaluationVerdict], **fields: Any) -> view.Evaluation:
    """A finished evaluation as callers see it."""
    settings: Mapping[str, Any] = {
        **SMOKE,
        "name": "test",
        "dataset_name": "sample",
        "schemes": list({str(verdict.scheme): verdict.scheme for verdict in verdicts}.values()),
        "attacks": list({str(cell.attack): cell.attack for cell in cells}.values()),
        **fields.pop("settings", {}),
    }
    moment = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    values: dict[str, Any] = {
        "id": "ev_1", "name": "test", "status": Status.SUCCEEDED, "created_at": moment, "started_at": moment,
        "finished_at": moment, "versions": {"unveil": "0.2.0"},
    }  # fmt: skip
    progress = view.Progress(done=len(cells), total=len(cells), fraction=1.0, eta_s=0.0, phase=None)
    return view.Evaluation(
        **{**values, **fields}, progress=progress, cells=list(cells), verdicts=list(verdicts), settings=settings
    )


def make_cell_view(
    scheme: Mapping[str, Any], attack: Mapping[str, Any], result: CellResult | None = None, **fields: Any
) -> view.Cell:
    """A cell as callers see it: finished if it has a result."""
    values: dict[str, Any] = {
        "id": new_id("cell"), "threat_model": "ciphertext-only", "progress": 1.0,
        "status": Status.FAILED if result is None else Status.SUCCEEDED,
    }  # fmt: skip
    return view.Cell(**{**values, **fields}, scheme=scheme, attack=attack, result=result)


def expire_lease(sessions: sessionmaker[Session], cell_id: str) -> None:
    """As if its worker had been silent for longer than its lease."""
    with sessions.begin() as session:
        session.get_one(Cell, cell_id).lease_until = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, 1)


def make_key_to_train(
    sessions: sessionmaker[Session],
    keyring: Keyring,
    account_id: str,
    *,
    evaluation_id: str | None = None,
    id: str = "",
    scheme: Scheme[Any, Any] | None = None,
    seed: int | None = 0,
) -> str:
    """A key of this scheme, or of tests/trained.py, just ordered and not yet sent."""
    id = id or new_id("key")
    with sessions.begin() as session:
        session.add(
            Key(
                id=id,
                account_id=account_id,
                scheme=scheme.name if scheme else "tn-shift",
                params=vars(scheme.settings) if scheme else {"epochs": 2},
                wrapped_key=keyring.new_wrapped_key(purpose="key", owner=account_id, id=id),
                training_request={"profile": "smoke", "dataset": "sample", "seed": seed},
                evaluation_id=evaluation_id,
                status=Status.QUEUED,
            )
        )
    return id


def identification_summary(top1: float, *, above_chance: bool = True) -> IdentificationSummary:
    return IdentificationSummary(
        top1=top1, chance=0.002, ci_low=top1 / 2, ci_high=min(1.0, top1 * 2), gallery=500, scale=1,
        above_chance=above_chance,
    )  # fmt: skip


def make_result(ssim: float | None = None, **fields: Any) -> CellResult:
    """The result of a finished cell. ssim: the mean."""
    summary = None
    if ssim is not None:
        summary = SsimSummary(mode="rgb7", mean=ssim, std=0.1, ci_low=ssim - 0.1, ci_high=ssim + 0.1, n=16)
    return CellResult(**{"verdict": "inconclusive", "seconds": 0.1, "device": "cpu", **fields, "ssim": summary})
