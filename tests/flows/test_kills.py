"""Any process may be killed at any moment: the orders finish, and each step is recorded once."""

from __future__ import annotations

import asyncio
import signal

import httpx

RUNS = "select count(*) from plant.runs where task_uuid = $1 and step = $2"
ENDS = (
    "select past.attempt, past.outcome, past.error ->> 'error_type' "
    "from tasker.attempts as past join tasker.steps as step using (task_uuid, step_no) "
    "where task_uuid = $1 and step.name = $2 order by 1"
)


async def test_a_worker_is_killed_in_the_middle_of_a_step(plant):
    """Another one takes the step over when the lease is out; both attempts are counted."""
    plant.hold("process_payment")
    first = plant.worker()
    first.ready()
    (order,) = await plant.order()
    await plant.until(f"select ({RUNS}) = 1", order, "process_payment")

    first.kill()
    second = plant.worker()
    await plant.all_complete()

    assert await plant.rows(ENDS, order, "process_payment") == [
        (1, "waiting_for_retry", "worker_lost"),
        (2, "complete", None),
    ]
    assert (
        await plant.value(
            "select (result ->> 'pid')::int from tasker.steps where task_uuid = $1 "
            "and name = 'process_payment'",
            order,
        )
        == second.pid
    )
    await plant.check()


async def test_a_worker_is_frozen_for_longer_than_its_lease(plant):
    """Its step is taken over; when it wakes up its late result is refused, and it works on."""
    release = plant.hold("update_inventory")
    frozen = plant.worker()
    frozen.ready()
    (order,) = await plant.order()
    await plant.until(f"select ({RUNS}) = 1", order, "update_inventory")

    frozen.send(signal.SIGSTOP)
    other = plant.worker()
    await plant.all_complete()
    release()
    frozen.send(signal.SIGCONT)
    await plant.until(  # the frozen handler goes on to its own end, or is cancelled
        "select state = 'complete' from tasker.tasks where task_uuid = $1", order
    )
    other.send(signal.SIGTERM)
    assert other.wait() == 0
    await plant.order()
    await plant.all_complete()

    assert await plant.rows(ENDS, order, "update_inventory") == [
        (1, "waiting_for_retry", "worker_lost"),
        (2, "complete", None),
    ]
    assert await plant.value(
        "select count(distinct worker_uuid) = 2 from tasker.attempts where task_uuid = $1", order
    )
    await plant.check()


async def test_sigterm_drains(plant):
    """The running step is recorded at its first attempt; the next one is left for others."""
    release = plant.hold("process_payment")
    worker = plant.worker()
    worker.ready()
    (order,) = await plant.order()
    await plant.until(f"select ({RUNS}) = 1", order, "process_payment")

    worker.send(signal.SIGTERM)
    await plant.until("select not exists (select from tasker.ready)")
    release()
    assert worker.wait() == 0

    assert await plant.rows(ENDS, order, "process_payment") == [(1, "complete", None)]
    assert await plant.value("select count(*) from tasker.leases") == 0
    assert await plant.value("select count(*) from tasker.ready") == 1
    assert await plant.value("select count(*) from tasker.workers") == 0
    plant.worker()
    await plant.all_complete()
    await plant.check()


async def test_a_server_is_killed(plant):
    """Orders that it took finish without it, and the next server shows them."""
    release = plant.hold("validate_cart")
    server, worker = plant.server(), plant.worker()
    url = server.ready()["url"]
    worker.ready()
    async with httpx.AsyncClient(base_url=url) as client:
        body = {
            "name": "order",
            "namespace": "shop",
            "version": "1.0.0",
            "context": {"amount": 5},
            "initiator": "test",
            "source_system": "test",
            "reason": "a server is killed",
        }
        orders = [(await client.post("/v1/tasks", json=body)).json() for _ in range(3)]
    server.kill()
    release()
    await plant.all_complete()

    again = plant.server().ready()["url"]
    async with httpx.AsyncClient(base_url=again) as client:
        for order in orders:
            shown = (await client.get(f"/v1/tasks/{order['task_uuid']}")).json()
            assert shown["status"] == "complete"
            assert shown["completed_steps"] == 5
    await plant.check()


async def test_postgres_is_killed(plant):
    """Everybody finds the database again, which one of them started; the orders finish."""
    release = plant.hold("process_payment")
    server, workers = plant.server(), [plant.worker(), plant.worker()]
    url = server.ready()["url"]
    for worker in workers:
        worker.ready()
    orders = await plant.order(6)
    await plant.until("select count(*) = 6 from plant.runs where step = 'process_payment'")

    plant.kill_postgres()
    await asyncio.sleep(0)
    release()
    await plant.all_complete()
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        shown = (await client.get(f"/v1/tasks/{orders[0]}")).json()
    assert shown["status"] == "complete"
    assert all(process.is_alive for process in [server, *workers])
    await plant.check()
