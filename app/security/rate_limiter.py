"""Rate limits: requests per second, counted in Redis for all API processes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence

import redis.asyncio
import redis.exceptions

from unveil.app.batching import BatchLoader
from unveil.app.errors.problem import TooMany

_BURST_S = 2.0  # requests of so many seconds may arrive at once: a page with its images
_PAUSE_S = 1.0
logger = logging.getLogger(__name__)


class RateLimiter:
    """Requests a second, for all processes of the service together.

    A leaky bucket on the clock of Redis: each request moves the time at which the caller's bucket is empty again.
    """

    _LUA_SCRIPT = """
    local time, over = redis.call('TIME'), {}
    local now = time[1] + time[2] / 1000000
    for i, key in ipairs(KEYS) do
        local per_second, burst = ARGV[2 * i - 1], ARGV[2 * i]
        local empty = math.max(tonumber(redis.call('GET', key) or 0), now) + 1 / per_second
        over[i] = tostring(empty - now - burst)
        if empty - now - burst <= 0 then
            redis.call('SET', key, string.format('%.6f', empty), 'EX', math.ceil(burst) + 1)
        end
    end
    return over
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._script = client.register_script(self._LUA_SCRIPT)
        self._hit_batched = BatchLoader(self._hit_many)

    async def hit(self, identity: str, per_second: float, subject: str) -> None:
        """Count one request of `who`. Raises TooMany."""
        try:
            excess_s = await self._hit_batched((f"unveil:rate:{identity}", per_second))
        except (redis.exceptions.RedisError, OSError):
            # What needs no broker is served without one; what needs it says so itself.
            logger.warning("rate limit not counted: redis is away")
            return
        if excess_s > 0:
            retry_after_s = math.ceil(excess_s)
            # A refusal costs us work too: who asks too fast gets it slowly, and so asks less.
            await asyncio.sleep(_PAUSE_S)
            raise TooMany(
                f"{subject} may make {per_second:g} requests a second; wait {retry_after_s} s",
                headers={"Retry-After": str(retry_after_s)},
            )

    async def _hit_many(self, hits: Sequence[tuple[str, float]]) -> list[float]:
        """By how many seconds each comes too early."""
        keys = [key for key, _ in hits]
        arguments = [value for _, rate in hits for value in (rate, max(_BURST_S, 1 / rate))]
        return [float(over) for over in await self._script(keys, arguments)]
