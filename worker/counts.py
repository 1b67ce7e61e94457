"""Counters of this process since its start; the heartbeat publishes them for the metrics."""

from __future__ import annotations

from collections import Counter

lease_recoveries: Counter[str] = Counter()  # jobs requeued or ended after their lease expired, by table
