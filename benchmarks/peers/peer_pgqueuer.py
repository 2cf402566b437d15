"""PgQueuer, and a graph in tables of the application: it has jobs, not workflows.

A job runs a step and then calls the graph, see `graph_tables.py`; jobs are enqueued by PgQueuer's
own statement, in a function. Tables are logged (`durable`, its default). A worker takes 50 jobs
at a time (10 is the default) over a pool of 20 asyncpg connections, and listens for new ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parent))

import asyncpg
import driver
import graph_tables
import uvloop
from bare_app import Submit, serve
from pgqueuer import PgQueuer
from pgqueuer.adapters.persistence.qb import QueryQueueBuilder
from pgqueuer.db import AsyncpgDriver
from pgqueuer.models import Job
from pgqueuer.queries import Queries
from workloads import work

T = TypeVar("T")

BATCH = 50

_DEFER = """
create function graph.enqueue(int[], text[], bytea[], interval[], text[], jsonb[])
returns void language sql as $$ {enqueue} $$;

create function graph.defer(workflows int[], steps text[]) returns void language plpgsql as $$
begin
    perform graph.enqueue(
        array_agg(0), array_agg('step'::text),
        array_agg(convert_to(json_build_array(workflow, step)::text, 'utf8')),
        array_agg(interval '0'), array_agg(null::text), array_agg(null::jsonb)
    ) from unnest(workflows, steps) as released (workflow, step);
end $$;
"""


class PgQueuerDriver(driver.Driver):
    """Submits with a connection of its own, on a loop of its own."""

    def prepare(self, url: str, directory: str) -> None:
        """Install PgQueuer and make the graph's tables."""
        os.environ["PEERS_URL"] = url
        self.runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.runner.run(self._prepare(url))

    async def _prepare(self, url: str) -> None:
        self.conn = await asyncpg.connect(url)
        await Queries(AsyncpgDriver(self.conn)).install()
        enqueue = QueryQueueBuilder().build_enqueue_query().rstrip().rstrip(";")
        for statement in graph_tables.statements(_DEFER.replace("{enqueue}", enqueue)):
            await self.conn.execute(statement)

    def run_one(self, workload: str, number: int) -> float:
        """Submit, look until no step is left."""
        began = time.perf_counter()
        self.submit(workload, [number])
        query = f"select steps_left = 0 from graph.workflows where workflow = {number}"
        return self.look(began, lambda: self.value(query))

    def submit(self, workload: str, numbers: Sequence[int]) -> None:
        """Submit all in one transaction."""
        submitting = self.conn.execute("select graph.submit($1, $2)", workload, list(numbers))
        self.runner.run(_awaited(submitting))

    def busy(self) -> bool:
        """Look for a workflow with a step left, or a job that is still there."""
        return bool(
            self.value(
                "select exists (select from graph.workflows where steps_left > 0) "
                "or exists (select from pgqueuer)"
            )
        )

    def complete(self) -> int:
        """Count the workflows that are done."""
        return self.value("select count(*) from graph.workflows where steps_left = 0")

    def value(self, query: str) -> int:
        """Ask for a number."""
        return int(self.runner.run(_awaited(self.conn.fetchval(query))))

    def close(self) -> None:
        """Stop everything."""
        super().close()
        self.runner.run(self.conn.close())
        self.runner.close()


async def _awaited(coroutine: Awaitable[T]) -> T:
    return await coroutine


async def work_on() -> None:
    """Run jobs until a signal comes."""
    async with asyncpg.create_pool(os.environ["PEERS_URL"], min_size=4, max_size=20) as pool:
        queuer = PgQueuer.from_asyncpg_pool(pool)

        @queuer.entrypoint("step")
        async def step(job: Job) -> None:
            assert job.payload is not None
            number, name = json.loads(job.payload)
            result = json.dumps(work(number, name))
            await pool.execute("select graph.finish($1, $2, $3)", number, name, result)

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
        running = asyncio.create_task(queuer.run(batch_size=BATCH))
        await asyncio.sleep(0)
        driver.ready()
        await running


@asynccontextmanager
async def opened() -> AsyncIterator[Submit]:
    """Submit over a pool of eight connections."""
    async with asyncpg.create_pool(os.environ["PEERS_URL"], min_size=8, max_size=8) as pool:

        async def submit(number: int) -> None:
            await pool.execute("select graph.submit('linear', array[$1::int])", number)

        yield submit


if __name__ == "__main__":
    driver.main(
        PgQueuerDriver,
        worker=lambda: uvloop.run(work_on()),
        http=lambda port: serve(port, opened),
    )
