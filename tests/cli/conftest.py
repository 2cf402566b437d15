"""`tasker-ctl` in this process, as another process, and with everything running behind it."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner, Result

from cli.running import TASKER_CTL, LongRunning, write_application
from support.postgres import create_database, drop_database
from tasker_core.cli.main import app


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the machine's settings nor a terminal's habits reach a test."""
    for name in list(os.environ):
        if name.startswith("TASKER_") or name in ("DATABASE_URL", "FORCE_COLOR", "NO_COLOR"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A command that reads settings says where logs go: only for its own test."""
    before = structlog.get_config() if structlog.is_configured() else None
    registry = logging.getLogger("tasker_core.handlers.registry")
    level, handlers = registry.level, logging.root.handlers[:]
    yield
    if before is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**before)
    registry.setLevel(level)
    logging.root.handlers[:] = handlers


@pytest.fixture
def ctl() -> Callable[..., Result]:
    """Run `tasker-ctl` in this process: for commands that read files or call a server."""

    def run(*args: object, input: str | None = None, env: dict[str, str] | None = None) -> Result:
        return CliRunner(env=env).invoke(app, [str(a) for a in args], input=input)

    return run


@pytest.fixture
def ctl_process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `tasker-ctl` as a process of its own, in a directory of its own."""

    def run(*args: object, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*TASKER_CTL, *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture(scope="module")
def own_database(database_url: str) -> Iterator[str]:
    """A database without a schema, for one module of tests."""
    url = asyncio.run(create_database(database_url))
    yield url
    asyncio.run(drop_database(url))


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """The directory of a small application: handlers and a template."""
    return write_application(tmp_path)


@dataclass(frozen=True)
class Service:
    """Everything running: where, and for which application."""

    url: str
    directory: Path


@pytest.fixture(scope="module")
def service(own_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Server, worker and database, for one module of tests."""
    directory = write_application(tmp_path_factory.mktemp("service"))
    with LongRunning(
        directory, "dev", "--port", 0, "--no-reload", "--database-url", own_database
    ) as dev:
        yield Service(dev.ready["url"], directory)


@pytest.fixture
def task(ctl: Callable[..., Result], service: Service) -> Callable[..., Result]:
    """Run `tasker-ctl task …` against the service."""
    return lambda *args, **more: ctl("--url", service.url, "task", *args, **more)


@pytest.fixture
def empty_database(database_url: str) -> Iterator[str]:
    """A database without a schema, for one test."""
    url = asyncio.run(create_database(database_url))
    yield url
    asyncio.run(drop_database(url))
