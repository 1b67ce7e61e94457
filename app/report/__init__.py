"""The report of an evaluation: what an attacker sees of each scheme, in every format, from rows alone."""

from unveil.app.report.formats import HEADERS, MEDIA_TYPES, Format, load_report, render, scores_csv, stream_zip
from unveil.app.report.labels import label

__all__ = ["HEADERS", "MEDIA_TYPES", "Format", "label", "load_report", "render", "scores_csv", "stream_zip"]
