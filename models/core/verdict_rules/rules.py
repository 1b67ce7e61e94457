"""Verdict rules: from the evidence of all cells on a scheme to `broken`, `leaks`, `no leak found` or `inconclusive`.

Pure functions of stored evidence (`models.core.verdict_rules.evidence`) and of the attacks that the profile asks for
(`models.core.verdict_rules.coverage`). The rules are versioned: change RULES_VERSION with any change of a constant or a
rule. docs/explanation/verdicts.md states the rules and their limits.
"""

from __future__ import annotations

from collections.abc import Sequence

from unveil.models.core.statistics import binomial_interval, hits_p_values, holm, upper_bounds
from unveil.models.core.verdict_rules.coverage import AttackNote, Coverage, coverage, describe_notes
from unveil.models.core.verdict_rules.evidence import CellEvidence, KeyEvidence, Rate
from unveil.models.core.verdict_rules.types import (
    BROKEN_SSIM,
    FAMILY_ERROR,
    GROUND_TRUTH_ERROR,
    MIN_EFFECTIVE_GALLERY,
    POWER_ERROR,
    RULES_VERSION,
    SEARCHABLE_BITS,
    THREAT_MODELS,
    WORST_FIRST,
    CellVerdict,
    CheapestBreak,
    EvaluatedScheme,
    Finding,
    Power,
    SchemeVerdict,
    Severity,
    SeverityKind,
    ThreatModelVerdict,
)
from unveil.models.core.verdict_rules.wording import (
    attack_subject,
    format_effort,
    format_images,
    format_indices,
    format_percent,
)


def scheme_verdict(evaluated: EvaluatedScheme) -> tuple[SchemeVerdict, tuple[CellVerdict | None, ...]]:
    """The worst case over all cells, keys and images of one scheme. Without a finding: `no leak found` or
    `inconclusive`. Also returns the verdict of each cell, in their order; None for cells that did not finish.
    """
    cells = evaluated.cells
    tests = _Tests([cell for cell in cells if _passed_controls(cell)], FAMILY_ERROR)
    findings = [finding for cell in cells if cell.status == "succeeded" for finding in _findings(cell, tests)]
    findings.sort(key=_severity_rank)
    covers = tuple(
        model for model in THREAT_MODELS
        if model in evaluated.material and any(attack.threat_model == model for attack in evaluated.required)
    )  # fmt: skip
    rows = {model: _row(evaluated, model, findings, tests) for model in covers}
    whole = coverage(evaluated.required, cells)
    broken = [finding for finding in findings if finding.verdict == "broken"]
    power = _power(cells)
    if findings:
        worst = findings[0]
        because = "; ".join([worst.because, *_ground_truth(tests.cells)])
        overall = ThreatModelVerdict(worst.verdict, because, worst.cell.attack)
    else:
        overall = _without_finding(evaluated, _causes(evaluated, list(cells), whole, tests, power), power)
    verdict = SchemeVerdict(
        verdict=overall.verdict,
        because=overall.because,
        worst_attack=overall.worst_attack,
        tried=whole.tried,
        not_tried=whole.not_tried,
        weakened=whole.weakened,
        covers=covers,
        not_claimed=_not_claimed(evaluated, covers),
        by_threat_model=rows,
        rules_version=RULES_VERSION,
        severity=findings[0].severity if findings else _highest_rate(cells),
        cheapest_break=_cheapest(broken),
        power=power,
    )
    return verdict, tuple(_cell_verdict(cell, findings, tests, whole, power) for cell in cells)


def cell_verdict(cell: CellEvidence, planned_cells: int) -> CellVerdict:
    """A verdict on one cell before the others have finished. planned_cells: of the scheme; they share the error."""
    tests = _Tests([cell] if _passed_controls(cell) else [], FAMILY_ERROR / max(1, planned_cells))
    findings = _findings(cell, tests) if cell.status == "succeeded" else []
    found = _cell_verdict(cell, findings, tests, None, _power([cell]))
    return found or CellVerdict("inconclusive", (), None)


def above_chance(key: KeyEvidence, error: float) -> bool:
    """Whether one run identifies images above chance: a positive control must, a negative control must not."""
    p_values = sorted(_p_values(_rates(key)))
    images = [found.p_value for found in key.findings]
    return holm(p_values, len(p_values), error / 2) > 0 or holm(images, key.images_tested, error / 2) > 0


