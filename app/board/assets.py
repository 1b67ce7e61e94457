"""What the pages of a board share: its templates with their filters, its style sheet and its script."""

from __future__ import annotations

from pathlib import Path

from unveil.models.core.verdict_rules.types import WORST_FIRST

TEMPLATE_DIR = Path(__file__).parent / "templates"
STATIC_DIR = Path(__file__).parent / "static"
VERDICT_ORDER = {verdict: position for position, verdict in enumerate(WORST_FIRST)}  # for sorting, worst first
