"""The consoles of the command line. They print names, paths and messages as they are: no markup, no emoji."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

VERDICT_STYLES = {"broken": "bold red", "leaks": "yellow", "no leak found": "green", "inconclusive": "bright_black"}
_UNLIMITED_WIDTH = 10_000


def make_console(is_terminal: bool, *, stderr: bool = False) -> Console:
    """Output into a pipe or a file is not cut to the width of a terminal."""
    if is_terminal:
        return Console(stderr=stderr, markup=False, emoji=False)
    return PlainConsole(stderr=stderr, markup=False, emoji=False, width=_UNLIMITED_WIDTH)


class PlainConsole(Console):
    """For a pipe or a file: lines end without the blanks that fill columns."""

    def print(self, *objects: Any, **options: Any) -> None:
        with self.capture() as capture:
            super().print(*objects, **options)
        self.file.write(re.sub(" +$", "", capture.get(), flags=re.MULTILINE))
        self.file.flush()


def verdict_text(verdict: str, text: str = "") -> Text:
    """The text, or else the verdict, in the colour of the verdict."""
    return Text(text or verdict, style=VERDICT_STYLES.get(verdict, ""))
