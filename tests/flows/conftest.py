"""One installation for all flows; every test finds it empty, with no process running."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from support.plant import Plant


@pytest.fixture(scope="session")
def installation() -> Iterator[Plant]:
    """A directory with a running database."""
    plant = Plant()
    try:
        asyncio.run(plant.prepare())
        yield plant
    finally:
        plant.close()


@pytest.fixture
async def plant(installation: Plant) -> AsyncIterator[Plant]:
    """The installation, empty."""
    await installation.clear()
    try:
        yield installation
    finally:
        installation.end_processes()
