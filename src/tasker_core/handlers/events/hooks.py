"""Hooks of publishers and subscribers, which may be `async def`."""

from __future__ import annotations

import asyncio
import inspect
import threading
from typing import Any


def finished(value: Any) -> Any:
    """Give what a hook returned; if that has to be awaited, wait for it.

    It runs on an event loop of its own, so it cannot use what belongs to another loop.
    """
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    outcome: dict[str, Any] = {}

    def run() -> None:
        try:
            outcome["value"] = asyncio.run(wait())
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=run, name="tasker-hook")
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]
