"""What an auditor who never read a paper on it needs to be told."""

from __future__ import annotations

from collections.abc import Mapping

from unveil.app.report.labels import title


def format_paper_verdicts(robust: Mapping[str, bool]) -> str:
    """The paper's verdicts on a scheme: robust against these attacks, not against those."""
    robust_against, not_robust_against = (
        [title({"name": attack}) for attack, is_robust in robust.items() if is_robust is expected]
        for expected in (True, False)
    )
    parts = [
        f"{words} {', '.join(attacks)}"
        for words, attacks in (("robust against", robust_against), ("not against", not_robust_against))
        if attacks
    ]
    return "; ".join(parts) if robust_against else f"not robust against {', '.join(not_robust_against)}"
