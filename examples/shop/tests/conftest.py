"""The shop on a real database, with a real Tasker server and a real worker."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from tasker_core.db import embedded
from tasker_core.db.migrate import upgrade

HOME = Path(__file__).parents[1]
sys.path.insert(0, str(HOME))  # `import shop`, as in a terminal in this directory


@pytest.fixture(scope="session")
def shop_database() -> Iterator[str]:
    """An embedded PostgreSQL for the tests of the shop, with Tasker's tables in it."""
    home = Path(tempfile.mkdtemp(prefix="shop-test-"))
    with embedded.acquire(home) as server:
        asyncio.run(_upgrade(server.url))
        yield server.url
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def shop_server(shop_database: str) -> Iterator[str]:
    """A Tasker server in a process of its own."""
    port = _free_port()
    command = ["server", "run", "--port", str(port), "--templates", "templates"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tasker_core.cli.main", *command],
        cwd=HOME,
        env={**os.environ, "DATABASE_URL": shop_database},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(autouse=True)
def database(shop_database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The database, as the DATABASE_URL of handlers and application."""
    monkeypatch.setenv("DATABASE_URL", shop_database)
    return shop_database


@pytest.fixture
async def conn(database: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to look at what the shop has written, its tables made if nobody has yet."""
    from shop.database import connect

    async with connect() as conn:
        yield conn


@pytest.fixture
async def client(
    shop_server: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    """A customer of the running shop."""
    from shop.app import app

    monkeypatch.setenv("TASKER_URL", shop_server)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client,
    ):
        yield client


async def _upgrade(url: str) -> None:
    conn = await asyncpg.connect(url)
    await upgrade(conn)
    await conn.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server has ended"
        try:
            if httpx.get(f"{url}/health/ready", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("the server is not ready")
