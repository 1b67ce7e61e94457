"""Rate limits: requests per second, counted in Redis across all API processes."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence

import redis.asyncio
import redis.exceptions

from unveil.app.batching import BatchLoader
from unveil.app.errors.problem import TooMany

_BURST_S = 2.0  # a burst may use the allowance of so many seconds: a page with its images
_REJECTION_DELAY_S = 1.0
logger = logging.getLogger(__name__)


class RateLimiter:
    """A leaky bucket on the clock of Redis: each request moves the time at which the caller's bucket is empty again."""

    _LUA_SCRIPT = """
    local time, excess = redis.call('TIME'), {}
    local now = time[1] + time[2] / 1000000
    for i, key in ipairs(KEYS) do
        local per_second, burst = ARGV[2 * i - 1], ARGV[2 * i]
        local empty = math.max(tonumber(redis.call('GET', key) or 0), now) + 1 / per_second
        excess[i] = tostring(empty - now - burst)
        if empty - now - burst <= 0 then
            redis.call('SET', key, string.format('%.6f', empty), 'EX', math.ceil(burst) + 1)
        end
    end
    return excess
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._script = client.register_script(self._LUA_SCRIPT)
        self._hits = BatchLoader(self._hit_many)

    async def hit(self, identity: str, per_second: float, subject: str) -> None:
        """Counts one request of `identity`, which error messages call `subject`. Raises TooMany."""
        try:
            excess_s = await self._hits.load((f"unveil:rate:{identity}", per_second))
        except (redis.exceptions.RedisError, OSError):
            # Routes that need no broker keep working without Redis; the others report its absence themselves.
            logger.warning("Redis is unavailable; the rate limit is not enforced")
            return
        if excess_s > 0:
            retry_after_s = math.ceil(excess_s)
            # A client that retries at once must not be able to spin.
            await asyncio.sleep(_REJECTION_DELAY_S)
            raise TooMany(
                f"{subject} may send {per_second:g} requests per second; wait {retry_after_s} s",
                headers={"Retry-After": str(retry_after_s)},
            )

    async def _hit_many(self, hits: Sequence[tuple[str, float]]) -> list[float]:
        """By how many seconds each request comes too early; negative or 0 if it is allowed."""
        keys = [key for key, _ in hits]
        arguments = [value for _, rate in hits for value in (rate, max(_BURST_S, 1 / rate))]
        return [float(excess) for excess in await self._script(keys, arguments)]
