"""Money is moved in steps' own transactions: each step counts exactly once.

Whatever is killed at random moments, too: see test_campaign.py.
"""

from __future__ import annotations

import signal

import pytest

ENDS = (
    "select past.attempt, past.outcome, past.error ->> 'error_type' "
    "from tasker.attempts as past join tasker.steps as step using (task_uuid, step_no) "
    "where task_uuid = $1 and step.name = $2 order by 1"
)


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
