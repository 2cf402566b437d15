"""How much one caller may ask for, in this process.

Nothing is written anywhere: several servers count each for itself. Memory is bounded:
whoever was not seen for longest is forgotten first, and begins anew.
"""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network

from tasker_core.server.problems import Refusal

MOST_BUCKETS = 10_000
ALMOST = 1e-6  # of a token: what rounding leaves

Now = Callable[[], float]


class Buckets:
    """A bucket of tokens for each caller: it holds `burst`, and fills by `per_minute`."""

    def __init__(
        self, per_minute: float, burst: int, *, size: int = MOST_BUCKETS, now: Now = time.monotonic
    ) -> None:
        self._rate, self._burst, self._size, self._now = per_minute / 60, burst, size, now
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, since when

    def seconds_until_one(self, who: str) -> int:
        """Say how long to wait for a token, in whole seconds; 0: there is one."""
        missing = 1 - self._level(who)
        return 0 if missing < ALMOST else math.ceil(missing / self._rate)

    def take(self, who: str) -> int:
        """Take a token; or say how long to wait for one, in seconds."""
        wait = self.seconds_until_one(who)
        if wait == 0:
            self._levels[who] = (self._level(who) - 1, self._now())
            self._levels.move_to_end(who)
            while len(self._levels) > self._size:
                self._levels.popitem(last=False)
        return wait

    def headers(self, who: str) -> dict[str, str]:
        """Say what is left, as the draft of the IETF has it (draft-ietf-httpapi-ratelimit-headers).

        The policy is a bucket: `q` requests at once, and after `w` seconds as many again.
        `r` are left now; after `t` seconds the bucket is full.
        """
        left = self._level(who)
        window = math.ceil(self._burst / self._rate - ALMOST)
        full_in = math.ceil((self._burst - left) / self._rate - ALMOST)
        return {
            "RateLimit-Policy": f'"requests";q={self._burst};w={window}',
            "RateLimit": f'"requests";r={math.floor(left + ALMOST)};t={full_in}',
        }

    def _level(self, who: str) -> float:
        tokens, since = self._levels.get(who, (float(self._burst), self._now()))
        return min(self._burst, tokens + (self._now() - since) * self._rate)


class Streams:
    """Counts the event streams that each caller has open.

    >>> streams = Streams(per_caller=1)
    >>> with streams.opened("ada"):
    ...     pass
    """

    def __init__(self, per_caller: int) -> None:
        self._per_caller = per_caller
        self._open: Counter[str] = Counter()

    @contextmanager
    def opened(self, who: str) -> Iterator[None]:
        """Hold a stream open, as long as the block runs.

        Args:
            who: As `counted_as` in auth.py has it.

        Raises:
            Refusal: This caller has as many as are allowed: 429.
        """
        if self._open[who] >= self._per_caller:
            raise too_many(
                f"{self._per_caller} event streams are open for this caller; close one first", 1
            )
        self._open[who] += 1
        try:
            yield
        finally:
            self._open[who] -= 1
            if not self._open[who]:
                del self._open[who]


def too_many(detail: str, retry_after: int) -> Refusal:
    """Refuse for now."""
    return Refusal(429, "RATE_LIMITED", detail, retry_after=retry_after)


def neighbourhood(address: str) -> str:
    """Give what one caller's addresses have in common: of IPv6 the first 64 bits.

    >>> neighbourhood("192.0.2.7"), neighbourhood("2001:db8:1:2:3::4")
    ('192.0.2.7', '2001:db8:1:2::/64')
    """
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ip_network(f"{found}/64", strict=False))
