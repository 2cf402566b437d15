"""Batches: dividing, working, giving up half-way, adding up."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from unittest.mock import MagicMock

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.handlers.base import StepHandler
from tasker_core.handlers.batch import (
    Batchable,
    BatchableMixin,
    BatchAggregationScenario,
    BatchAnalyzerOutcome,
    BatchMetadata,
    BatchWorkerConfig,
    BatchWorkerContext,
    BatchWorkerInputs,
    BatchWorkerOutcome,
    CreateBatchesOutcome,
    CursorConfig,
    FailureStrategy,
    NoBatchesOutcome,
    aggregate_batch_results,
    create_batches,
    no_batches,
)
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.result import StepHandlerResult
from tasker_core.payload import decode, encode

totals = st.integers(0, 10**12)
sizes = st.integers(1, 10**6)


class Rows(StepHandler, Batchable):
    handler_name = "rows"

    def call(self, context: StepContext) -> StepHandlerResult:
        return self.success()


def worker_context(**changes: Any) -> StepContext:
    """Make the context of a worker as the engine gives it."""
    inputs = {
        "cursor": {"batch_id": "002", "start_cursor": 200, "end_cursor": 400, "batch_size": 200},
        "batch_metadata": {"cursor_field": "id", "failure_strategy": "continue_on_failure"},
        "is_no_op": False,
        "batch_index": 1,
        "total_batches": 5,
        **changes,
    }
    return StepContext.for_testing(step_inputs=inputs)


# --- dividing ---------------------------------------------------------------------------


def check_ranges(ranges: list[tuple[int, int]], total: int) -> None:
    """Ranges are not empty, in order, and cover 0 to total without gap or overlap."""
    edges = [0, *(end for _, end in ranges)]
    assert [start for start, _ in ranges] == edges[:-1]
    assert all(start < end for start, end in ranges)
    assert edges[-1] == total


@given(st.data())
def test_ranges_cover_all_items_once(data: st.DataObject):
    """In order, disjoint, no wider than asked for, the last one as short as need be."""
    size = data.draw(sizes)
    total = data.draw(st.integers(0, size * 200))
    found = Rows().create_cursor_ranges(total, size)

    check_ranges([(c.start_cursor, c.end_cursor) for c in found], total)
    assert all(c.batch_size == size for c in found[:-1])
    assert sum(c.batch_size for c in found) == total
    assert len(found) == -(-total // size)
    assert [int(c.batch_id) for c in found] == list(range(1, len(found) + 1))


@given(total=totals, size=sizes, limit=st.integers(1, 300))
def test_a_limit_is_never_exceeded(total: int, size: int, limit: int):
    """However many items there are, exactly, and ranges only ever grow for it."""
    found = Rows().create_cursor_ranges(total, size, max_batches=limit)

    assert len(found) <= limit
    check_ranges([(c.start_cursor, c.end_cursor) for c in found], total)
    assert all(c.batch_size >= min(size, total) for c in found[:-1])


@given(total=totals, workers=st.integers(1, 300))
def test_shares_cover_all_items_once(total: int, workers: int):
    """At most one share a worker, none empty."""
    found = Rows().create_cursor_configs(total, workers)

    check_ranges([(c.cursor_start, c.cursor_end) for c in found], total)
    assert len(found) <= workers
    assert sum(c.row_count for c in found) == total
    assert [c.worker_index for c in found] == list(range(len(found)))
    assert {c.total_workers for c in found} <= {workers}
    assert len({c.row_count for c in found[:-1]}) <= 1


def test_shares_have_the_names_of_both_kinds_of_range():
    """A share can be read like a `CursorConfig`."""
    share = Rows().create_cursor_configs(10, 3)[1]

    assert share == BatchWorkerConfig("002", 4, 8, 4, 1, 3)
    assert (share.start_cursor, share.end_cursor, share.batch_size) == (4, 8, 4)
    assert share.to_dict()["cursor_start"] == 4


def test_a_limit_is_an_upper_bound():
    """10 items in at most 7 ranges are 5 ranges of 2."""
    assert len(Rows().create_cursor_ranges(10, 1, max_batches=7)) == 5


def test_impossible_sizes_are_refused():
    """Unless there is nothing to divide."""
    handler = Rows()

    with pytest.raises(ValueError, match="batch_size must be > 0"):
        handler.create_cursor_ranges(10, 0)
    with pytest.raises(ValueError, match="max_batches must be > 0"):
        handler.create_cursor_ranges(10, 1, max_batches=0)
    with pytest.raises(ValueError, match="worker_count must be > 0"):
        handler.create_cursor_configs(0, 0)
    assert handler.create_cursor_ranges(0, 0) == []
    assert handler.create_cursor_configs(0, 3) == []


cursors = st.one_of(
    st.none(),
    st.integers(),
    st.text(),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.text()),
)


@given(start=cursors, end=cursors)
def test_cursors_may_be_anything(start: Any, end: Any):
    """What goes in comes out, numbers in text included."""
    config = CursorConfig(start_cursor=start, end_cursor=end, step_size=2, more="ignored")

    assert (config.start_cursor, config.end_cursor) == (start, end)
    assert CursorConfig.model_validate(config.model_dump()) == config
    assert config.batch_size >= 0


def test_the_width_of_a_range_is_known_or_given():
    """Numbers say it themselves; for others it is what is given, or 0."""
    assert Rows().create_cursor_config(5, 9, metadata={"a": 1}).batch_size == 4
    assert CursorConfig(start_cursor="a", end_cursor="m").batch_size == 0
    assert CursorConfig(start_cursor="a", end_cursor="m", batch_size=7).batch_size == 7


# --- what the analyzer says -------------------------------------------------------------


def test_the_engine_reads_which_workers_to_create():
    """Exactly the shape that it expects."""
    handler = Rows()
    outcome = handler.create_batch_outcome(500, 200, batch_metadata={"file": "a.csv"})
    result = handler.batch_analyzer_success(outcome, {"took": 1}, worker_template_name="work")

    assert result.result == {
        "batch_processing_outcome": {
            "type": "create_batches",
            "worker_template_name": "work",
            "worker_count": 3,
            "cursor_configs": [
                {"batch_id": "001", "start_cursor": 0, "end_cursor": 200, "batch_size": 200},
                {"batch_id": "002", "start_cursor": 200, "end_cursor": 400, "batch_size": 200},
                {"batch_id": "003", "start_cursor": 400, "end_cursor": 500, "batch_size": 100},
            ],
            "total_items": 500,
        },
        "worker_count": 3,
        "total_items": 500,
        "batch_metadata": {"file": "a.csv"},
    }
    assert result.metadata == {"took": 1, "batch_analyzer": True}


def test_ranges_of_ones_own_are_numbered_and_added_up():
    """Unless their cursors are no numbers."""
    handler = Rows()
    numbers = handler.create_batch_outcome_from_ranges([(0, 5), (5, 7)])
    dates = handler.create_batch_outcome_from_ranges([("2026-01", "2026-02")], total_items=9)

    assert (numbers.total_items, dates.total_items) == (7, 9)
    assert BatchAnalyzerOutcome.from_ranges([(0, 5)]).total_items is None
    wire = handler.batch_analyzer_success(dates).result["batch_processing_outcome"]
    assert wire["cursor_configs"] == [
        {"batch_id": "001", "start_cursor": "2026-01", "end_cursor": "2026-02", "batch_size": 0}
    ]
    assert wire["worker_template_name"] == "batch_worker"


@pytest.mark.parametrize("kind", ["config", "share", "dict"])
def test_ranges_may_be_given_in_any_form(kind: str):
    """They go before those of an outcome."""
    handler = Rows()
    forms: dict[str, list[Any]] = {
        "config": [CursorConfig(start_cursor=0, end_cursor=9)],
        "share": handler.create_cursor_configs(9, 1),
        "dict": [{"start_cursor": 0, "end_cursor": 9}],
    }
    result = handler.batch_analyzer_success(
        handler.create_batch_outcome(500, 200), cursor_configs=forms[kind], total_items=9
    ).result

    assert (result["worker_count"], result["total_items"]) == (1, 9)
    assert result["batch_processing_outcome"]["cursor_configs"][0]["batch_size"] == 9


def test_ids_of_ones_own_stay_if_they_differ():
    """The engine needs one id a batch."""
    ids = ["eu", "us"]
    configs = [CursorConfig(start_cursor=0, end_cursor=1, batch_id=i) for i in ids]
    own = create_batches("w", 2, configs, 2)
    same = create_batches("w", 2, [configs[0], configs[0]], 2)

    assert [c["batch_id"] for c in own.cursor_configs] == ids
    assert [c["batch_id"] for c in same.cursor_configs] == ["001", "002"]


def test_nothing_to_do_is_said_with_a_reason():
    """In each of the ways to have no ranges."""
    handler = Rows()
    empty = handler.create_batch_outcome(0, 200)
    nothing = {"type": "no_batches"}

    assert handler.batch_analyzer_success().result == {
        "batch_processing_outcome": nothing,
        "reason": "no_cursor_configs_provided",
    }
    assert handler.batch_analyzer_success(empty).result["reason"] == "empty_dataset"
    told = handler.batch_analyzer_success(
        cursor_configs=[], batch_metadata={"reason": "closed", "day": "sunday"}
    )
    assert told.result == {
        "batch_processing_outcome": nothing,
        "reason": "closed",
        "day": "sunday",
    }
    assert told.metadata == {"batch_analyzer": True, "no_batches": True}
    assert handler.no_batches_outcome("closed", {"day": "sunday"}).result == told.result


def test_outcomes_are_checked():
    """As many ranges as workers."""
    with pytest.raises(ValueError, match="must equal worker_count"):
        create_batches("w", 2, [CursorConfig(start_cursor=0, end_cursor=1)], 1)
    assert isinstance(create_batches("w", 0, [], 0), CreateBatchesOutcome)
    assert no_batches() == NoBatchesOutcome(type="no_batches")


# --- a worker ---------------------------------------------------------------------------


def test_a_worker_sees_its_range():
    """Place among the others included, under all documented names."""
    batch = Rows().get_batch_context(worker_context())

    assert batch is not None
    assert (batch.batch_id, batch.batch_index, batch.total_batches) == ("002", 1, 5)
    assert (batch.start_cursor, batch.end_cursor, batch.batch_size) == (200, 400, 200)
    assert (batch.step_size, batch.cursor) == (200, batch.cursor_config)
    assert batch.batch_metadata["cursor_field"] == "id"
    assert batch.is_no_op is False
    assert Rows().get_batch_worker_context(worker_context()) == batch


@pytest.mark.parametrize("start", ["a", "0042", None, {"page": 3}, 1.5])
def test_a_worker_gets_the_cursor_that_the_analyzer_made(start: Any):
    """Of whatever type; nothing is turned into a number."""
    cursor = {"batch_id": "001", "start_cursor": start, "end_cursor": "z"}
    context = worker_context(cursor=cursor)
    batch = BatchWorkerContext.from_step_context(context)
    inputs = Rows().get_batch_worker_inputs(context)

    assert batch is not None
    assert inputs is not None
    assert (batch.start_cursor, inputs.cursor.start_cursor) == (start, start)
    assert batch.step_size == 1


@pytest.mark.parametrize("place", ["step_config", "input_data"])
def test_a_worker_may_be_run_by_hand(place: str):
    """`batch_context` in the config or the task's context stands in for the engine's inputs."""
    given = {
        "batch_id": "x",
        "cursor_config": {"start_cursor": 0, "end_cursor": 5, "step_size": 2},
        "batch_index": 3,
        "total_batches": 4,
    }
    context = StepContext.for_testing(**{place: {"batch_context": given}})  # type: ignore[arg-type]
    batch = BatchWorkerContext.from_step_context(context)

    assert batch is not None
    assert (batch.batch_id, batch.batch_index, batch.total_batches) == ("x", 3, 4)
    assert (batch.step_size, batch.batch_size) == (2, 5)


@pytest.mark.parametrize(
    "inputs", [{}, {"cursor": None}, {"cursor": {"step_size": "wide"}}, {"cursor": 3}]
)
def test_a_step_that_is_no_worker_has_no_range(inputs: dict[str, Any]):
    """None, not an error; also for stand-ins of the context."""
    context = StepContext.for_testing(step_inputs=inputs)

    assert BatchWorkerContext.from_step_context(context) is None
    assert BatchWorkerInputs.of(context) is None
    assert BatchWorkerContext.from_step_context(MagicMock()) is None
    assert Rows().handle_no_op_worker(MagicMock()) is None


def test_a_checkpoint_is_shown():
    """Cursor 0 counts as one."""
    context = worker_context()
    context.checkpoint = {"cursor": 0, "items_processed": 3, "accumulated_results": {"sum": 1}}
    batch = BatchWorkerContext.from_step_context(context)
    fresh = BatchWorkerContext.from_step_context(worker_context())

    assert batch is not None
    assert fresh is not None
    assert (batch.has_checkpoint(), batch.resume_cursor) == (True, 0)
    assert (batch.checkpoint_items_processed, batch.accumulated_results) == (3, {"sum": 1})
    assert (fresh.has_checkpoint(), fresh.resume_cursor) == (False, 200)
    assert (fresh.checkpoint_items_processed, fresh.accumulated_results) == (0, None)


def test_inputs_are_typed():
    """With the template's batch configuration."""
    inputs = Rows().get_batch_worker_inputs(worker_context())

    assert inputs is not None
    assert inputs.batch_metadata == BatchMetadata(
        cursor_field="id", failure_strategy=FailureStrategy.CONTINUE_ON_FAILURE
    )
    assert (inputs.is_no_op, inputs.batch_index, inputs.total_batches) == (False, 1, 5)


