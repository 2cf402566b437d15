"""A sink in memory, and an outbox to relay from."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest

from support.events import publishing, telling
from support.flows import Worker, begin, done
from tasker_core.db.connect import Database
from tasker_core.relay import Relay, relay


class FakeSink:
    """Takes events while it is up, but those that it refuses."""

    name = "fake"

    def __init__(self, width: int = 1) -> None:
        self.width = width
        self.is_up = True
        self.refuses: Callable[[str], bool] = lambda name: False
        self.got: list[tuple[str, str]] = []  # task, name
        self.ids: list[str] = []
        self.opened = 0
        self.closed = 0
        self.failed = 0

    async def open(self) -> None:
        self.opened += 1
        if not self.is_up:
            raise ConnectionRefusedError("down")

    async def deliver(self, event) -> None:
        if not self.is_up or self.refuses(event.name):
            self.failed += 1
            raise ValueError(f"not {event.name}")
        self.got.append((str(event.task_uuid), event.name))
        self.ids.append(str(event.event_uuid))

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Rests are short."""
    monkeypatch.setattr(relay, "FIRST_REST_SECONDS", 0.002)
    monkeypatch.setattr(relay, "LONGEST_REST_SECONDS", 0.02)


@pytest.fixture
def sink() -> FakeSink:
    """A sink that is up."""
    return FakeSink()


@pytest.fixture
async def start(clean_database: str) -> AsyncIterator[Callable[..., object]]:
    """Starts relays; they stop with the test."""
    async with AsyncExitStack() as stack:

        async def start(sink: object, **options) -> Relay:
            made = Relay(Database(clean_database), sink, **{"poll_seconds": 0.05, **options})
            await made.start()
            stack.push_async_callback(made.stop)
            return made

        yield start


@pytest.fixture
def record(conn: asyncpg.Connection) -> Callable[..., object]:
    """Records events: so many tasks, with an event of each of these names, in turns."""

    async def record(tasks: int = 1, names: str = "abc") -> list[str]:
        worker = Worker(conn)
        steps = {name: [] for name in names}
        begun = await begin(conn, publishing(steps=steps, name=f"flow_{names}"), tasks)
        claims = await worker.claim(1000)
        for claim in sorted(claims, key=lambda claim: claim.step_no):
            await worker.finish(telling(done(claim, {}), "success", name=f"step.{claim.name}"))
        return sorted(map(str, begun))

    return record
