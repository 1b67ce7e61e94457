"""The report of an evaluation: what an attacker sees of each scheme, in every format, from rows alone."""

from unveil.app.report.formats import HEADERS, MEDIA_TYPES, Format, read, render, scores_csv, zipped
from unveil.app.report.labels import label

__all__ = ["HEADERS", "MEDIA_TYPES", "Format", "label", "read", "render", "scores_csv", "zipped"]
