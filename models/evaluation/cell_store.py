"""Finished cells of an audit in a folder, one file a cell, so that an interrupted audit resumes."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from unveil.models.attacks.base import Attack
from unveil.models.catalog import flatten_settings
from unveil.models.core.cell_result import CellResult
from unveil.models.core.checkpoints import DirectoryStore
from unveil.models.evaluation.outcome import CellOutcome, Sample, Scores

_INDEX = "audit.json"


class OtherAudit(ValueError):
    """The folder holds the cells of another audit."""


@dataclass(frozen=True)
class AuditedCell:
    """A scheme under one attack. reason: why the attack failed or does not apply."""

    attack: Attack[Any]
    status: Literal["succeeded", "failed", "not_applicable"]
    reason: str = ""
    outcome: CellOutcome[CellResult] | None = None
    curves: Mapping[str, list[list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class CellStore:
    folder: Path

    @classmethod
    def open(cls, folder: Path, identity: dict[str, Any]) -> CellStore:
        """identity: all on which the cells depend but their attacks. Raises OtherAudit, OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        index, text = folder / _INDEX, json.dumps(identity, sort_keys=True, indent=2)
        if not index.exists():
            DirectoryStore(folder).write(_INDEX, text.encode())
        elif index.read_text() != text:
            held = json.loads(index.read_text())
            differing = ", ".join(sorted(k for k in {*held, *identity} if held.get(k) != identity.get(k)))
            raise OtherAudit(f"{folder} holds another audit (different: {differing}); give another folder as `out`")
        return cls(folder)

    def read(self, attack: Attack[Any]) -> AuditedCell | None:
        """The stored cell, or None if the file is missing or damaged."""
        raw = DirectoryStore(self.folder).read(_file_name(attack))
        if raw is None:
            return None
        try:
            with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            meta = json.loads(bytes(arrays["meta"]))
        except (ValueError, KeyError, OSError, EOFError):
            return None
        samples = [
            Sample(index, ssim, *(arrays.get(f"{kind}_{k}") for kind in ("plain", "protected", "reconstructed")))  # type: ignore[arg-type]
            for k, (index, ssim) in enumerate(meta["samples"])
        ]
        scores = Scores(**{name: arrays[f"scores_{name}"] for name in meta["scores"]}) if meta["scores"] else None
        outcome = CellOutcome(
            CellResult.from_json(meta["result"]), samples, scores, reconstructed=arrays.get("reconstructed")
        )
        return AuditedCell(attack, "succeeded", "", outcome, meta["curves"])

    def write(self, cell: AuditedCell) -> None:
        outcome = cell.outcome
        assert outcome is not None
        scores = {} if outcome.scores is None else outcome.scores.arrays()
        meta = {
            "result": outcome.result.to_json(),
            "samples": [(sample.index, sample.ssim) for sample in outcome.samples],
            "scores": list(scores),
            "curves": cell.curves,
        }
        arrays: dict[str, Any] = {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)}
        for k, sample in enumerate(outcome.samples):
            for kind in ("plain", "protected", "reconstructed"):
                if getattr(sample, kind) is not None:
                    arrays[f"{kind}_{k}"] = getattr(sample, kind)
        arrays |= {f"scores_{name}": values for name, values in scores.items()}
        if outcome.reconstructed is not None:
            arrays["reconstructed"] = outcome.reconstructed
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)
        DirectoryStore(self.folder).write(_file_name(cell.attack), buffer.getvalue())


def _file_name(attack: Attack[Any]) -> str:
    settings = json.dumps(flatten_settings(attack), sort_keys=True)
    return f"{attack.name.replace('/', '-')}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}.npz"