class _Tests:
    """The tests of a scheme, with the family-wise error shared between rates and single images, Holm in each half."""

    def __init__(self, cells: Sequence[CellEvidence], error: float) -> None:
        self.cells = list(cells)
        tests = [(cell, key, rate) for cell in cells for key in cell.keys for rate in _rates(key)]
        p_values = _p_values([rate for *_, rate in tests])
        order = sorted(range(len(tests)), key=p_values.__getitem__)
        rejected = holm([p_values[i] for i in order], len(tests), error / 2)
        self.significant_rates = [tests[i] for i in order[:rejected]]
        images = sorted(
            ((found.p_value, cell, found) for cell in cells for key in cell.keys for found in key.findings),
            key=lambda test: test[0],
        )
        family = sum(key.images_tested for cell in cells for key in cell.keys)
        rejected = holm([p for p, *_ in images], family, error / 2)
        self._leaking: dict[int, dict[int, None]] = {}  # by id of the cell, the most certain first
        for _, cell, found in images[:rejected]:
            self._leaking.setdefault(id(cell), {})[found.index] = None

    def leaking_images(self, cell: CellEvidence) -> list[int]:
        """Indices, the most certain first."""
        return list(self._leaking.get(id(cell), ()))


def _p_values(rates: Sequence[Rate]) -> list[float]:
    columns = ([r.hits for r in rates], [r.trials for r in rates], [r.chance for r in rates])
    return [float(p) for p in hits_p_values(*columns)]


def _rates(key: KeyEvidence) -> tuple[Rate, ...]:
    return (*key.rates, key.linkage) if key.linkage else key.rates


def _passed_controls(cell: CellEvidence) -> bool:
    """Whether the cell's statistics count: it finished, and no control failed."""
    return cell.status == "succeeded" and bool(cell.keys) and "failed" not in cell.controls.values()


def _findings(cell: CellEvidence, tests: _Tests) -> list[Finding]:
    found: list[Finding] = []
    subject, verb = attack_subject(cell.attack)
    if cell.effective_bits is not None and cell.effective_bits < SEARCHABLE_BITS:
        because = f"only 2^{cell.effective_bits:.0f} keys: an exhaustive search is feasible"
        found.append(Finding("broken", because, Severity("key", 1.0, 1.0, 1.0, 0), cell))
    exact, keys = [key for key in cell.keys if key.key_exact], len(cell.keys)
    if exact:
        share = "" if len(exact) == keys else f" for {len(exact)} of {keys} keys"
        because = f"{cell.attack} found the exact key{format_effort(cell.effort)}{share}"
        low, high = binomial_interval(len(exact), keys)
        found.append(Finding("broken", because, Severity("key", len(exact) / keys, low, high, keys), cell))
    found += _ssim_break(cell, f"{subject} {verb('show')}")
    if cell.matched_public:
        because = f"{subject} {verb('show')} public images (ciphertexts {format_indices(cell.matched_public)})"
        tested = max((key.images_tested for key in cell.keys), default=len(cell.matched_public))
        low, high = binomial_interval(len(cell.matched_public), tested)
        severity = Severity("identification", len(cell.matched_public) / tested, low, high, tested)
        found.append(Finding("leaks", because, severity, cell))
    if cell not in tests.cells:
        return found
    rates = [(key, rate) for of, key, rate in tests.significant_rates if of is cell]
    images = tests.leaking_images(cell)
    if rates:
        key, rate = max(rates, key=lambda test: test[1].value - test[1].chance)
        linked = rate is key.linkage
        what = "linked to their originals" if linked else "identified"
        because = (
            f"{subject} {verb('allow')} {format_percent(rate.value)} of images to be {what} among {cell.gallery} "
            f"(chance {format_percent(rate.chance)})" + ("" if linked else f", by {rate.comparison}")
        )
        found.append(Finding("leaks", because, _severity("linkage" if linked else "identification", rate, key), cell))
    if images:
        tested = max(key.images_tested for key in cell.keys)
        because = f"{subject} {verb('show')} {format_images(images, tested)}"
        low, high = binomial_interval(len(images), tested)
        severity = Severity("identification", len(images) / tested, low, high, tested)
        if rates:  # one finding with both: the images are shown first
            leak = found.pop()
            because = f"{because}; {leak.because}"
            severity = max(severity, leak.severity, key=lambda s: s.value)
        found.append(Finding("leaks", because, severity, cell))
    return found