@pytest.mark.parametrize(
    ("spelling", "member"),
    [
        ("ContinueOnFailure", FailureStrategy.CONTINUE_ON_FAILURE),
        ("FailFast", FailureStrategy.FAIL_FAST),
        ("fail-fast", FailureStrategy.FAIL_FAST),
        ("ISOLATE", FailureStrategy.ISOLATE),
        ("isolate", FailureStrategy.ISOLATE),
    ],
)
def test_failure_strategies_are_understood_in_any_spelling(spelling: str, member: FailureStrategy):
    """So that a spelling never disables the check for placeholders."""
    metadata = {"cursor_field": "id", "failure_strategy": spelling}
    inputs = BatchWorkerInputs.of(worker_context(batch_metadata=metadata))

    assert inputs is not None
    assert inputs.batch_metadata.failure_strategy is member
    with pytest.raises(ValueError, match="guess"):
        FailureStrategy("guess")


def test_placeholders_are_answered():
    """Whatever else is in the inputs."""
    cursor = {"batch_id": "000", "start_cursor": 0, "end_cursor": 0, "batch_size": 0}
    for metadata in ({"failure_strategy": "nonsense"}, {}):
        context = worker_context(is_no_op=True, cursor=cursor, batch_metadata=metadata)
        answer = Rows().handle_no_op_worker(context)
        assert answer is not None
        result = answer.result or {}
        assert answer.success is True
        assert (result["batch_id"], result["no_op"], result["processed_count"]) == ("000", True, 0)
        assert datetime.fromisoformat(result["processed_at"]).tzinfo is not None
    assert Rows().handle_no_op_worker(worker_context()) is None


