"""Every metric and label in the example alerts exists in /metrics; an alert on another name would never fire."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from sqlalchemy import func

from tests.app.service import run_service
from tests.factories import make_account, make_evaluation
from unveil.app.db.job_states import Status
from unveil.app.db.tables import Cell, ProcessHeartbeat

OPERATING = Path(__file__).parents[2] / "docs" / "operating.md"
RULES = yaml.safe_load(re.search(r"<!-- rules -->\n```yaml\n(.*?)```", OPERATING.read_text(), re.S)[1])


@pytest.mark.anyio
async def test_every_name_and_label_of_the_alerts_is_in_the_metrics(settings, anyio_backend) -> None:
    async with run_service(settings) as service, service.client(await service.create_account()) as client:
        _, (id,) = make_evaluation(
            service.worker.runtime.sessions, make_account(service.worker.runtime.sessions, "other")
        )
        gpu = {"name": "H100", "use": 0.5, "memory_used": 1, "memory": 2}
        with service.worker.runtime.sessions.begin() as session:
            said = {"master_key_version": 1, "concurrency": 1, "lease_recoveries": 3, "gpus": [gpu]}
            session.add(ProcessHeartbeat(name="w", queues=["attack"], seen_at=func.clock_timestamp(), **said))
            session.get_one(Cell, id).status = Status.FAILED
            session.get_one(Cell, id).error = {"code": "poison", "detail": "gone"}
        await client.get("/keys")
        told = (await client.get("/metrics")).text
    assert 'unveil_job_failures{code="poison",kind="cell"} 1.0' in told
    assert 'unveil_lease_recoveries{queue="attack",worker="w"} 3.0' in told
    assert 'unveil_gpu_utilization_ratio{gpu="0",name="H100",worker="w"} 0.5' in told
    rules = RULES["groups"][0]["rules"]
    assert len(rules) >= 8
    for rule in rules:
        for name, selected in re.findall(r"(unveil_\w+)(?:\{([^}]*)\})?", rule["expr"]):
            samples = re.findall(rf"^{name}(?:\{{(.*)\}})? ", told, re.M)
            assert samples, f"{rule['alert']}: {name}"
            for label in re.findall(r"(\w+)=", selected):
                assert f'{label}="' in samples[0], f"{rule['alert']}: {name} has no {label}"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
