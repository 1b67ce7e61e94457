"""Names in reports: Markdown shows them as text, and spreadsheets read no CSV cell as a formula."""

from __future__ import annotations

import csv
import io
import math
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from unveil.app.report.formats import escape_csv, escape_markdown, scores_csv

MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
MARKUP = st.text(st.sampled_from("<>&*_`~[]()!#|\\@:/.=+- \tab'\"\r\n"), min_size=1)
NAMES = (MARKUP | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))).filter(str.strip)
CONTEXTS = ("# {}\n", "- **{}**: end\n", "| a | b |\n|---|---|\n| {} | end |\n")


def render(context: str, text: str) -> tuple[list[str], str]:
    """The elements of a rendered document, and its text."""
    tokens = MARKDOWN.parse(context.format(text))
    inline = [child for token in tokens for child in token.children or []]
    return [token.type for token in (*tokens, *inline) if token.type != "text"], "".join(
        each.content for each in inline
    )


@given(NAMES)
@example("<img src=x onerror=alert(1)>")
@example("[open](javascript:alert(1)) ![](https://example.org/x.png)")
@example("`a` | **b** | ~~c~~ &lt;script&gt; <https://example.org>")
def test_no_name_becomes_markdown_or_html(name: str) -> None:
    for context in CONTEXTS:
        elements, text = render(context, escape_markdown(name))
        expected_elements, expected_text = render(context, "name")
        assert elements == expected_elements
        assert text == expected_text.replace("name", " ".join(name.split()))


@pytest.mark.parametrize("context", CONTEXTS)
def test_without_the_escape_a_name_is_markup(context: str) -> None:
    assert render(context, "<b>x</b>") != render(context, "name")


@given(NAMES)
@example('=HYPERLINK("http://example.org")')
@example("\t=1+1")
@example("\r@SUM(1)")
@example("+public images")
def test_no_text_in_csv_is_a_formula(name: str) -> None:
    (cell,) = next(csv.reader(io.StringIO(_csv_of(name), newline="")))
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) or not math.isnan(float(cell))
    assert cell in (name, f"'{name}")


def _csv_of(name: str) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow([escape_csv(name)])
    return text.getvalue()


def test_negative_numbers_stay_numbers() -> None:
    (line,) = csv.DictReader(
        io.StringIO(scores_csv(SimpleNamespace(index=[0], ssim=[-0.25], psnr=[-3], rank=[None], vif=None)))
    )
    assert line == {"index": "0", "ssim": "-0.25", "psnr": "-3", "rank": "", "vif": ""}
    assert [escape_csv(cell) for cell in ("-0.5", "+1e-3", -0.5)] == ["-0.5", "+1e-3", -0.5]
