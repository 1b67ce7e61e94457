"""What this process has counted since it began; a worker's heartbeat tells it, for the metrics."""

from __future__ import annotations

from collections import Counter

lease_recoveries: Counter[str] = Counter()  # jobs taken from workers that were gone, by table
