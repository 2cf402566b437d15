"""Make the durable events of an attempt before its outcome is recorded.

They go into the outbox in the transaction of the outcome, so they have to be there by
then. Publishers are an application's code: they run in threads of their own, for a while
at most, and whatever they do, the outcome is recorded.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import structlog

from tasker_core.errors import NotStorable
from tasker_core.payload import encode
from tasker_core.worker.attempt import Ended

if TYPE_CHECKING:
    from tasker_core.handlers.events.publish import PreparedEvent

HOOK_SECONDS = 30.0  # for all hooks of an attempt; its step waits for them
THREADS = 16
MAX_BYTES = 64 * 1024 * 1024  # the result in it has been measured

_log = structlog.get_logger("tasker.worker")


async def with_events(ended: Ended) -> Ended:
    """Give the end of an attempt with the events that it may publish. Never raises."""
    if not ended.plan.is_durable or ended.context is None or ended.checkpoint is not None:
        return ended
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(HOOK_SECONDS):
            return await loop.run_in_executor(_threads(), _prepare, ended)
    except TimeoutError:
        _tell_of_timeout(ended)
    except Exception:
        _log.exception("events_not_published", step=ended.plan.template_step)
    return ended


def with_events_now(ended: Ended) -> Ended:
    """Do the same in a thread that may wait."""
    if not ended.plan.is_durable or ended.context is None or ended.checkpoint is not None:
        return ended
    try:
        return _threads().submit(_prepare, ended).result(HOOK_SECONDS)
    except TimeoutError:
        _tell_of_timeout(ended)
    except Exception:
        _log.exception("events_not_published", step=ended.plan.template_step)
    return ended


def _tell_of_timeout(ended: Ended) -> None:
    _log.error(
        "events_not_published",
        task_uuid=str(ended.task_uuid),
        step=ended.plan.template_step,
        reason=f"a publisher took more than {HOOK_SECONDS:g} seconds",
    )


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(THREADS, thread_name_prefix="tasker-publishers")


def _prepare(ended: Ended) -> Ended:
    from tasker_core.handlers.events.publish import prepare_step_events

    assert ended.context is not None
    prepared = prepare_step_events(
        ended.plan.events, ended.context, ended.outcome, attempt=ended.attempt
    )
    texts = [text for one in prepared if one.is_durable and (text := _encoded(one))]
    return replace(ended, prepared=prepared, events=f"[{','.join(texts)}]" if texts else None)


def _encoded(prepared: PreparedEvent) -> str | None:
    try:
        told = {"condition": prepared.condition, "event": prepared.event}
        return encode(told, max_bytes=MAX_BYTES)
    except NotStorable as error:
        _log.error("event_not_published", name=prepared.event.event_name, reason=str(error))
        return None
