"""Decisions and batches whose workers, server and database are killed between two steps."""

from __future__ import annotations

import signal

import pytest

STEPS = (
    "select name from tasker.steps where task_uuid = $1 and name = any ($2::text[]) order by name"
)
PEOPLE = ["by_clerk", "by_manager", "by_rule"]


@pytest.mark.parametrize(("amount", "chosen"), [(7, ["by_rule"]), (70, ["by_clerk", "by_manager"])])
async def test_a_decision_is_killed(plant, amount, chosen):
    """It is made again by another worker, and only what it chooses comes into being."""
    release = plant.hold("choose")
    first = plant.worker()
    first.ready()
    (order,) = await plant.order(name="approval", amount=amount)
    await plant.until("select exists (select from plant.runs where step = 'choose')")
    assert await plant.rows(STEPS, order, PEOPLE) == []

    first.kill()
    plant.kill_postgres()
    release()
    plant.worker()
    await plant.all_complete()

    assert await plant.rows(STEPS, order, PEOPLE) == [(name,) for name in chosen]
    await plant.check()


async def test_a_thousand_rows(plant):
    """Ten workers of a batch go on from their checkpoints, whoever is killed meanwhile."""
    release = plant.hold("mark_rows_004")
    first, second = plant.worker(), plant.worker()
    first.ready()
    second.ready()
    (order,) = await plant.order(name="rows", amount=1000)
    await plant.until("select exists (select from plant.runs where step = 'mark_rows_004')")

    first.kill()
    plant.kill_postgres()
    second.send(signal.SIGTERM)
    release()
    assert second.wait() == 0, plant.said()
    plant.worker()
    await plant.all_complete()

    added_up = "select (result ->> 'rows')::int from tasker.steps where name = 'add_up'"
    assert await plant.value(added_up) == 1000
    rows = "select count(*), min(row_no), max(row_no) from plant.visits where task_uuid = $1"
    assert await plant.rows(rows, order) == [(1000, 0, 999)]
    # what lies before a checkpoint is not done again, unless the checkpoint itself was lost
    assert await plant.value("select max(visits) <= 3 from plant.visits")
    workers = "select count(*) from tasker.steps where name like 'mark\\_rows\\_%'"
    assert await plant.value(workers) == 10
    await plant.check()
