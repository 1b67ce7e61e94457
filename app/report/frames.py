"""Results as tables of pandas."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from unveil.app.report.table import EvaluationTable
from unveil.models.core.cell_result import CellResult

if TYPE_CHECKING:
    import pandas as pd


def to_frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Raises ModuleNotFoundError without pandas."""
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}: pip install 'unveil[notebook]'", name=error.name) from None
    return pd.DataFrame(list(rows))


def evaluation_frame(table: EvaluationTable) -> pd.DataFrame:
    """One row a cell, schemes and attacks by their label. Raises ModuleNotFoundError without pandas."""
    return to_frame(
        {
            "scheme": row.label,
            "attack": each.column.label,
            "threat_model": each.column.threat_model,
            "status": str(each.cell.status),
            **result_figures(each.result),
            "reason": each.empty_reason,
            "cell": each.cell.id,
        }
        for row in table.rows
        for each in row.cells
        if each.cell is not None
    )


def result_figures(result: CellResult | None) -> dict[str, Any]:
    """The figures of a cell, by column; all None without a result."""
    ssim, identified = (result.ssim, result.identification) if result else (None, None)
    return {
        "ssim": ssim.mean if ssim else None,
        "ssim_low": ssim.ci_low if ssim else None,
        "ssim_high": ssim.ci_high if ssim else None,
        "vif": result.vif.mean if result and result.vif else None,
        "psnr": result.psnr.mean if result and result.psnr else None,
        "identification": identified.top1 if identified else None,
        "chance": identified.chance if identified else None,
        "linkage": result.linkage.top1 if result and result.linkage else None,
        "verdict": result.verdict if result else None,
        "seconds": result.seconds if result else None,
    }
