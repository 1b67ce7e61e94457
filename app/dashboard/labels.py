"""What an auditor who never read a paper on it needs to be told."""

from __future__ import annotations

from collections.abc import Mapping

from unveil.app.report.labels import title


def paper(robust: Mapping[str, bool]) -> str:
    """The paper's verdicts on a scheme: robust against these attacks, not against those."""
    held, fell = (
        [title({"name": attack}) for attack, is_robust in robust.items() if is_robust is side] for side in (True, False)
    )
    parts = [
        f"{words} {', '.join(attacks)}"
        for words, attacks in (("robust against", held), ("not against", fell))
        if attacks
    ]
    return "; ".join(parts) if held else f"not robust against {', '.join(fell)}"