def _ssim_break(cell: CellEvidence, subject: str) -> list[Finding]:
    """Broken by SSIM under the worst key, unless the attack makes such images out of noise."""
    scored = [key for key in cell.keys if key.ssim is not None]
    if not scored or cell.controls.get("negative") == "failed":
        return []
    worst = max(scored, key=lambda key: key.ssim or 0.0)
    assert worst.ssim is not None
    if worst.ssim < BROKEN_SSIM:
        return []
    broken = sum((key.ssim or 0.0) >= BROKEN_SSIM for key in scored)
    share = "" if broken == len(scored) else f" for {broken} of {len(scored)} keys"
    ambiguity = f", up to a {cell.ambiguity}" if cell.ambiguity else ""
    low, high = worst.ssim_interval or (worst.ssim, worst.ssim)
    severity = Severity("ssim", worst.ssim, low, high, worst.images_tested)
    return [Finding("broken", f"{subject} the images at SSIM {worst.ssim:.2f}{ambiguity}{share}", severity, cell)]


def _severity(kind: SeverityKind, rate: Rate, key: KeyEvidence) -> Severity:
    """The interval is corrected for the choice of the best comparison."""
    low, high = binomial_interval(rate.hits, rate.trials, 1 - 0.05 / max(1, len(_rates(key))))
    return Severity(kind, rate.value, low, high, rate.trials)


def _highest_rate(cells: Sequence[CellEvidence]) -> Severity | None:
    rates = [
        (key, rate)
        for cell in cells if cell.status == "succeeded"
        for key in cell.keys for rate in _rates(key) if rate.chance < 0.5
    ]  # fmt: skip
    if not rates:
        return None
    key, rate = max(rates, key=lambda found: found[1].value - found[1].chance)
    return _severity("linkage" if rate is key.linkage else "identification", rate, key)


def _severity_rank(finding: Finding) -> tuple[int, int, int, float]:
    kinds = ("key", "ssim", "linkage", "identification")
    model = finding.cell.threat_model
    return (
        WORST_FIRST.index(finding.verdict),
        kinds.index(finding.severity.kind) if finding.verdict == "broken" else 0,
        THREAT_MODELS.index(model) if finding.verdict == "broken" and model in THREAT_MODELS else 0,
        -finding.severity.value,
    )


def _power(cells: Sequence[CellEvidence]) -> Power | None:
    """From the cells whose controls passed; without any, from all that were scored."""
    scored = [cell for cell in cells if cell.status == "succeeded" and cell.keys and cell.gallery]
    scored = [cell for cell in scored if _passed_controls(cell)] or scored
    rates = [rate for cell in scored for key in cell.keys for rate in _rates(key)]
    if not rates:
        return None
    bounds = upper_bounds([r.hits for r in rates], [r.trials for r in rates], POWER_ERROR / len(rates))
    bound, rate = max(zip(map(float, bounds), rates, strict=True), key=lambda found: found[0] - found[1].chance)
    smallest = min(scored, key=lambda cell: cell.effective_gallery)
    chance = max(rate.chance, 1 / max(1.0, smallest.effective_gallery))
    return Power(bound, chance, smallest.gallery, smallest.effective_gallery, rate.trials)


def _row(evaluated: EvaluatedScheme, model: str, findings: Sequence[Finding], tests: _Tests) -> ThreatModelVerdict:
    own = [finding for finding in findings if finding.cell.threat_model == model]
    if own:
        return ThreatModelVerdict(own[0].verdict, own[0].because, own[0].cell.attack)
    cells = [cell for cell in evaluated.cells if cell.threat_model == model]
    required = [attack for attack in evaluated.required if attack.threat_model == model]
    power = _power(cells)
    causes = _causes(evaluated, cells, coverage(required, cells), tests, power)
    return _without_finding(evaluated, causes, power)


