"""The response with the report of an evaluation, for its account and for readers of a share link."""

from __future__ import annotations

import asyncio

from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response, StreamingResponse

from unveil.app.db.tables import Evaluation
from unveil.app.dependencies import AppState
from unveil.app.evaluations import report_data
from unveil.app.evaluations.signatures import load_signer
from unveil.app.report import evaluation as view
from unveil.app.report import formats
from unveil.app.report.formats import Format


async def build_report_response(
    app_state: AppState,
    session: AsyncSession,
    row: Evaluation,
    evaluation: view.Evaluation,
    format: Format,
    *,
    with_images: bool,
) -> Response:
    """The signed report. evaluation: what it shows of the row. Raises UnknownEvaluation."""
    id, signer = row.id, await load_signer(session, app_state.keyring, row)
    report = await report_data.load_report(session, evaluation, format, signer.auditor, with_images=with_images)
    disposition = "inline" if format is Format.HTML else "attachment"
    headers = {"Content-Disposition": f'{disposition}; filename="{id}.{format.value}"'}
    media_type, headers = formats.MEDIA_TYPES[format], headers | formats.HEADERS.get(format, {})
    if format is Format.ZIP:
        zip_stream = report_data.stream_zip(app_state.sessions, report, signer)
        return StreamingResponse(zip_stream, media_type=media_type, headers=headers)
    content = await asyncio.to_thread(formats.render, report, format)
    content = signer.sign(content) if format in formats.SIGNED else content
    return Response(content, media_type=media_type, headers=headers)
