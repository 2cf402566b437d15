"""The pytest plugin: fixtures for workflows. pytest finds it by itself.

It is loaded in every project that has Tasker installed, so it imports nothing and does
nothing before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tasker_core.testing.clock import Clock
    from tasker_core.testing.database import ThrowAwayDatabase
    from tasker_core.testing.flows import Bench


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what a project may set in its pytest configuration."""
    parser.addini(
        "tasker_handlers",
        "Packages whose handlers the fixture `tasker` uses: app.handlers",
        type="args",
        default=[],
    )
    parser.addini(
        "tasker_templates",
        "Directory where the fixture `tasker` looks up templates by name",
        default="",
    )
    parser.addini(
        "tasker_environment",
        "Environment whose overrides of the templates hold for the fixture `tasker`",
        default="test",
    )
    parser.addini(
        "tasker_without_database",
        "What becomes of tests that need a database when there is none: fail or skip",
        default="fail",
    )


@pytest.fixture(scope="session")
def tasker_database(request: pytest.FixtureRequest) -> Iterator[ThrowAwayDatabase]:
    """One throw-away PostgreSQL with Tasker's schema, for the whole session."""
    from tasker_core.testing.database import (
        NoTestDatabase,
        close_shared_database,
        shared_database,
    )

    try:
        database = shared_database()
    except NoTestDatabase as error:
        if request.config.getini("tasker_without_database") == "skip":
            pytest.skip(str(error))
        pytest.fail(str(error), pytrace=False)
    yield database
    close_shared_database()


@pytest.fixture
def tasker(request: pytest.FixtureRequest, tasker_database: ThrowAwayDatabase) -> Iterator[Bench]:
    """A bench of workflows on an empty database: `tasker.run("place_order", {…})`."""
    from tasker_core.testing.flows import Bench

    config = request.config
    templates = str(config.getini("tasker_templates"))
    bench = Bench(
        tasker_database,
        packages=config.getini("tasker_handlers"),
        templates=config.rootpath / templates if templates else None,
        environment=str(config.getini("tasker_environment")),
    )
    yield bench
    bench.close()


@pytest.fixture
def tasker_clock(tasker: Bench) -> Clock:
    """The clock of the database: `tasker_clock.advance(hours=1)`, then `run.go_on()`."""
    return tasker.clock
