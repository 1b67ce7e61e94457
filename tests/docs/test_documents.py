"""The documents: their commands run, their links lead somewhere, and the reference says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from docs import generate
from tests import documents
from tests.documents import ROOT
from tests.sample_images import pixels
from unveil.app.local.stack import LocalStack

PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = [page for page in PAGES[1:] if documents.runnable_blocks(page.read_text())]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path, stack: LocalStack) -> None:
    documents.prepare_folder(tmp_path)
    # what own-ciphertexts.md asks for: the scheme is negation, the attack leaves the lowest bit wrong
    for name, seed in (("originals", 0), ("protected", 255), ("reconstructed", 1)):
        for kind in ("cat", "dog"):
            (tmp_path / name / kind).mkdir(parents=True)
            for number in range(10):
                image = pixels(number + (100 if kind == "dog" else 0)) ^ np.uint8(seed)
                Image.fromarray(image).save(tmp_path / name / kind / f"{number}.png")
    found = documents.runnable_blocks(page.read_text())
    said = ""
    for language in dict(found):
        text = "\n".join(text for own, text in found if own == language)
        said += documents.run_block(language, text.replace("--profile quick", "--profile smoke"), tmp_path, stack)
    if page.stem == "tutorial":
        before, after = (
            np.asarray(Image.open(path)) for path in (stack.state / "photo.png", tmp_path / "plain" / "photo.plain.png")
        )
        assert np.array_equal(before, after)
        for scheme in (r"pixelwise \(same key\)", "tanaka"):
            assert re.search(rf"^{scheme}: broken\n +key-recovery found the exact key", said, re.MULTILINE)
        assert "<html" in (tmp_path / "report.html").read_text()[:300]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_place_here_leads_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT), f"{link} leads out of the repository"
        if anchor:
            assert anchor in _anchors(target), f"{link}: {target.name} has no such heading"


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in _LINK.findall(index.read_text())}
    assert {page for page in PAGES[2:] if page != index} <= linked


@pytest.mark.parametrize(("path", "text"), generate.build_pages().items(), ids=lambda part: getattr(part, "stem", ""))
def test_the_reference_is_what_the_code_makes_of_it(path: Path, text: str) -> None:
    assert path.read_text() == text, f"{path.name} is out of date: run `make docs`, and commit what changed"


def test_no_page_of_the_reference_is_left_over() -> None:
    assert {*generate.FOLDER.glob("*.md"), generate.CLIENT_TYPES, generate.CARD_SCHEMA} == set(generate.build_pages())


def _anchors(page: Path) -> set[str]:
    """The ids that headings get where Markdown is shown."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