def test_a_worker_says_what_became_of_its_items():
    """Zero is zero, and None is all of them."""
    handler = Rows()
    everything = handler.batch_worker_success(items_processed=5)
    nothing = handler.batch_worker_success(items_processed=5, items_succeeded=0, errors=["x"])

    assert everything.result == {
        "items_processed": 5,
        "items_succeeded": 5,
        "items_failed": 0,
        "items_skipped": 0,
        "last_cursor": None,
        "batch_metadata": {},
    }
    assert everything.metadata == {"batch_worker": True}
    assert nothing.result is not None
    assert (nothing.result["items_succeeded"], nothing.result["errors"]) == (0, ["x"])
    assert handler.create_worker_outcome(5, 0).items_succeeded == 0
    assert handler.create_worker_outcome(5).items_succeeded == 5
    outcome = BatchWorkerOutcome(items_processed=2, results=[1], last_cursor="m")
    assert handler.batch_worker_success(outcome, {"a": 1}).metadata == {
        "a": 1,
        "batch_worker": True,
    }
    assert (handler.batch_worker_success(outcome).result or {})["last_cursor"] == "m"


def test_a_worker_may_hand_in_its_own_context():
    """Then the whole range counts as done, with whatever is added."""
    batch = Rows().get_batch_context(worker_context())
    result = Rows().batch_worker_success(batch, result={"file": "a.csv"}).result

    assert result is not None
    assert (result["items_processed"], result["items_succeeded"]) == (200, 200)
    assert (result["last_cursor"], result["file"]) == (400, "a.csv")


