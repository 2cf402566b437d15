"""How much one caller may ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.server.limits import Buckets, Streams
from tasker_core.server.problems import Refusal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 20), st.integers(1, 600))
def test_no_caller_gets_more_than_burst_and_rate(
    rests: list[float], burst: int, per_minute: int
) -> None:
    """Whenever they ask; and whoever waits as long as they were told gets one."""
    clock = Clock()
    buckets = Buckets(per_minute, burst, now=clock)
    got = 0
    for rest in rests:
        clock.now += rest
        wait = buckets.take("ada")
        got += wait == 0
        assert got <= burst + clock.now * per_minute / 60 + 1e-3
    clock.now += buckets.seconds_until_one("ada")
    assert buckets.take("ada") == 0


def test_what_is_left_is_told() -> None:
    """Policy and rest: at the start, when it is used up, and after a while."""
    clock = Clock()
    buckets = Buckets(per_minute=60, burst=10, now=clock)
    policy = '"requests";q=10;w=10'
    assert buckets.headers("ada") == {
        "RateLimit-Policy": policy,
        "RateLimit": '"requests";r=10;t=0',
    }
    for _ in range(11):
        buckets.take("ada")
    assert buckets.headers("ada")["RateLimit"] == '"requests";r=0;t=10'
    clock.now += 2.5
    assert buckets.headers("ada")["RateLimit"] == '"requests";r=2;t=8'
    assert buckets.headers("bob")["RateLimit"] == '"requests";r=10;t=0'


def test_memory_is_bounded_and_the_oldest_is_forgotten() -> None:
    """However many addresses somebody has."""
    buckets = Buckets(1, 1, size=3, now=Clock())
    for who in "abcdefg":
        buckets.take(who)

    assert list(buckets._levels) == ["e", "f", "g"]
    assert buckets.take("g") > 0
    assert buckets.take("a") == 0


def test_streams_of_one_caller_are_bounded() -> None:
    """The one too many is refused, closed ones count no more, and others are not touched."""
    streams = Streams(2)
    with streams.opened("ada"), streams.opened("bob"):
        with streams.opened("ada"):
            with pytest.raises(Refusal) as caught, streams.opened("ada"):
                pass
            assert (caught.value.status, caught.value.retry_after) == (429, 1)
        with streams.opened("ada"):
            pass
    assert not streams._open
