"""Readiness names each part; metrics count what happened."""

from __future__ import annotations

import re

import pytest
from sqlalchemy import func, text

from unveil.app.db.tables import ProcessHeartbeat

pytestmark = pytest.mark.anyio


async def add_heartbeat(service, seconds_ago):
    async with service.app_state.sessions() as session, session.begin():
        at = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, seconds_ago)
        session.add(ProcessHeartbeat(name="w1", queues=["encrypt"], seen_at=at))


async def test_ready_with_a_live_worker(service):
    await add_heartbeat(service, 5)
    async with service.client() as anyone:
        answer = await anyone.get("/health/ready")
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "ok"
    assert answer.json()["parts"]["workers"]["detail"] == "1 on encrypt, none on attack, none on ops"


async def test_not_ready_when_the_last_worker_was_seen_too_long_ago(service):
    await add_heartbeat(service, 40)
    async with service.client() as anyone:
        answer = await anyone.get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["parts"]["workers"]["ok"] is False
    assert answer.json()["parts"]["database"]["ok"] is True


async def test_not_ready_before_the_migrations_are_at_head(service):
    await add_heartbeat(service, 5)
    async with service.app_state.sessions() as session, session.begin():
        await session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    async with service.client() as anyone:
        answer = await anyone.get("/health/ready")
    assert answer.status_code == 503
    assert "python -m unveil.app.db.migrate" in answer.json()["parts"]["migrations"]["detail"]


async def test_metrics_count_requests_by_route_and_know_the_workers(service, client):
    await add_heartbeat(service, 5)

    def count(text):
        found = re.search(r'unveil_http_requests_total\{handler="/keys/\{id\}",method="GET",status="404"\} (.*)', text)
        return float(found[1]) if found else 0.0

    before = count((await client.get("/metrics")).text)
    await client.get("/keys/key_1")
    await client.get("/keys/key_2")
    text = (await client.get("/metrics")).text
    assert count(text) == before + 2
    assert 'unveil_worker_heartbeat_age_seconds{queue="encrypt",worker="w1"}' in text
    assert 'unveil_queue_messages{queue="encrypt"} 0.0' in text
    assert 'unveil_jobs{kind="cell",status="queued"} 0.0' in text
    assert 'unveil_component_up{component="broker"} 1.0' in text
