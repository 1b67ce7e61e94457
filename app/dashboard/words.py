"""What an auditor who never read a paper on it needs to be told."""

from __future__ import annotations

from collections.abc import Mapping

# By threat model: what the attacker holds besides the algorithm, which is public.
THREATS = {
    "ciphertext-only": "The attacker has protected images only.",
    "+public images": "The attacker has protected images, and public photographs of the same kind.",
    "known-plaintext": "The attacker has some plain images together with their protected versions.",
    "chosen-plaintext": "The attacker can have images of his choice protected.",
}


def paper(verdicts: Mapping[str, str]) -> str:
    """The paper's verdicts on a scheme: robust against these attacks, not against those."""
    held = [attack for attack, word in verdicts.items() if word == "robust"]
    fell = [attack for attack, word in verdicts.items() if word != "robust"]
    parts = [
        f"{words} {', '.join(attacks)}"
        for words, attacks in (("robust against", held), ("not against", fell))
        if attacks
    ]
    return "; ".join(parts) if held else f"not robust against {', '.join(fell)}"
