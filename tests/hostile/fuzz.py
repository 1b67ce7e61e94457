"""schemathesis over the whole OpenAPI document of a running service: examples, edges, random cases, chains of links."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis.engine import Status, events, from_schema

_CONFIG: dict[str, Any] = {
    "max-stream-events": 3,  # of an evaluation that never runs nothing more would come
    "request-timeout": 30,
    "continue-on-failure": True,
    "output": {"sanitization": {"enabled": False}},
    # What a schema cannot say (the bytes of an image, an id of somebody) is refused, and has to be.
    "checks": {"positive_data_acceptance": {"enabled": False}},
    "generation": {"database": "none", "no-shrink": True},
}


@dataclass
class FuzzReport:
    cases: int = 0
    operations: set[str] = field(default_factory=set)
    phases: dict[str, int] = field(default_factory=dict)  # cases by phase
    failures: dict[str, str] = field(default_factory=dict)  # one for each kind, with the request that shows it


def fuzz(url: str, token: str, *, examples: int, seed: int, edges: bool = True, steps: int = 6) -> FuzzReport:
    """`edges`: also every boundary of every parameter, a thousand cases whatever `examples` says."""
    config = schemathesis.Config.from_dict(
        {
            **_CONFIG,
            "seed": seed,
            "headers": {"Authorization": f"Bearer {token}"},
            "generation": {**_CONFIG["generation"], "max-examples": examples},
            "phases": {"coverage": {"enabled": edges}, "stateful": {"max-steps": steps}},
        }
    )
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=config)
    report = FuzzReport()
    for event in from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                _record_scenario(report, event)
            case events.NonFatalError() | events.FatalError():
                report.failures[f"{type(event).__name__}"] = str(getattr(event, "value", event))
    return report


def _record_scenario(report: FuzzReport, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    sent = [id for id in recorder.cases if id in recorder.interactions]
    report.cases += len(sent)
    report.phases[event.phase.name.lower()] = report.phases.get(event.phase.name.lower(), 0) + len(sent)
    for id in sent:
        report.operations.add(recorder.cases[id].value.operation.label)
    for id, checks in recorder.checks.items():
        for check in checks:
            if check.status is Status.FAILURE and check.failure_info is not None:
                label = recorder.cases[id].value.operation.label
                failure = check.failure_info.failure
                report.failures.setdefault(
                    f"{label}: {failure.title}", f"{failure.message}\n{check.failure_info.code_sample}"
                )
