"""Orders and transfers come in while everything is killed and frozen at random moments.

Orders keep a key against a second run, transfers write in their steps' own transactions.
CAMPAIGN_SECONDS sets how long, CAMPAIGN_SEED which moments:

    CAMPAIGN_SECONDS=1200 pytest tests/flows/test_campaign.py -s
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter

from support.plant import Plant, Process

SECONDS = float(os.environ.get("CAMPAIGN_SECONDS", "10"))
SEED = int(os.environ.get("CAMPAIGN_SEED", "20260101"))

MISFORTUNES = {
    "worker killed": 4,
    "worker frozen": 2,
    "worker stopped": 2,
    "server killed": 1,
    "session ended": 2,
    "postgres killed": 2,
}
END_A_SESSION = (
    "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() "
    "and application_name like 'tasker%' order by random() limit 1"
)


async def test_everything_ends_whatever_is_killed(plant):
    """Afterwards every task is complete, each step recorded once and told, the books agree."""
    rolls = random.Random(SEED)
    crew = {name: _start(plant, name) for name in ("worker one", "worker two", "server")}
    for process in crew.values():
        process.ready()
    happened: Counter[str] = Counter()
    tasks = 0
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        amount = rolls.randint(1, 6)
        await plant.order(
            amount,
            name=rolls.choice(["order", "transfer"]),
            amount=rolls.randint(1, 900),
            seconds=round(rolls.uniform(0, 0.3), 2),
        )
        tasks += amount
        await asyncio.sleep(rolls.uniform(0, 0.4))
        which = rolls.choices(list(MISFORTUNES), list(MISFORTUNES.values()))[0]
        worker = rolls.choice(["worker one", "worker two"])
        if which == "postgres killed":
            plant.kill_postgres()
        elif which == "session ended":
            await plant.rows(END_A_SESSION)
        elif which == "server killed":
            crew["server"].kill()
        elif which == "worker killed":
            crew[worker].kill()
        elif which == "worker frozen":
            crew[worker].send(signal.SIGSTOP)
            await asyncio.sleep(rolls.uniform(0.1, 2.5))
            crew[worker].send(signal.SIGCONT)
        elif crew[worker].is_ready():  # before that, nobody listens to SIGTERM
            crew[worker].send(signal.SIGTERM)
            assert crew[worker].wait(40) == 0, plant.said()
        else:
            continue
        happened[which] += 1
        for name, process in crew.items():
            if not process.is_alive:
                if not process.is_ready():  # killed, or met no database while it started
                    happened["ended before it was ready"] += 1
                crew[name] = _start(plant, name)
    await plant.all_complete(seconds=120)
    died = [process for process in crew.values() if not process.is_alive and process.is_ready()]
    assert died == [], plant.said()

    assert await plant.value("select count(*) from tasker.tasks") == tasks
    await plant.check()
    await plant.check_events()
    lost = await plant.value(
        "select count(*) from tasker.attempts where error ->> 'error_type' = 'worker_lost'"
    )
    print(f"\nsurvived {dict(happened)}: {tasks} tasks, {lost} attempts lost")


def _start(plant: Plant, name: str) -> Process:
    return plant.server() if name == "server" else plant.bank_worker()