def test_a_worker_that_says_nothing_has_failed():
    """For good: the code has to be changed."""
    failed = Rows().batch_worker_success()

    assert (failed.success, failed.error_type, failed.retryable) == (False, "invalid_args", False)


def test_a_partial_failure_is_a_success():
    """The step is complete; the result says what failed."""
    outcome = Rows().create_worker_outcome(5, 3, items_failed=2)
    result = Rows().batch_worker_partial_failure(outcome)

    assert result.success is True
    assert (result.result or {})["partial_failure_message"] == "2 of 5 items failed"
    assert result.metadata == {"batch_worker": True, "had_failures": True}


@given(
    cursor=cursors,
    done=st.integers(0, 10**9),
    gathered=st.none() | st.dictionaries(st.text(), st.integers()),
)
def test_a_yield_is_a_result_that_the_worker_knows(cursor: Any, done: int, gathered: Any):
    """It carries cursor, count and what was gathered; other results carry none."""
    result = Rows().checkpoint_yield(cursor, done, gathered)
    expected = {"cursor": cursor, "items_processed": done}
    if gathered is not None:
        expected["accumulated_results"] = gathered

    assert result.result == {"type": "checkpoint_yield", **expected}
    assert result.metadata == {"checkpoint_yield": True, "batch_worker": True}
    assert result.checkpoint == expected


