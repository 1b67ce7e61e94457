"""The tables of docs/reference/capabilities.md: what the classes of a plug-in declare, and what attacks make of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple

from unveil.models import catalog
from unveil.models.core.threat_models import Capability
from unveil.plugins import (
    Attack,
    BlockMap,
    ChannelSubset,
    LinearMap,
    Metric,
    Mixture,
    NetworkMap,
    PixelMap,
    PositionPermutation,
    Scheme,
)

_EXAMPLES = (
    PixelMap(),
    BlockMap(4, "nibble"),
    BlockMap(8, "value", shared=False, blocks_move=True),
    PositionPermutation("pixel"),
    LinearMap(4),
    Mixture(2, 2, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    ChannelSubset(((4, 5), (6, 7)), ((0, 1), (1, 0))),
    NetworkMap(),
    None,
)
_MATERIAL = {
    Capability.CIPHERTEXTS: "`targets`, and `observed`: further ciphertexts under the same key",
    Capability.PUBLIC_IMAGES: "`public`: plain images of the same kind",
    Capability.PAIRS: "`pairs`: plain images with their ciphertexts",
    Capability.ORACLE: "`oracle(images)`: encrypts images under the attacked key",
    Capability.MODEL: "`model(images)`: class probabilities of 8-bit protected images, float32 `[N, classes]`, by a "
    "classifier that the owner trained on all their protected images; needs a dataset with class folders",
    Capability.LABELS: "`labels`: the class of each observed ciphertext",
}


class Table(NamedTuple):
    heading: str
    text: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def tables() -> Iterator[Table]:
    yield Table(
        "Structure of a scheme",
        'A class attribute, such as `structure = BlockMap(4, "nibble")`; without one, attacks that need no '
        "structure still run. `unveil plugins check` fails a scheme that declares another structure than it has.",
        ("structure", "what the scheme does", "attacks that apply"),
        [(f"`{example}`", _first_paragraph(type(example)), ", ".join(_attacks_on(example))) for example in _EXAMPLES],
    )
    yield Table(
        "Capabilities of an attacker",
        "`threat_model = ThreatModel.KNOWN_PLAINTEXT`, or for another set `ThreatModel.of(Capability.PAIRS, "
        "Capability.LABELS)`. An attack receives what its threat model names and nothing else.",
        ("capability", "what the attack receives", "named threat models with it"),
        [
            (f"`{c.name}`", _MATERIAL[c], ", ".join(f"`{m.name}`" for m in catalog.NAMED_THREAT_MODELS if c in m))
            for c in Capability
        ],
    )
    for base, required in (
        (Scheme, "`name`, `derive` and `encrypt`"),
        (Attack, "`name`, `threat_model` and `run`"),
        (Metric, "`name` and `compute`"),
    ):
        yield Table(
            f"Members of {base.__name__}",
            f"A class defines {required}; all other members have a default.",
            ("member", "meaning"),
            list(_members(base)),
        )


def _attacks_on(structure: Any) -> list[str]:
    """Of a scheme with one key for all images and no solver of its own."""
    probe_class: Any = type(
        "Probe", (Scheme,), {"name": "acme/probe", "structure": structure, "derive": None, "encrypt": None}
    )
    probe = probe_class(probe_class.Settings())
    return [
        f"`{name}`" for name in catalog.attacks() if catalog.make_attack(name, {}).not_applicable_reason(probe) is None
    ]


def _members(base: type[Any]) -> Iterator[tuple[str, str]]:
    for name, member in vars(base).items():
        function = member.fget if isinstance(member, property) else member
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        parameters = ", ".join(list(inspect.signature(function).parameters)[1:])
        yield (f"`{name}`" if isinstance(member, property) else f"`{name}({parameters})`", _first_paragraph(function))


def _first_paragraph(subject: Any) -> str:
    if subject is type(None):
        return "Nothing that has a name here."
    return (inspect.getdoc(subject) or "").partition("\n\n")[0].replace("\n", " ")
