"""The report of an evaluation: what an attacker sees of each scheme, in every format, from rows alone."""

from app.evaluations.report.formats import HEADERS, MEDIA_TYPES, Format, read, render, scores_csv, zipped
from app.evaluations.report.names import label

__all__ = ["HEADERS", "MEDIA_TYPES", "Format", "label", "read", "render", "scores_csv", "zipped"]
