"""From figures to verdicts: of one cell, and of a scheme over all attacks that apply (SCIENCE section 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Verdict = Literal["broken", "leaks", "no leak found", "inconclusive"]

BROKEN_SSIM = 0.9
SEARCHABLE_BITS = 80  # below this an exhaustive search is no longer out of reach
WORST_FIRST: tuple[Verdict, ...] = ("broken", "leaks", "inconclusive", "no leak found")


def cell_verdict(result: Mapping[str, Any]) -> Verdict:
    """The verdict on a finished cell's result, in the shape that `unveil.models.evaluation.cell` writes."""
    bits = result.get("effective_bits")
    if bits is not None:
        return "broken" if bits < SEARCHABLE_BITS else "no leak found"
    ssim, identification = result.get("ssim"), result.get("identification")
    if (result.get("key_agreement") or {}).get("exact") or (ssim is not None and ssim["mean"] >= BROKEN_SSIM):
        return "broken"
    if "failed" in (result.get("controls") or {}).values():
        return "inconclusive"
    if identification is None:
        return "inconclusive"
    return "leaks" if identification["above_chance"] else "no leak found"


def scheme_verdict(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The worst case over one scheme's cells: {"verdict", "because", "worst_attack"}.

    Each cell needs "attack" ({"name", ...}), "status" and "result". What failed or was cancelled proves nothing.
    """
    finished = [cell for cell in cells if cell["status"] == "succeeded" and cell["result"]]
    missing = [cell["attack"]["name"] for cell in cells if cell["status"] in ("failed", "cancelled")]
    pending = any(cell["status"] in ("queued", "running", "cancelling") for cell in cells)
    if not finished:
        because = "its attacks are still running" if pending else "no attack on it finished"
        return {"verdict": "inconclusive", "because": because, "worst_attack": None}
    worst = min(finished, key=_severity)
    verdict: Verdict = worst["result"]["verdict"]
    if verdict == "no leak found" and (missing or pending):
        because = "attacks are still running" if pending else f"{', '.join(missing)} did not finish"
        return {"verdict": "inconclusive", "because": because, "worst_attack": None}
    return {"verdict": verdict, "because": _explain_verdict(worst), "worst_attack": worst["attack"]["name"]}


def _severity(cell: Mapping[str, Any]) -> tuple[int, int, float]:
    result = cell["result"]
    exact = (result.get("key_agreement") or {}).get("exact", False)
    visibility = (result.get("ssim") or {}).get("mean", -1.0) + (result.get("identification") or {}).get("top1", 0.0)
    return WORST_FIRST.index(result["verdict"]), 0 if exact else 1, -visibility


def _explain_verdict(cell: Mapping[str, Any]) -> str:
    name, result = cell["attack"]["name"], cell["result"]
    verdict = result["verdict"]
    ssim, identification = result.get("ssim"), result.get("identification")
    subject = "the unattacked ciphertexts" if name == "none" else name
    if verdict == "broken" and result.get("effective_bits") is not None:
        return f"only 2^{result['effective_bits']:.0f} keys: an exhaustive search succeeds"
    if verdict == "broken" and (result.get("key_agreement") or {}).get("exact"):
        return f"{name} found the exact key{_describe_material_used(result)}"
    if verdict == "broken":
        return f"{subject} {'show' if name == 'none' else 'shows'} the images at SSIM {ssim['mean']:.2f}"
    if verdict == "leaks":
        return (
            f"{subject} {'let' if name == 'none' else 'lets'} {identification['top1']:.0%} of images be picked out "
            f"of {identification['gallery']} (chance {identification['chance']:.1%})"
        )
    if verdict == "inconclusive":
        failed = [control for control, state in (result.get("controls") or {}).items() if state == "failed"]
        return f"the {' and '.join(failed)} control of {name} failed" if failed else f"{subject} could not be scored"
    return "no attack that applies brought out more than chance"


def _describe_material_used(result: Mapping[str, Any]) -> str:
    for unit in ("ciphertexts", "pairs", "queries"):
        numbers = result.get("numbers") or {}
        count, colours = numbers.get(unit), numbers.get(f"{unit}_for_colours", 0)
        if count is not None:
            text = f" from {count:.0f} {unit if count != 1 else unit[:-1] if unit != 'queries' else 'query'}"
            return text + (f", its colours from {colours:.0f}" if colours > count else "")
    return ""
