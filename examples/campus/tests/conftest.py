"""The application as it runs: a database, a Tasker server, and uvicorn, each a process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from support.postgres import start_session_server
from tasker_core.db.migrate import upgrade

HOME = Path(__file__).parents[1]
sys.path.insert(0, str(HOME))  # `import app`, as in a terminal in this directory


@pytest.fixture(scope="session")
def campus_database() -> Iterator[str]:
    """A database with Tasker's tables and the college's."""
    from app.database import SCHEMA

    async def prepare(url: str) -> None:
        conn = await asyncpg.connect(url)
        await upgrade(conn)
        await conn.execute(SCHEMA)
        await conn.close()

    server = start_session_server()
    try:
        asyncio.run(prepare(server.url))
        yield server.url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def campus_url(campus_database: str) -> Iterator[str]:
    """The running application."""
    tasker, campus = (f"http://127.0.0.1:{_free_port()}" for _ in range(2))
    environment = {
        **os.environ,
        "DATABASE_URL": campus_database,
        "TASKER_URL": tasker,
        "LIBRARY_URL": f"{campus}/partners/library",
    }
    server = ["tasker_core.cli.main", "server", "run", "--templates", "app/config/templates"]
    with (
        _process(server, tasker, "/health/ready", environment),
        _process(["uvicorn", "app.main:app"], campus, "/health", environment),
    ):
        yield campus


@pytest.fixture(autouse=True)
def database(campus_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database, as the DATABASE_URL of what a test calls directly."""
    from app.database import _database

    monkeypatch.setenv("DATABASE_URL", campus_database)
    _database.cache_clear()
    return campus_database


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to look at what the application has written. No outage is left over."""
    conn = await asyncpg.connect(database)
    await conn.execute("delete from campus.outages")
    yield conn
    await conn.close()


@pytest.fixture
async def campus(campus_url: str, conn: asyncpg.Connection) -> AsyncIterator[Campus]:
    """Somebody who uses the application."""
    async with httpx.AsyncClient(base_url=campus_url, trust_env=False, timeout=40) as http:
        yield Campus(http)


class Campus:
    """The application from outside."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def begin(self, path: str, body: dict[str, Any]) -> str:
        """Ask for something, and give the place where it can be followed."""
        answer = await self.http.post(path, json=body)
        assert answer.status_code == 202, answer.text
        assert answer.headers["Location"] == answer.json()["follow"]
        return answer.headers["Location"]

    async def finished(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask for something, and give the task as it ends."""
        return await self.end_of(await self.begin(path, body))

    async def end_of(self, place: str) -> dict[str, Any]:
        """Give a task as it ends."""
        task = (await self.http.get(place, params={"wait": 20})).json()
        assert task["status"] in ("complete", "blocked_by_failures"), task
        return task

    async def outage(self, place: str, calls: int = 1) -> None:
        """Let a place fail."""
        answer = await self.http.post("/outages", json={"place": place, "calls": calls})
        assert answer.status_code == 204, answer.text


@pytest.fixture
def an_address() -> Callable[[], str]:
    """Make addresses that nobody has yet."""
    return lambda: f"{uuid4().hex[:12]}@students.test"


class _process:  # noqa: N801 - used like a function
    """`python -m …` in this example's directory, until its page answers; ended at the end."""

    def __init__(self, command: list[str], url: str, page: str, environment: dict[str, str]):
        self.command = [*command, "--port", url.rpartition(":")[2]]
        self.page = url + page
        self.environment = environment

    def __enter__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", *self.command],
            cwd=HOME,
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(f"{self.command} did not come up")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return httpx.get(self.page, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
