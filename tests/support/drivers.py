"""Applications' connections, of every library that can create a task in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
import django
import psycopg
import sqlalchemy
from django.conf import settings as django_settings
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from tasker_core.transactional import create_task, create_task_async


class Caller:
    """One connection, and what every test does with it."""

    connection: Any

    async def open(self, url: str) -> None:
        raise NotImplementedError

    async def begin(self) -> None:
        """Begin a transaction, if the library does not by itself."""

    async def run(self, sql: str) -> Any:
        """Run a statement, and give the value that it gives."""
        raise NotImplementedError

    async def create(self, *args: Any, **more: Any) -> UUID:
        return await create_task_async(self.connection, *args, **more)

    async def commit(self) -> None:
        await self.connection.commit()

    async def rollback(self) -> None:
        await self.connection.rollback()

    async def close(self) -> None:
        await self.connection.close()


# --- async ------------------------------------------------------------------------------


class Asyncpg(Caller):
    async def open(self, url: str) -> None:
        self.connection = await asyncpg.connect(url)

    async def begin(self) -> None:
        self.transaction = self.connection.transaction()
        await self.transaction.start()

    async def run(self, sql: str) -> Any:
        return await self.connection.fetchval(sql)

    async def commit(self) -> None:
        await self.transaction.commit()

    async def rollback(self) -> None:
        await self.transaction.rollback()


class AsyncpgPool(Asyncpg):
    async def open(self, url: str) -> None:
        self.pool = await asyncpg.create_pool(url, min_size=1, max_size=1)
        self.connection = await self.pool.acquire()

    async def close(self) -> None:
        await self.pool.release(self.connection)
        await self.pool.close()


class PsycopgAsync(Caller):
    async def open(self, url: str) -> None:
        self.connection = await psycopg.AsyncConnection.connect(url)

    async def run(self, sql: str) -> Any:
        cursor = await self.connection.execute(sql)
        return (await cursor.fetchone())[0] if cursor.description else None


class AlchemyAsync(Caller):
    """SQLAlchemy's `AsyncConnection`, on asyncpg."""

    driver = "asyncpg"

    async def open(self, url: str) -> None:
        self.engine = create_async_engine(alchemy_url(url, self.driver))
        self.connection = await self.connect()

    async def connect(self) -> Any:
        return await self.engine.connect()

    async def run(self, sql: str) -> Any:
        result = await self.connection.execute(sqlalchemy.text(sql))
        return result.scalar() if result.returns_rows else None

    async def close(self) -> None:
        await super().close()
        await self.engine.dispose()


class AlchemyAsyncOnPsycopg(AlchemyAsync):
    driver = "psycopg"


class AlchemyAsyncSession(AlchemyAsync):
    async def connect(self) -> Any:
        return AsyncSession(self.engine)


# --- sync: each has a thread, as its connection wants to stay in one ---------------------


class SyncCaller(Caller):
    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(max_workers=1)

    async def on_thread(self, work: Callable[..., Any], *args: Any, **more: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.thread, lambda: work(*args, **more))

    async def open(self, url: str) -> None:
        self.connection = await self.on_thread(self.connect, url)

    def connect(self, url: str) -> Any:
        raise NotImplementedError

    def execute(self, sql: str) -> Any:
        raise NotImplementedError

    async def run(self, sql: str) -> Any:
        return await self.on_thread(self.execute, sql)

    async def create(self, *args: Any, **more: Any) -> UUID:
        return await self.on_thread(create_task, self.connection, *args, **more)

    async def commit(self) -> None:
        await self.on_thread(self.connection.commit)

    async def rollback(self) -> None:
        await self.on_thread(self.connection.rollback)

    async def close(self) -> None:
        await self.on_thread(self.end)
        self.thread.shutdown()

    def end(self) -> None:
        self.connection.close()


class Psycopg(SyncCaller):
    def connect(self, url: str) -> Any:
        return psycopg.connect(url)

    def execute(self, sql: str) -> Any:
        cursor = self.connection.execute(sql)
        return cursor.fetchone()[0] if cursor.description else None


class Alchemy(SyncCaller):
    """SQLAlchemy's `Connection`, on psycopg."""

    def connect(self, url: str) -> Any:
        self.engine = sqlalchemy.create_engine(alchemy_url(url, "psycopg"))
        return self.engine.connect()

    def execute(self, sql: str) -> Any:
        result = self.connection.execute(sqlalchemy.text(sql))
        return result.scalar() if result.returns_rows else None

    def end(self) -> None:
        self.connection.close()
        self.engine.dispose()


class AlchemySession(Alchemy):
    def connect(self, url: str) -> Any:
        super().connect(url).close()
        return Session(self.engine)


class AlchemyScopedSession(Alchemy):
    def connect(self, url: str) -> Any:
        super().connect(url).close()
        return scoped_session(sessionmaker(self.engine))


class Django(SyncCaller):
    def connect(self, url: str) -> Any:
        configure_django(url)
        from django.db import connection

        return connection

    async def begin(self) -> None:
        from django.db import transaction

        self.atomic = transaction.atomic()
        await self.on_thread(self.atomic.__enter__)

    def execute(self, sql: str) -> Any:
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchone()[0] if cursor.description else None

    async def commit(self) -> None:
        await self.on_thread(self.atomic.__exit__, None, None, None)

    async def rollback(self) -> None:
        from django.db import transaction

        await self.on_thread(transaction.set_rollback, True)
        await self.commit()


class DjangoAlias(Django):
    """A connection taken by its alias, as applications with several databases do."""

    def connect(self, url: str) -> Any:
        configure_django(url)
        from django.db import connections

        return connections["default"]


CALLERS: tuple[type[Caller], ...] = (
    Asyncpg,
    AsyncpgPool,
    Psycopg,
    PsycopgAsync,
    Alchemy,
    AlchemySession,
    AlchemyScopedSession,
    AlchemyAsync,
    AlchemyAsyncOnPsycopg,
    AlchemyAsyncSession,
    Django,
    DjangoAlias,
)


def alchemy_url(url: str, driver: str) -> str:
    """Say the same address to SQLAlchemy."""
    return url.replace("postgresql:", f"postgresql+{driver}:", 1)


def configure_django(url: str) -> None:
    """Tell Django of the session's database; once is enough."""
    if django_settings.configured:
        return
    parts = urlsplit(url)
    query = {key: value for key, (value,) in parse_qs(parts.query).items()}
    django_settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": parts.path.removeprefix("/"),
                "USER": parts.username or query.get("user", ""),
                "HOST": query["host"],
                "PORT": query.get("port", ""),
            }
        },
        LOGGING_CONFIG=None,
    )
    django.setup()
