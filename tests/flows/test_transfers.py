"""Money is moved in steps' own transactions: whatever is killed, each step counts exactly once.

TRANSFERS_SECONDS sets how long, TRANSFERS_SEED which moments.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter

import pytest

SECONDS = float(os.environ.get("TRANSFERS_SECONDS", "4"))
SEED = int(os.environ.get("TRANSFERS_SEED", "20260101"))

MISFORTUNES = {
    "killed": 4,
    "frozen": 3,
    "stopped": 1,
    "session ended": 3,
    "postgres killed": 1,
}
END_A_SESSION = (
    "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted "
    "order by random() limit 1"
)
ENDS = (
    "select past.attempt, past.outcome, past.error ->> 'error_type' "
    "from tasker.attempts as past join tasker.steps as step using (task_uuid, step_no) "
    "where task_uuid = $1 and step.name = $2 order by 1"
)
INSIDE = "select exists (select from pg_locks where locktype = 'advisory' and granted)"


@pytest.mark.parametrize("step", ["withdraw", "deposit"])
async def test_a_worker_is_frozen_in_its_transaction(plant, step):
    """Another one does the step over, past the rows that the frozen one has locked."""
    release = plant.hold(step)
    frozen = plant.bank_worker()
    frozen.ready()
    (transfer,) = await plant.order(name="transfer")
    held = (
        "select exists (select from pg_locks as lock join pg_stat_activity as session using (pid) "
        "where lock.locktype = 'advisory' and session.state = 'idle in transaction') and exists ("
        "select from tasker.leases join tasker.steps as step using (task_uuid, step_no) "
        f"where step.name = '{step}')"
    )
    await plant.until(held)

    frozen.send(signal.SIGSTOP)
    other = plant.bank_worker()
    await plant.all_complete()
    release()
    frozen.send(signal.SIGCONT)
    for worker in (frozen, other):
        worker.send(signal.SIGTERM)
        assert worker.wait() == 0

    first, *more = await plant.rows(ENDS, transfer, step)
    assert first == (1, "waiting_for_retry", "worker_lost")
    assert more[-1][1] == "complete"
    await plant.check()


async def test_every_transfer_is_booked_once_whatever_is_killed(plant):
    """Workers killed and frozen, sessions ended, the database restarted: the books agree."""
    rolls = random.Random(SEED)
    crew = [plant.bank_worker(), plant.bank_worker()]
    for worker in crew:
        worker.ready()
    happened: Counter[str] = Counter()
    transfers = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        count = rolls.randint(1, 6)
        await plant.order(
            count,
            name="transfer",
            amount=rolls.randint(1, 900),
            seconds=round(rolls.uniform(0, 0.2), 2),
        )
        transfers += count
        await asyncio.sleep(rolls.uniform(0, 0.4))
        (which,) = rolls.choices(list(MISFORTUNES), list(MISFORTUNES.values()))
        place = rolls.randrange(len(crew))
        worker = crew[place]
        if which == "postgres killed":
            plant.kill_postgres()
        elif which == "session ended":
            await plant.rows(END_A_SESSION)
        elif which == "killed":
            worker.kill()
        elif which == "frozen":
            worker.send(signal.SIGSTOP)
            await asyncio.sleep(rolls.uniform(0.1, 2.5))
            worker.send(signal.SIGCONT)
        elif worker.is_ready():  # before that, nobody listens to SIGTERM
            worker.send(signal.SIGTERM)
            assert worker.wait(40) == 0, plant.said()
        else:
            continue
        happened[which] += 1
        crew = [one if one.is_alive else plant.bank_worker() for one in crew]
    await plant.all_complete(seconds=60)

    assert await plant.value("select count(*) from tasker.tasks") == transfers
    await plant.check()
    ends = await plant.rows(
        "select coalesce(error ->> 'error_type', outcome), count(*) from tasker.attempts group by 1"
    )
    print(f"\nsurvived {dict(happened)}: {transfers} transfers, attempts {dict(ends)}")
