"""Reads what a report needs from the database, and streams the zip."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import zipfile
from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from unveil.app.errors.problem import UnknownEvaluation
from unveil.app.evaluations import queries
from unveil.app.report import formats
from unveil.app.report.evaluation import Evaluation
from unveil.app.report.formats import Format
from unveil.app.report.model import Report, SampleTriple
from unveil.app.security.signing import MANIFEST, ReportSigner

_TRIPLES_PER_READ = 8  # of a zip, held in memory together


async def load_report(
    session: AsyncSession, view: Evaluation, format: Format, auditor: str, *, with_images: bool = True
) -> Report:
    """The report with the images on its page. Releases the connection."""
    curves: dict[str, dict[str, Any]] = {}
    samples: dict[str, list[SampleTriple]] = {}
    ids = [*(cell.id for cell in view.cells), *(job.id for job in view.utility)]
    for curve in await queries.list_curves(session, ids):
        curves.setdefault(curve.cell_id, {})[curve.name] = curve.points
    report = Report(view, curves, samples, auditor=auditor, without_images=not with_images)
    if with_images and format in (Format.HTML, Format.PDF, Format.ZIP):
        for row in await queries.list_sample_triples(session, ids):
            samples.setdefault(row.cell_id, []).append(SampleTriple(*row))
        for cell in view.cells:
            ranks = {index: rank for rank, index in enumerate(cell.leaking_images)}
            samples.get(cell.id, []).sort(key=lambda triple: ranks.get(triple.index, len(ranks)))
        displayed = {(triple.cell_id, triple.index): triple for triple in formats.displayed_triples(report)}
        for row in await _load_sample_images(session, list(displayed)):
            triple = displayed[row.cell_id, row.index]
            triple.plain, triple.protected, triple.reconstructed = row.plain, row.protected, row.reconstructed
    session.expunge_all()  # the curves stay readable after the rollback
    await session.rollback()
    return report


async def scores_csv(session: AsyncSession, cell_id: str) -> str:
    """One line for each image; the header alone if the cell has no scores (yet)."""
    return formats.scores_csv(await queries.get_scores(session, cell_id))


async def stream_zip(
    sessions: async_sessionmaker[AsyncSession], report: Report, signer: ReportSigner
) -> AsyncIterator[bytes]:
    """The zip as it is written: it may have gigabytes, so only a few triples are in memory at a time.

    Its last file is the signed manifest: the SHA-256 of all others.

    Raises UnknownEvaluation if the evaluation is deleted meanwhile, so that the client does not take a truncated zip
    for a complete one.
    """
    buffer = _ZipBuffer()
    with _HashingZip(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        await asyncio.to_thread(formats.write_reports, archive, report, signer.sign)
        yield buffer.drain()
        for position, cell in enumerate(report.evaluation.cells):
            if cell.result is None:
                continue
            names = f"{cell.scheme['name']}-{cell.attack['name']}".replace("/", ".")  # of plug-ins: vendor/name
            folder = f"cells/{position:03d}-{names}"
            async with sessions() as session:
                scores = await scores_csv(session, cell.id)
            curves = report.curves.get(cell.id, {})
            await asyncio.to_thread(formats.write_scores_and_curves, archive, folder, scores, curves)
            ids = [(triple.cell_id, triple.index) for triple in report.samples.get(cell.id, ())]
            for offset in range(0, len(ids), _TRIPLES_PER_READ):
                async with sessions() as session:
                    triples = await _load_sample_images(session, ids[offset : offset + _TRIPLES_PER_READ])
                await asyncio.to_thread(formats.write_sample_images, archive, folder, triples)
                yield buffer.drain()
        manifest = json.dumps({"evaluation": report.evaluation.id, "files": archive.digests}, indent=2)
        archive.writestr(MANIFEST, signer.sign(manifest.encode()))
    yield buffer.drain()


class _HashingZip(zipfile.ZipFile):
    """Keeps the SHA-256 of every file that it writes."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.digests: dict[str, str] = {}

    def writestr(
        self, zinfo_or_arcname: Any, data: Any, compress_type: int | None = None, compresslevel: int | None = None
    ) -> None:
        self.digests[zinfo_or_arcname] = hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
        super().writestr(zinfo_or_arcname, data, compress_type, compresslevel)


class _ZipBuffer(io.RawIOBase):
    """Collects the bytes of a zip until they are sent."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def write(self, part: Any) -> int:
        self._buffer += part
        return len(part)

    def drain(self) -> bytes:
        part, self._buffer = bytes(self._buffer), bytearray()
        return part


async def _load_sample_images(session: AsyncSession, ids: Sequence[tuple[str, int]]) -> Sequence[Any]:
    """Raises UnknownEvaluation if a sample is missing: samples are deleted with their evaluation only."""
    rows = await queries.list_sample_images(session, ids) if ids else []
    if len(rows) < len(set(ids)):
        raise UnknownEvaluation("the evaluation was deleted while its report was written")
    return rows
