"""Two, four and eight workers on one database share the steps between them."""

from __future__ import annotations

OVERLAPS = """
select one.task_uuid, one.step, one.attempt, two.attempt
from plant.runs as one
join plant.runs as two
    on two.task_uuid = one.task_uuid and two.step = one.step and two.run > one.run
    and one.began_at < two.ended_at and two.began_at < one.ended_at
"""


async def test_no_step_runs_twice_at_once_and_none_is_lost(plant):
    """Every attempt runs in one place, after the one before it, and every order ends."""
    workers = []
    for count in (2, 4, 8):
        workers += [plant.worker("--concurrency", "5") for _ in range(count - len(workers))]
        for worker in workers:
            worker.ready()
        await plant.order(5 * count, name="race")
        await plant.all_complete()

    assert await plant.rows(OVERLAPS) == []
    assert await plant.rows("select * from plant.runs where ended_at is null") == []
    # seven steps, one of which fails twice before it succeeds
    assert await plant.value("select count(*) from plant.runs") == 5 * (2 + 4 + 8) * 9
    assert await plant.value("select count(*) from tasker.attempts") == 5 * (2 + 4 + 8) * 9
    assert await plant.value("select count(distinct pid) from plant.runs") == 8
    await plant.check()
