"""Handlers of an order that write down what they do, for the tests with real processes.

Each attempt leaves a row in `runs`, with its end if it came to it, and each step one
row in `effects`, however often it runs: as a careful application would. A step waits
where a test wants it to: as long as a file `hold-<step>-<attempt>` lies in PLANT_GATES;
and takes as long as the order says.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncpg

from tasker_core import (
    BaseSubscriber,
    Batchable,
    DecisionHandler,
    StepHandler,
    SubscriberRegistry,
)

STEPS = ["validate_cart", "process_payment", "update_inventory", "create_order", "send_mail"]


async def perform(context) -> dict:
    """Do the work of a step once, and say who did it."""
    conn = await asyncpg.connect(os.environ["PLANT_DATABASE_URL"], timeout=10)
    try:
        run = await conn.fetchval(
            "insert into plant.runs (task_uuid, step, attempt, pid) values ($1, $2, $3, $4) "
            "returning run",
            context.task_uuid,
            context.step_name,
            context.attempt,
            os.getpid(),
        )
        gate = Path(os.environ["PLANT_GATES"]) / f"hold-{context.step_name}-{context.attempt}"
        while gate.exists():  # noqa: ASYNC110  another process holds it
            await asyncio.sleep(0.02)
        await asyncio.sleep(context.get_input_or("seconds", 0))
        await conn.execute(
            "insert into plant.effects (task_uuid, step, amount) values ($1, $2, $3) "
            "on conflict do nothing",
            context.task_uuid,
            context.step_name,
            context.get_input("amount"),
        )
        await conn.execute("update plant.runs set ended_at = clock_timestamp() where run = $1", run)
    finally:
        conn.terminate()
    seen = {name: context.get_dependency_field(name, "amount") for name in earlier(context)}
    assert all(amount == context.get_input("amount") for amount in seen.values()), seen
    return {"amount": context.get_input("amount"), "pid": os.getpid()}


def earlier(context) -> list[str]:
    """Name the steps of the order that come before this one."""
    if context.step_name not in STEPS:
        return []
    return STEPS[: STEPS.index(context.step_name)]


class Told(BaseSubscriber):
    """Writes down every durable event that it gets."""

    durable = True

    @classmethod
    def subscribes_to(cls):
        return ["*"]

    async def handle(self, event):
        conn = await asyncpg.connect(os.environ["PLANT_DATABASE_URL"], timeout=10)
        try:
            await conn.execute(
                "insert into plant.told (event_id, task_uuid, name) values ($1, $2, $3)",
                event["event_id"],
                event["metadata"]["task_uuid"],
                event["event_name"],
            )
        finally:
            conn.terminate()


SubscriberRegistry.instance().register(Told)


class AsyncStep(StepHandler):
    """Runs on the worker's loop."""

    handler_name = "async_step"

    async def call(self, context):
        return await perform(context)


class SyncStep(StepHandler):
    """Runs in a thread."""

    handler_name = "sync_step"

    def call(self, context):
        return asyncio.run(perform(context))


class FlakyStep(StepHandler):
    """Fails its first two attempts."""

    handler_name = "flaky_step"

    def call(self, context):
        done = asyncio.run(perform(context))
        if context.attempt <= 2:
            raise ConnectionError("the gateway is away")
        return done


class Choose(DecisionHandler):
    """Small amounts by rule, larger ones by two people."""

    handler_name = "choose"

    async def call(self, context):
        amount = (await perform(context))["amount"]
        return self.decision_success(["by_rule"] if amount < 10 else ["by_clerk", "by_manager"])


class CountRows(StepHandler, Batchable):
    """Cuts as many rows as the amount says into ranges of a hundred."""

    handler_name = "count_rows"

    async def call(self, context):
        rows = (await perform(context))["amount"]
        outcome = self.create_batch_outcome(total_items=rows, batch_size=100)
        return self.batch_analyzer_success(outcome, worker_template_name="mark_rows")


class MarkRows(StepHandler, Batchable):
    """Counts each row's visits, a quarter of the range between two checkpoints."""

    handler_name = "mark_rows"

    async def call(self, context):
        batch = self.get_batch_context(context)
        start = batch.resume_cursor
        end = min(start + 25, batch.end_cursor)
        if start == batch.start_cursor:
            await perform(context)
        conn = await asyncpg.connect(os.environ["PLANT_DATABASE_URL"], timeout=10)
        try:
            await conn.execute(
                "insert into plant.visits select $1, no from generate_series($2, $3 - 1) as no "
                "on conflict (task_uuid, row_no) do update set visits = plant.visits.visits + 1",
                context.task_uuid,
                start,
                end,
            )
        finally:
            conn.terminate()
        done = batch.checkpoint_items_processed + end - start
        if end < batch.end_cursor:
            return self.checkpoint_yield(end, done, {})
        return self.batch_worker_success(items_processed=done)


class AddUp(StepHandler, Batchable):
    """Adds up what the workers say they did."""

    handler_name = "add_up"

    async def call(self, context):
        await perform(context)
        scenario = self.detect_aggregation_scenario(
            context.dependency_results, "count_rows", "mark_rows"
        )
        return {"rows": sum(one["items_processed"] for one in scenario.batch_results.values())}
