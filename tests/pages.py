"""Every page that a person sees, and what stands in its way for who cannot see or point."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from selenium.webdriver import Chrome

from unveil.app.client.evaluation import Evaluation

PAGES = {
    "overview": "/",
    "playground": "/dashboard/playground",
    "new evaluation": "/dashboard/evaluations/new",
    "evaluation": "/dashboard/evaluations/{evaluation}",
    "cell": "/dashboard/evaluations/{evaluation}/cells/{cell}",
    "image": "/dashboard/evaluations/{evaluation}/cells/{cell}/images/{image}",
    "choice to compare": "/dashboard/compare",
    "comparison": "/dashboard/compare?ids={evaluation},{other}",
    "board": "/dashboard/board",
    "keys": "/dashboard/keys",
    "datasets": "/dashboard/datasets",
    "webhooks": "/dashboard/webhooks",
    "no such page": "/dashboard/nowhere",
}
DOCUMENTS = {"report": "/evaluations/{evaluation}/report.html"}  # /docs is Swagger UI: tests/app/http/test_docs.py

_PAGE_METRICS_SCRIPT = """
const [page] = performance.getEntriesByType("navigation");
const parts = performance.getEntriesByType("resource").filter((part) => part.name.startsWith("http"));
const picture = (part) => /\\.(png|svg)(\\?|$)/.test(part.name);
const size = (all) => all.reduce((sum, part) => sum + part.decodedBodySize, 0);
const sources = [...document.images].map(({ src }) => src);
sources.push(...[...document.querySelectorAll("image")].map(({ href }) => href.baseVal));
const within = sources.reduce((sum, source) => sum + (source.startsWith("data:") ? source.length : 0), 0);
return {
  interactive: page.domContentLoadedEventEnd / 1000,
  weight: (size([page, ...parts.filter((part) => !picture(part))]) - within) / 1000,
  images: (size(parts.filter(picture)) + within) / 1000,
};
"""

# The rules of WCAG 2.2 A and AA, and those that axe calls best practices.
_AXE_SCRIPT = """
const done = arguments[arguments.length - 1];
const wanted = {resultTypes: ["violations"]};
axe.run(document, wanted).then((found) => done(found.violations), (error) => done(String(error)));
"""


def page_paths(paths: dict[str, str], evaluation: Evaluation, other: Evaluation) -> dict[str, str]:
    """The paths of pages on an evaluation, on the cell of it that has the most to show, and beside another one."""
    cell = max(evaluation.cells, key=lambda cell: (len(cell.samples), cell.ssim or 0))
    image = cell.samples[0].index
    return {
        name: path.format(evaluation=evaluation.id, other=other.id, cell=cell.id, image=image)
        for name, path in paths.items()
    }


def page_metrics(chrome: Chrome) -> dict[str, float]:
    """Of the page as it was loaded: seconds until its scripts had run, and kB with and without images, uncompressed."""
    return dict(chrome.execute_script(_PAGE_METRICS_SCRIPT))


def violations(chrome: Chrome) -> list[str]:
    """What axe-core finds on the page as it is now, a line each: impact, rule, where."""
    # A package for another browser driver, of which nothing but the script is used: PyPI has no plain axe-core.
    chrome.execute_script(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    found: list[dict[str, Any]] = chrome.execute_async_script(_AXE_SCRIPT)
    assert isinstance(found, list), found
    return [
        f"{each['impact']} {each['id']}: {', '.join(str(node['target'][0]) for node in each['nodes'][:5])}"
        for each in found
    ]


def filter_serious(found: list[str]) -> list[str]:
    return [line for line in found if line.startswith(("serious", "critical"))]
