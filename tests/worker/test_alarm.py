"""The alarm rings when the next delayed step is due, and when it is time to look everywhere."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
import uvloop

from tasker_core.engine.claim import Work
from tasker_core.worker.alarm import Alarm
from tasker_core.worker.lookout import Lookout


def due_in(seconds: float) -> Work:
    return Work([], [], timedelta(seconds=seconds))


@pytest.fixture
async def lookout() -> Lookout:
    lookout = Lookout(poll_seconds=3600)
    lookout.look_everywhere()
    return lookout


async def test_it_rings_for_a_delayed_step(lookout):
    rung = asyncio.Event()
    alarm = Alarm(lookout, rung.set)

    alarm.set(due_in(0.05))

    assert not lookout.is_due
    await asyncio.wait_for(rung.wait(), 5)
    assert lookout.is_due


async def test_a_later_step_does_not_put_it_off(lookout):
    rung = asyncio.Event()
    alarm = Alarm(lookout, rung.set)

    alarm.set(due_in(0.05))
    alarm.set(due_in(3600))
    alarm.set(None)

    await asyncio.wait_for(rung.wait(), 5)


async def test_it_rings_when_it_is_time_to_look_everywhere():
    rung = asyncio.Event()
    lookout = Lookout(poll_seconds=0.05)
    lookout.look_everywhere()
    alarm = Alarm(lookout, rung.set)

    alarm.set(None)

    await asyncio.wait_for(rung.wait(), 5)
    assert not lookout.is_due
    assert lookout.seconds_to_poll > 0


async def test_it_can_be_set_again_after_it_was_cancelled(lookout):
    rung = asyncio.Event()
    alarm = Alarm(lookout, rung.set)

    alarm.set(due_in(0.05))
    alarm.cancel()
    alarm.set(None)

    await asyncio.wait_for(rung.wait(), 5)


async def test_a_ring_that_came_too_early_is_followed_by_another():
    """A loop's timer may be early; then there is nothing to do yet."""
    rung = asyncio.Event()
    lookout = Lookout(poll_seconds=0.1)
    lookout.look_everywhere()
    alarm = Alarm(lookout, rung.set)
    alarm.set(None)
    assert alarm._timer is not None
    alarm._timer.cancel()

    alarm._ring()
    rung.clear()
    alarm.set(None)

    await asyncio.wait_for(rung.wait(), 5)


def test_what_is_due_long_since_rings_soon_under_uvloop():
    """Its timers differ from asyncio's."""

    async def rings() -> bool:
        rung = asyncio.Event()
        lookout = Lookout(poll_seconds=3600)
        lookout.look_everywhere()
        alarm = Alarm(lookout, rung.set)
        for _ in range(3):
            alarm.set(due_in(-5))
        await asyncio.wait_for(rung.wait(), 5)
        return lookout.is_due

    assert uvloop.run(rings())