def test_contexts_can_be_made_by_hand():
    """For tests of a worker; each has an id of its own."""
    config = CursorConfig(start_cursor=0, end_cursor=5)
    one, two = (Rows().create_batch_context(config, 0, 2) for _ in range(2))

    assert one.batch_id != two.batch_id
    assert one.checkpoint_yield(3, 3).checkpoint == {"cursor": 3, "items_processed": 3}


# --- adding up --------------------------------------------------------------------------

counts = st.fixed_dictionaries(
    {},
    optional={
        "items_processed": st.integers(0, 1000),
        "items_succeeded": st.integers(0, 1000),
        "items_failed": st.integers(0, 1000) | st.none(),
        "items_skipped": st.integers(0, 1000),
        "errors": st.none() | st.lists(st.text(), max_size=5),
    },
)


@given(results=st.lists(st.none() | counts, max_size=20), limit=st.integers(0, 10))
def test_results_are_added_up(results: list[Any], limit: int):
    """None does not count, what is missing is 0, errors are cut but all counted."""
    total = aggregate_batch_results(results, max_errors=limit)
    present = [r for r in results if r is not None]

    assert total.total_processed == sum(r.get("items_processed", 0) for r in present)
    assert total.total_failed == sum(r.get("items_failed") or 0 for r in present)
    assert total.batch_count == len(present)
    assert total.error_count == sum(len(r.get("errors") or []) for r in present)
    assert len(total.errors) == min(limit, total.error_count)
    if not total.total_processed:
        assert total.success_rate == 0.0


