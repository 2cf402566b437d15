"""The report: three sources side by side, a batch with checkpoints, one convergence."""

from __future__ import annotations

from uuid import UUID


def by_name(task):
    return {step["name"]: step for step in task["steps"]}


async def test_a_report_adds_up(campus, conn):
    """100 students in three batches; the report says what the tables say."""
    task = await campus.finished("/attendance-reports", {"week": 12, "students": 100})

    assert task["status"] == "complete"
    steps = by_name(task)
    assert {name for name in steps if name.startswith("award_points_")} == {
        "award_points_001",
        "award_points_002",
        "award_points_003",
    }
    report = steps["publish_report"]["result"]
    found = await conn.fetchrow(
        "select count(*) as students, sum(points) as points, sum(minutes) as minutes "
        "from campus.points where task_uuid = $1",
        UUID(task["task_uuid"]),
    )
    assert (report["students"], report["points"]) == (found["students"], found["points"])
    assert report["students"] == 100
    assert sum(report["minutes_by_source"].values()) == found["minutes"]
    assert report["batch_count"] == 3


async def test_a_week_without_students(campus):
    """Nothing to do: one worker that does nothing, and a report of zeros."""
    task = await campus.finished("/attendance-reports", {"week": 12, "students": 0})

    assert task["status"] == "complete"
    steps = by_name(task)
    assert steps["award_points_000"]["result"]["no_op"] is True
    assert steps["publish_report"]["result"] == {
        "minutes_by_source": {"gates": 0, "labs": 0, "online": 0},
        "students": 0,
        "points": 0,
        "batch_count": 0,
    }


async def test_a_failed_batch_goes_on_from_its_checkpoint(campus, conn):
    """An attempt more for one worker, and no student is looked at twice."""
    await campus.outage("points", 1)

    task = await campus.finished("/attendance-reports", {"week": 3, "students": 70})

    assert task["status"] == "complete"
    steps = by_name(task)
    workers = [steps[f"award_points_{number:03}"]["attempts"] for number in (1, 2)]
    assert sorted(workers) == [1, 2]
    assert steps["publish_report"]["result"]["students"] == 70
    assert (
        await conn.fetchval(
            "select max(written_count) from campus.points where task_uuid = $1",
            UUID(task["task_uuid"]),
        )
        == 1
    )


async def test_a_source_that_fails_holds_up_only_its_own_branch(campus):
    """It is asked again; the others were done the first time."""
    await campus.outage("labs", 2)

    task = await campus.finished("/attendance-reports", {"week": 7, "students": 10})

    assert task["status"] == "complete"
    attempts = {step["name"]: step["attempts"] for step in task["steps"]}
    assert attempts["extract_labs"] == 3
    assert attempts["extract_gates"] == attempts["extract_online"] == 1


async def test_a_week_that_is_none_is_final(campus):
    """All three sources refuse it once, and nothing is planned."""
    task = await campus.finished("/attendance-reports", {"week": 99, "students": 10})

    assert task["status"] == "blocked_by_failures"
    steps = by_name(task)
    for source in ("gates", "labs", "online"):
        step = steps[f"extract_{source}"]
        assert (step["attempts"], step["error_code"]) == (1, "NO_SUCH_WEEK")
    assert steps["plan_points"]["attempts"] == 0
