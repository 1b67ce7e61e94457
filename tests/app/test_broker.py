"""A message of the service is the very one that Celery sends itself."""

from __future__ import annotations

import base64
import json

import redis

from unveil.app.broker import TRANSFORM, CeleryMessageEncoder, make_celery_app
from unveil.app.db.heartbeats import ENCRYPT_QUEUE


def test_what_is_written_for_others_to_send_is_what_celery_sends(settings):
    app, client = make_celery_app(settings), redis.Redis.from_url(settings.redis_url)
    queue, ours = CeleryMessageEncoder(app).encode(TRANSFORM, "work_1")
    app.send_task(TRANSFORM, args=["work_1"])
    app.close()
    theirs = client.rpop(ENCRYPT_QUEUE)
    assert queue == ENCRYPT_QUEUE
    assert _decode_message(ours) == _decode_message(theirs)


def test_each_message_has_ids_of_its_own(settings):
    app = make_celery_app(settings)
    messages = CeleryMessageEncoder(app)
    first, second = (json.loads(messages.encode(TRANSFORM, "work_1")[1]) for _ in range(2))
    app.close()
    assert first["headers"]["id"] != second["headers"]["id"]
    assert first["properties"]["delivery_tag"] != second["properties"]["delivery_tag"]


def _decode_message(raw: bytes) -> dict:
    message = json.loads(raw)
    task_id = message["headers"]["id"]
    assert task_id == message["headers"]["root_id"] == message["properties"]["correlation_id"]
    for part, name in (("headers", "id"), ("headers", "root_id"), ("properties", "correlation_id")):
        del message[part][name]
    del message["properties"]["delivery_tag"]
    return {**message, "body": json.loads(base64.b64decode(message["body"]))}
