"""An evaluation as a drawing, as LaTeX and in a notebook."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tests.factories import make_cell_view, make_result, make_view
from unveil.app.report import notebook
from unveil.app.report.evaluation import EvaluationVerdict
from unveil.app.report.latex import to_latex
from unveil.app.report.plot import plot_ssim
from unveil.app.report.table import EvaluationTable

TANAKA = {"name": "tanaka", "variant": "paper", "block": 4}
EVIL = "<script>a_b & 5 %"


def table(*ssims: float | None) -> EvaluationTable:
    cells = [
        make_cell_view(TANAKA, {"name": "itn", "epochs": 1 + i}, make_result(ssim, verdict="leaks"))
        for i, ssim in enumerate(ssims)
    ]
    verdict = EvaluationVerdict(scheme=TANAKA, verdict="leaks", because="it shows the images", worst_attack=None)
    return EvaluationTable(make_view(cells, [verdict], name=EVIL))


def test_the_axis_reaches_to_the_lowest_value():
    for ssims in ((0.3, 0.6), (-0.7, 0.6)):
        svg = plot_ssim(table(*ssims)).svg
        ElementTree.fromstring(svg)
        places = [float(x) for x in re.findall(r'cx="([0-9.-]+)"', svg)]
        starts = [float(x) for x in re.findall(r'x1="([0-9.-]+)"', svg)]
        assert places == sorted(places)
        assert places[0] < places[1]
        assert min(starts) >= 290, "nothing lies on the labels"


def test_without_a_score_the_drawing_says_so():
    assert "no attack has an SSIM" in plot_ssim(table(None)).svg


def test_names_are_text_in_latex_and_in_a_notebook():
    assert to_latex(table(0.3)).splitlines()[0].startswith("% <script>a_b & 5 %, ")
    assert r"Tanaka's scheme & leaks & 0.300 \\" in to_latex(table(0.3))
    html = notebook.render_table(table(0.3))
    assert "<script>" not in html
    assert "&lt;script&gt;a_b" in html