def test_both_ways_to_add_up_agree():
    """The handler's method gives the fields of the function's result."""
    results = [{"items_processed": 2, "items_succeeded": 1}, None]

    assert Rows.aggregate_worker_results(results) == aggregate_batch_results(results).model_dump()
    assert Rows.aggregate_worker_results(results)["success_rate"] == 0.5


def analyzed(*batch_ids: str) -> dict[str, Any]:
    configs = [{"batch_id": i, "start_cursor": 0, "end_cursor": 1} for i in batch_ids]
    return {
        "batch_processing_outcome": {
            "type": "create_batches",
            "worker_template_name": "work",
            "cursor_configs": configs,
        }
    }


def test_an_aggregator_finds_the_workers():
    """By the prefix, in envelopes and without, other results left aside."""
    results = {
        "analyze": {"result": analyzed("001", "002")},
        "work_001": {"result": {"items_processed": 1}},
        "work_002": {"items_processed": 2},
        "work_extra_001": {"result": {"items_processed": 100}},
        "other": {"result": {}},
    }
    scenario = Rows().detect_aggregation_scenario(results, "analyze", "work")

    assert scenario.no_batches() is False
    assert scenario.batch_results == {
        "work_001": {"items_processed": 1},
        "work_002": {"items_processed": 2},
    }
    assert scenario.worker_count == 2


def test_an_aggregator_reads_contexts():
    """As `context.dependency_results` shows them."""
    context = StepContext.for_testing(
        dependency_results={"analyze": analyzed(), "work_001": {"n": 1}, "work_002": None}
    )
    scenario = BatchAggregationScenario.detect(context.dependency_results, "analyze", "work_")

    assert scenario.batch_results == {"work_001": {"n": 1}, "work_002": {}}


def test_without_batches_there_is_nothing_to_add_up():
    """Even if the placeholder has a result."""
    results = {
        "analyze": {"result": {"batch_processing_outcome": {"type": "no_batches"}}},
        "work_000": {"result": {"no_op": True}},
    }
    scenario = BatchAggregationScenario.detect(results, "analyze", "work_")
    result = Rows().aggregate_batch_worker_results(scenario, {"total": 0})

    assert (scenario.no_batches(), scenario.worker_count) == (True, 0)
    assert result.result == {"worker_count": 0, "scenario": "no_batches", "total": 0}


def test_with_batches_they_are_added_up():
    """By a function of one's own, or not at all."""
    results = {"analyze": {"result": analyzed()}, "work_001": {"result": {"n": 3}}}
    scenario = BatchAggregationScenario.detect(results, "analyze", "work_")
    summed = Rows().aggregate_batch_worker_results(
        scenario, aggregation_fn=lambda found: {"n": sum(r["n"] for r in found.values())}
    )

    assert summed.result == {"n": 3, "worker_count": 1, "scenario": "with_batches"}
    plain = Rows().aggregate_batch_worker_results(scenario).result or {}
    assert plain["batch_results"] == {"work_001": {"n": 3}}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"work_001": {"result": {}}}, "Missing batchable step dependency.*'analyze'"),
        ({"analyze": {"result": None}}, "Missing batchable step dependency"),
        ({"analyze": {"result": analyzed()}}, "No batch workers found.*'work_'"),
    ],
)
def test_what_an_aggregator_misses_is_named(results: dict[str, Any], message: str):
    """A wrong name is an error, not a sum of nothing."""
    with pytest.raises(ValueError, match=message):
        BatchAggregationScenario.detect(results, "analyze", "work_")


def test_everything_can_be_stored():
    """Results made of typed values survive the database's JSON."""
    handler = Rows()
    result = handler.batch_analyzer_success(handler.create_batch_outcome(5, 2)).result

    assert decode(encode(result)) == result
    assert BatchableMixin is Batchable
    with pytest.raises(pydantic.ValidationError):
        handler.batch_analyzer_success(cursor_configs=[{"start_cursor": 0}])
