"""Procrastinate, and a graph in tables of the application: it has jobs, not workflows.

A job runs a step and then calls the graph, see `graph_tables.py`. Jobs are async, a
worker runs 20 at a time over a pool of 20 connections and listens for new ones; polling and the
rest are as they come, done jobs are kept (the default).
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import driver
import graph_tables
import psycopg
from bare_app import Submit, serve
from procrastinate import App, PsycopgConnector
from workloads import work

CONCURRENCY = 20

_DEFER = """
create function graph.defer(workflows int[], steps text[]) returns void language sql as $$
    select procrastinate_defer_jobs_v1(array_agg(
        ('default', 'step', 0, null, null,
         jsonb_build_object('number', workflow, 'name', step), null)::procrastinate_job_to_defer_v1
    )) from unnest(workflows, steps) as released (workflow, step) having count(*) > 0
$$;
"""


def application() -> App:
    """Make the application with its only task."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    connector = PsycopgConnector(conninfo=os.environ["PEERS_URL"], min_size=4, max_size=20)
    app = App(connector=connector)

    @app.task(name="step")
    async def step(number: int, name: str) -> None:
        result = work(number, name)
        await app.connector.execute_query_async(
            "select graph.finish(%(number)s, %(name)s, %(result)s)",
            number=number,
            name=name,
            result=result,
        )

    return app


class Procrastinate(driver.Driver):
    """Submits with a connection of its own."""

    def prepare(self, url: str, directory: str) -> None:
        """Make Procrastinate's schema and the graph's."""
        os.environ["PEERS_URL"] = url

        async def schema() -> None:
            async with application().open_async() as app:
                await app.schema_manager.apply_schema_async()

        asyncio.run(schema())
        self.conn = psycopg.connect(url, autocommit=True)
        for statement in graph_tables.statements(_DEFER):
            self.conn.execute(statement)

    def run_one(self, workload: str, number: int) -> float:
        """Submit, look until no step is left."""
        began = time.perf_counter()
        self.submit(workload, [number])
        query = f"select steps_left = 0 from graph.workflows where workflow = {number}"
        return self.look(began, lambda: self.value(query))

    def submit(self, workload: str, numbers: Sequence[int]) -> None:
        """Submit all in one transaction."""
        self.conn.execute("select graph.submit(%s, %s::int[])", [workload, list(numbers)])

    def busy(self) -> bool:
        """Look for a workflow with a step left, or a job that is not recorded as done."""
        return bool(
            self.value(
                "select exists (select from graph.workflows where steps_left > 0) or exists "
                "(select from procrastinate_jobs where status in ('todo', 'doing'))"
            )
        )

    def complete(self) -> int:
        """Count the workflows that are done; none if a job failed."""
        return self.value(
            "select count(*) from graph.workflows where steps_left = 0 and not exists "
            "(select from procrastinate_jobs where status = 'failed')"
        )

    def value(self, query: str) -> int:
        """Ask for a number."""
        row = self.conn.execute(query).fetchone()
        assert row is not None
        return int(row[0])


def worker() -> None:
    """Run jobs until a signal comes."""

    async def run() -> None:
        async with application().open_async() as app:
            driver.ready()
            await app.run_worker_async(concurrency=CONCURRENCY)

    asyncio.run(run())


@asynccontextmanager
async def opened() -> AsyncIterator[Submit]:
    """Submit over the application's pool."""
    async with application().open_async() as app:

        async def submit(number: int) -> None:
            await app.connector.execute_query_async(
                "select graph.submit('linear', array[%(number)s::int])", number=number
            )

        yield submit


if __name__ == "__main__":
    driver.main(Procrastinate, worker=worker, http=lambda port: serve(port, opened))
