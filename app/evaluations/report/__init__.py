"""The report of an evaluation: what an attacker sees of each scheme, in every format, from rows alone."""

from app.evaluations.report.formats import HEADERS, MEDIA_TYPES, Format, render, scores_csv
from app.evaluations.report.names import label

__all__ = ["HEADERS", "MEDIA_TYPES", "Format", "label", "render", "scores_csv"]
