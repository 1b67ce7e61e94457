"""The rules of the board: which evaluations count, and how a row is put together from its entries."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from unveil.app.board import queries
from unveil.app.board.entries import CHEAPEST_BREAK, KEY_SPACE, THREAT_MODEL_PREFIX, UTILITY, VERDICT, build_entries
from unveil.app.db.tables import BoardEntry
from unveil.app.evaluations import service as evaluations
from unveil.app.evaluations.verdicts import COMPUTED_BY
from unveil.app.report import narrative
from unveil.app.report.board import (
    Board,
    BoardBreak,
    BoardDataset,
    BoardRow,
    PaperBoardRow,
    PaperFigures,
    PaperVerdict,
    sort_threat_models,
)
from unveil.app.report.labels import title
from unveil.app.report.table import paper_schemes
from unveil.app.security.principal import Principal
from unveil.models import catalog
from unveil.models.core.profiles import PROFILES
from unveil.models.core.verdict_rules.types import RULES_VERSION, WORST_FIRST

_MAX_ADDED_PER_READ = 16  # reading the evidence of a large evaluation takes a tenth of a second


async def get_board(
    session: AsyncSession,
    principal: Principal,
    dataset: str | None = None,
    profile: catalog.Profile | None = None,
    threat_model: str | None = None,
) -> Board:
    """dataset: a name or a SHA-256; the default has the most evaluations."""
    pending = await _add_missing(session, principal)
    account = principal.account_id
    datasets = [
        BoardDataset(
            dataset=row.dataset,
            dataset_sha256=row.dataset_sha256,
            evaluations=row.evaluations,
            profiles=sorted(row.profiles, key=PROFILES.index),
        )
        for row in await queries.list_datasets(session, account)
    ]
    chosen = next((each for each in datasets if dataset in (None, each.dataset, each.dataset_sha256)), None)
    rows: list[BoardRow] = []
    if chosen is not None:
        sha256 = chosen.dataset_sha256
        schemes = await queries.list_schemes(session, account, sha256, profile)
        aspects = defaultdict[str, dict[str, dict[str, Any]]](dict)
        keys = [key for key, *_ in schemes]
        for key, aspect, value in await queries.list_lowest_entries(session, account, sha256, profile, keys):
            aspects[key][aspect] = value
        rows = [_build_row(aspects[key], ids, measured_at) for key, ids, measured_at in schemes]
    board = Board(
        rows=sorted(rows, key=_worst_first),
        paper=paper_rows(),
        dataset=chosen.dataset if chosen else dataset,
        dataset_sha256=chosen.dataset_sha256 if chosen else None,
        profiles=chosen.profiles if chosen else [],
        datasets=datasets,
        profile=profile,
        rules_version=RULES_VERSION,
        pending=pending,
    )
    return board if threat_model is None else _limit_to(board, threat_model)


async def _add_missing(session: AsyncSession, principal: Principal) -> int:
    """Write the entries of some finished evaluations that have none. Returns how many are still missing."""
    account = principal.account_id
    ids = await queries.list_missing(session, account, _MAX_ADDED_PER_READ + 1)
    for id in ids[:_MAX_ADDED_PER_READ]:
        evaluation = await queries.lock_missing(session, account, id)
        if evaluation is not None:
            await queries.delete_entries(session, id)
            view = await evaluations.get_view(session, evaluation)
            session.add_all(
                BoardEntry(
                    evaluation_id=id,
                    account_id=account,
                    profile=evaluation.settings["profile"],
                    computed_by=COMPUTED_BY,
                    measured_at=evaluation.finished_at,
                    **{**vars(entry), "sort_key": list(map(float, entry.sort_key))},
                )
                for entry in build_entries(view)
            )
            evaluation.board_computed_by = COMPUTED_BY
        await session.commit()
    if len(ids) <= _MAX_ADDED_PER_READ:
        return 0
    return await queries.count_missing(session, account)


def _build_row(aspects: Mapping[str, dict[str, Any]], evaluation_ids: Sequence[str], measured_at: datetime) -> BoardRow:
    """aspects: the value of each aspect with the lowest sort key."""
    own = {name: value for name, value in aspects[VERDICT].items() if name not in ("figures", "badge")}
    figures = aspects[VERDICT]["figures"]
    cheapest = aspects.get(CHEAPEST_BREAK)
    headline = narrative.break_headline(BoardBreak.from_json(cheapest)) if cheapest else aspects[VERDICT]["badge"]
    models = {
        aspect.removeprefix(THREAT_MODEL_PREFIX): value
        for aspect, value in aspects.items()
        if aspect.startswith(THREAT_MODEL_PREFIX)
    }
    return BoardRow.from_json(
        {
            **own,
            **{name: figures[name] for name in ("verdict", "because", "profile", "evaluation", "cell")},
            "headline": headline,
            "by_threat_model": {name: models[name] for name in sort_threat_models(models)},
            "cheapest_break": cheapest,
            **aspects.get(UTILITY, {}),
            **aspects.get(KEY_SPACE, {}),
            "evaluations": sorted(evaluation_ids),
            "measured_at": measured_at.isoformat(),
        }
    )


def _worst_first(row: BoardRow) -> tuple[int, float, str]:
    return WORST_FIRST.index(row.verdict), -(row.leak or 0.0), row.title


def paper_rows() -> list[PaperBoardRow]:
    """The paper's tables as rows: of the attacks under one threat model, the one with the highest SSIM."""
    rows = []
    for scheme in paper_schemes():
        paper, entry = scheme.paper, catalog.flatten_settings(scheme)
        assert paper is not None
        figures: dict[str, PaperFigures] = {}
        for attack in sorted(paper.ssim.keys() | paper.robust.keys(), key=lambda name: paper.ssim.get(name, 0.0)):
            robust = paper.robust.get(attack)
            verdict: PaperVerdict | None = None if robust is None else "robust" if robust else "not robust"
            model = catalog.attacks()[attack].threat_model.name
            figures[model] = PaperFigures(verdict=verdict, attack=attack, ssim=paper.ssim.get(attack))
        rows.append(
            PaperBoardRow(
                scheme=entry,
                title=title(entry),
                by_threat_model={model: figures[model] for model in sort_threat_models(figures)},
                training=paper.training,
                testing=paper.testing,
                classification=paper.classification,
                cost=paper.cost,
            )
        )
    return rows


def _limit_to(board: Board, threat_model: str) -> Board:
    """The board of one attacker: each row's verdict, and its cheapest break, are those under this threat model."""
    rows = []
    for row in board.rows:
        figures = row.by_threat_model.get(threat_model)
        if figures is None:
            continue
        cheapest = (
            row.cheapest_break if row.cheapest_break and row.cheapest_break.threat_model == threat_model else None
        )
        rows.append(
            replace(
                row,
                verdict=figures.verdict,
                because=figures.because,
                profile=figures.profile,
                evaluation=figures.evaluation,
                cell=figures.cell,
                headline=narrative.break_headline(cheapest) if cheapest else figures.verdict,
                severity=None,
                cheapest_break=cheapest,
                by_threat_model={threat_model: figures},
            )
        )
    paper = [
        replace(row, by_threat_model={threat_model: row.by_threat_model[threat_model]})
        for row in board.paper
        if threat_model in row.by_threat_model
    ]
    return replace(board, rows=sorted(rows, key=_worst_first), paper=paper, threat_model=threat_model)
