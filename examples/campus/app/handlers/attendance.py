"""The attendance report: three sources side by side, a batch over the rows, and one report.

```
extract_gates  → transform_gates  ┐                 ┌ award_points_001 ┐
extract_labs   → transform_labs   ├→ plan_points → ─┤ award_points_002 ├→ publish_report
extract_online → transform_online ┘                 └ …                ┘
```
"""

from __future__ import annotations

from app.models.attendance import Minutes, RawRecords, Report, Week
from app.services import attendance, sources
from tasker_core import Batchable, StepHandler
from tasker_core.batch_processing import BatchAggregationScenario
from tasker_core.step_handler.functional import (
    BatchConfig,
    batch_analyzer,
    batch_worker,
    depends_on,
    inputs,
    step_handler,
)
from tasker_core.types import BatchWorkerContext, BatchWorkerOutcome, StepContext, StepHandlerResult

STUDENTS_AT_A_TIME = 10  # between two checkpoints

# --- three sources ----------------------------------------------------------------------


@step_handler("extract_gates")
@inputs(Week)
async def extract_gates(inputs: Week) -> RawRecords:
    return RawRecords(source="gates", records=await sources.read_gates(*inputs.checked()))


@step_handler("extract_labs")
@inputs(Week)
async def extract_labs(inputs: Week) -> RawRecords:
    return RawRecords(source="labs", records=await sources.read_labs(*inputs.checked()))


@step_handler("extract_online")
@inputs(Week)
async def extract_online(inputs: Week) -> RawRecords:
    return RawRecords(source="online", records=await sources.read_online(*inputs.checked()))


@step_handler("transform_gates")
@depends_on(raw=("extract_gates", RawRecords))
async def transform_gates(raw: RawRecords | None, context: StepContext) -> Minutes:
    return await attendance.store(raw, attendance.gate_row, task_uuid=context.task_uuid)


@step_handler("transform_labs")
@depends_on(raw=("extract_labs", RawRecords))
async def transform_labs(raw: RawRecords | None, context: StepContext) -> Minutes:
    return await attendance.store(raw, attendance.lab_row, task_uuid=context.task_uuid)


@step_handler("transform_online")
@depends_on(raw=("extract_online", RawRecords))
async def transform_online(raw: RawRecords | None, context: StepContext) -> Minutes:
    return await attendance.store(raw, attendance.online_row, task_uuid=context.task_uuid)


# --- a batch over the rows --------------------------------------------------------------


@batch_analyzer("plan_points", worker_template="award_points")
@inputs(Week)
async def plan_points(inputs: Week, context: StepContext) -> BatchConfig:
    """Count the students, and divide them among as many workers as it takes."""
    students = await attendance.count_students(context.task_uuid)
    return BatchConfig(total_items=students, batch_size=inputs.batch_size)


@batch_worker("award_points")
async def award_points(
    batch_context: BatchWorkerContext, context: StepContext
) -> BatchWorkerOutcome | StepHandlerResult:
    """Award a few students their points, then leave a checkpoint, until the range is done.

    A checkpoint is no attempt. Should an attempt fail or its worker die, the next one goes
    on from the last checkpoint, and at most STUDENTS_AT_A_TIME are looked at again.
    """
    start = batch_context.resume_cursor
    end = min(start + STUDENTS_AT_A_TIME, batch_context.end_cursor)
    students, points = await attendance.award_points(context.task_uuid, start, end)

    done = batch_context.checkpoint_items_processed + students
    points += (batch_context.accumulated_results or {}).get("points", 0)
    if end < batch_context.end_cursor:
        return batch_context.checkpoint_yield(
            cursor=end, items_processed=done, accumulated_results={"points": points}
        )
    return BatchWorkerOutcome(
        items_processed=done, items_succeeded=done, results=[{"points": points}], last_cursor=end
    )


class PublishReport(StepHandler, Batchable):
    """Add up what the workers have done; a class, for the helpers of `Batchable`.

    It runs when all workers are done. If there was nothing to do there was one worker, which
    did nothing, and the report is full of zeros.
    """

    handler_name = "publish_report"

    def call(self, context: StepContext) -> StepHandlerResult:
        scenario = self.detect_aggregation_scenario(
            context.dependency_results, "plan_points", "award_points"
        )
        minutes = [
            Minutes(**context.get_dependency_result(f"transform_{source}"))
            for source in ("gates", "labs", "online")
        ]
        report = Report(
            minutes_by_source={one.source: one.minutes for one in minutes},
            students=_total(scenario, "items_processed"),
            points=sum(
                one["points"]
                for result in scenario.batch_results.values()
                for one in result.get("results", ())
            ),
            batch_count=scenario.worker_count,
        )
        return self.success(report.model_dump())


def _total(scenario: BatchAggregationScenario, key: str) -> int:
    return sum(result[key] for result in scenario.batch_results.values())