def _causes(
    evaluated: EvaluatedScheme,
    cells: Sequence[CellEvidence],
    covered: Coverage,
    tests: _Tests,
    power: Power | None,
) -> list[str]:
    """Reasons against `no leak found`, the most important first."""
    causes = _ground_truth([cell for cell in tests.cells if cell in cells])
    if not evaluated.natural_output:
        natural = {i for cell in cells if cell.status == "succeeded" for i in cell.natural_looking}
        if natural:
            causes.append(f"ciphertexts look like natural images ({len(natural)} of them)")
    if power and power.effective_gallery < MIN_EFFECTIVE_GALLERY and power.gallery > 1:
        causes.append(
            f"effective gallery of {power.effective_gallery:.3g}: "
            + (
                f"{power.gallery} images are too few to tell originals apart"
                if power.effective_gallery > power.gallery - 1
                else f"the {power.gallery} gallery images are near-duplicates of each other"
            )
        )
    for cell in cells:
        failed = [name for name, state in cell.controls.items() if state == "failed"]
        if cell.status == "succeeded" and failed:
            causes.append(f"the {' and '.join(failed)} control of {cell.attack} failed")
    if covered.pending:
        causes.append("attacks are still running")
    for label, notes in (("not run", covered.not_tried), ("weaker than the profile", covered.weakened)):
        if notes:
            causes.append(f"{label}: {describe_notes(notes)}")
    if not covered.tried and not covered.not_tried and not covered.weakened:
        causes.append("no attack was run")
    if power is None and not causes:
        causes.append("nothing could be scored")
    elif power and not power.enough and not any(cause.startswith("effective gallery") for cause in causes):
        causes.append(
            f"{power.images} images cannot exclude that {format_percent(power.upper_bound)} can be identified "
            f"(chance {format_percent(power.chance)})"
        )
    return causes


def _without_finding(evaluated: EvaluatedScheme, causes: Sequence[str], power: Power | None) -> ThreatModelVerdict:
    if causes:
        return ThreatModelVerdict("inconclusive", "; ".join(causes), None)
    assert power is not None
    because = (
        f"every applicable attack of the {evaluated.profile} profile ran with its strength or more; "
        f"at most {format_percent(power.upper_bound)} of images can be identified "
        f"(95 % confidence, {power.images} images)"
    )
    return ThreatModelVerdict("no leak found", because, None)


def _ground_truth(cells: Sequence[CellEvidence]) -> list[str]:
    """Evidence that originals do not belong to the images scored against them."""
    keys = [(cell, key) for cell in cells for key in cell.keys]
    error = GROUND_TRUTH_ERROR / (2 * max(1, len(keys)))
    wrong = {m.index: m.shows for _, key in keys for m in key.misplaced if m.p_value <= error}
    if wrong:
        first, count = min(wrong), "1 image shows" if len(wrong) == 1 else f"{len(wrong)} images show"
        return [f"originals do not match: {count} another original (image {first} shows {wrong[first]})"]
    if any(key.order_p_value <= error for _, key in keys):
        return ["originals do not match: images resemble originals at a constant offset or in reverse order"]
    return []


def _not_claimed(evaluated: EvaluatedScheme, covers: Sequence[str]) -> tuple[AttackNote, ...]:
    return tuple(
        AttackNote(
            "", model, "no attack of the profile applies" if model in evaluated.material else "no material given"
        )
        for model in THREAT_MODELS
        if model not in covers
    )


def _cheapest(broken: Sequence[Finding]) -> CheapestBreak | None:
    def cost(finding: Finding) -> tuple[int, int, float]:
        effort, model = finding.cell.effort, finding.cell.threat_model
        counts = (effort.ciphertexts, effort.pairs, effort.queries)
        given = sum(count or 0 for count in counts)
        order = THREAT_MODELS.index(model) if model in THREAT_MODELS else len(THREAT_MODELS)
        return order, given, effort.seconds or 0.0

    if not broken:
        return None
    cell = min(broken, key=cost).cell
    effort = cell.effort
    return CheapestBreak(cell.attack, effort.ciphertexts, effort.pairs, effort.queries, effort.seconds)


def _cell_verdict(
    cell: CellEvidence, findings: Sequence[Finding], tests: _Tests, covered: Coverage | None, power: Power | None
) -> CellVerdict | None:
    if cell.status != "succeeded":
        return None
    own = [finding for finding in findings if finding.cell is cell]
    rates = [rate for key in cell.keys for rate in key.rates]
    comparison = max(rates, key=lambda rate: rate.value - rate.chance).comparison if rates else None
    leaking = tuple(tests.leaking_images(cell))
    if own:
        return CellVerdict(min((f.verdict for f in own), key=WORST_FIRST.index), leaking, comparison)
    weak = covered is not None and any(note.attack == cell.attack for note in covered.weakened)
    if cell.effective_bits is not None and not cell.keys:
        return CellVerdict("no leak found", (), None)
    conclusive = cell in tests.cells and power is not None and power.enough and not weak
    return CellVerdict("no leak found" if conclusive else "inconclusive", leaking, comparison)
