"""The board as LaTeX and BibTeX: names of datasets and schemes are text."""

from __future__ import annotations

from dataclasses import replace

from tests.app.board.boards import make_board, make_row
from unveil.app.board.formats import to_bibtex, to_latex

EVIL = "a{b} }%$&#_~^\\\\ <x|y>"


def brace_depths(text: str) -> list[int]:
    """Of every place, as BibTeX counts: escaped braces too."""
    depths, depth = [], 0
    for character in text:
        depth += (character == "{") - (character == "}")
        depths.append(depth)
    return depths


def test_braces_in_names_leave_the_braces_of_the_file_balanced() -> None:
    board = replace(make_board(make_row(EVIL)), dataset=EVIL)
    for text in (to_bibtex(board), to_latex(board).partition("\n")[2]):  # the first line of the table is a comment
        depths = brace_depths(text)
        assert min(depths) == 0
        assert depths[-1] == 0


def test_characters_with_a_meaning_or_another_glyph_are_commands() -> None:
    row = next(line for line in to_latex(make_board(make_row(EVIL))).splitlines() if line.startswith("a"))
    name = row.partition(" & leaks")[0]
    assert name == (
        r"a\textbraceleft{}b\textbraceright{} \textbraceright{}\%\$\&\#\_\textasciitilde{}\textasciicircum{}"
        r"\textbackslash{}\textbackslash{} \textless{}x\textbar{}y\textgreater{}"
    )
