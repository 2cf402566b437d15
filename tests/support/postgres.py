"""PostgreSQL for the tests: one embedded server a session, one database a test."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from tasker_core.db import embedded


class SessionServer:
    """A server in a temporary directory; `stop` removes both."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tasker-test-"))
        self._lease = embedded.acquire(self.home)
        self.url = self._lease.url

    def stop(self) -> None:
        self._lease.release()
        embedded.stop(self.home)  # should a child of a test have survived it
        shutil.rmtree(self.home)


def start_session_server(*, durable: bool = False) -> SessionServer:
    """Start a server for one pytest session.

    Args:
        durable: Write through to the disk, as in production. No test looks at that, and
            creating databases is much faster without.
    """
    server = SessionServer()
    if not durable:
        _run(_forgo_durability(server.url))
    return server


async def create_database(url: str, template: str = "template0") -> str:
    """Make a database of its own on the server of `url`, and give its address."""
    name = f"test_{uuid4().hex}"
    await _execute(url, f'create database "{name}" template "{template}"')
    return with_database(url, name)


async def drop_database(url: str) -> None:
    """Drop the database of an address that `create_database` gave."""
    name = urlsplit(url).path.removeprefix("/")
    await _execute(with_database(url, "postgres"), f'drop database "{name}" with (force)')


def with_database(url: str, name: str) -> str:
    """Give the address of another database on the same server."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _forgo_durability(url: str) -> None:
    for name in ("fsync", "synchronous_commit", "full_page_writes"):
        await _execute(url, f"alter system set {name} = off")
    await _execute(url, "select pg_reload_conf()")


async def _execute(url: str, sql: str) -> None:
    conn = await asyncpg.connect(url)
    try:
        await conn.execute(sql)
    finally:
        await conn.close()


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine whether or not the caller's thread has a loop."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(asyncio.run, work).result()
