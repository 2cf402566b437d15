"""Whole workflows: real engine, real worker, mocked steps, a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from unittest.mock import AsyncMock, MagicMock

import asyncpg
import pytest

from tasker_core import (
    BaseSubscriber,
    Decision,
    HandlerRegistry,
    PermanentError,
    RetryableError,
    StepContext,
    StepHandler,
    StepHandlerResult,
    SubscriberRegistry,
)
from tasker_core.engine.create import NewTask, create_task
from tasker_core.engine.register import TemplateShelf
from tasker_core.errors import (
    DuplicateTask,
    HandlerLoadError,
    InvalidContext,
    ResolutionError,
    TransitionRefused,
)
from tasker_core.handlers.functional_kinds import BatchConfig
from tasker_core.step_handler.functional import depends_on, step_handler
from tasker_core.testing import (
    REAL,
    TIMES_OUT,
    WORKER_LOST,
    Bench,
    MockExhausted,
    run_workflow,
    run_workflow_async,
)

LEND = """
name: lend
namespace_name: library
version: 1.0.0
identity_strategy: always_unique
input_schema:
  type: object
  properties: {book: {type: string}}
steps:
  - name: find
    handler: {callable: find}
    publishes_events:
      - {name: book.found, description: It is there, schema: {type: object}, delivery_mode: fast}
      - {name: book.missing, description: It is not, schema: {type: object}, condition: failure}
  - name: stamp
    handler: {callable: stamp, initialization: {ink: blue}}
    dependencies: [find]
    timeout_seconds: 20
    retry: {max_attempts: 3, backoff: linear, backoff_base_ms: 1800000, max_backoff_ms: 7200000}
  - name: note
    handler: {callable: note}
    dependencies: [find]
  - name: hand_over
    handler: {callable: hand_over}
    dependencies: [stamp, note]
"""
ALL = {"find": {"shelf": 7}, "stamp": {}, "note": {}, "hand_over": {"due": "soon"}}

ROUTE = """
name: route
namespace_name: library
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: ask
    handler: {callable: ask}
  - name: choose
    type: decision
    handler: {callable: choose}
    dependencies: [ask]
  - name: by_post
    handler: {callable: by_post}
    dependencies: [choose]
  - name: by_hand
    handler: {callable: by_hand}
    dependencies: [choose]
  - name: tell
    type: deferred_convergence
    handler: {callable: tell}
    dependencies: [by_post, by_hand]
"""

COUNT = """
name: count
namespace_name: library
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: cut
    type: batchable
    handler: {callable: cut}
    batch_config: {worker_template: shelf}
  - name: shelf
    type: batch_worker
    handler: {callable: shelf}
    dependencies: [cut]
  - name: add_up
    type: deferred_convergence
    handler: {callable: add_up}
    dependencies: [shelf]
"""


# --- running ------------------------------------------------------------------------------


def test_a_workflow_runs_to_its_end(tasker):
    """Mocked steps complete in the order of the graph, and their results can be read."""
    run = tasker.run(LEND, {"book": "Emma"}, mocks=ALL)

    run.assert_complete()
    run.assert_ran("find", "stamp", "note", "hand_over")
    run.assert_ran("find", "note", "stamp", "hand_over")
    assert run.state == "complete"
    assert run.ran[0] == "find"
    assert run.results["hand_over"] == {"due": "soon"}
    assert dict(run.results) == ALL
    assert run.steps["find"].state == "complete"
    assert run.transitions[-1].to_state == "complete"
    assert [one.to_state for one in run.transitions if one.step == "note"] == [
        "enqueued",
        "in_progress",
        "complete",
    ]


def test_steps_without_a_mock_run_their_handlers(tasker):
    """Given as classes, decorated functions, plain functions; sync and async."""

    class Find(StepHandler):
        handler_name = "find"
        handler_version = "2.1.0"

        def call(self, context: StepContext) -> StepHandlerResult:
            return self.success({"title": context.get_input("book")})

    @step_handler("library_stamp_test")
    @depends_on(found="find")
    async def stamp(found: dict[str, str]) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"stamped": found["title"]}

    threads: list[str] = []

    def note(context: StepContext) -> dict[str, int]:
        threads.append(threading.current_thread().name)
        return {"chars": len(context.get_dependency_result("find")["title"])}

    run = tasker.run(
        LEND,
        {"book": "Emma"},
        handlers={"find": Find, "stamp": stamp, "note": note},
        mocks={"hand_over": lambda context: dict(context.get_dependency_result("stamp"))},
    )

    run.assert_complete()
    assert run.results["hand_over"] == {"stamped": "Emma"}
    assert run.results["note"] == {"chars": 4}
    assert threads == ["tasker-handler"]
    assert run.attempts("find")[0].metadata == {"handler_version": "2.1.0"}


def test_a_list_and_a_registry_of_handlers_will_do(tasker):
    """Handlers that have names of their own need not be named again."""

    class Find(StepHandler):
        handler_name = "find"

        def call(self, context: StepContext) -> StepHandlerResult:
            return self.success({"shelf": 1})

    registry = HandlerRegistry()
    registry.register(Find)
    rest = {name: outcome for name, outcome in ALL.items() if name != "find"}

    for handlers in ([Find], registry):
        run = tasker.run(LEND, handlers=handlers, mocks=rest)
        assert run.results["find"] == {"shelf": 1}


def test_a_package_of_handlers_will_do(tasker, tmp_path, monkeypatch):
    """Packages are imported; what cannot be imported is an error."""
    (tmp_path / "shelves_pkg.py").write_text(
        "from tasker_core import StepHandler\n"
        "class Find(StepHandler):\n"
        "    handler_name = 'find'\n"
        "    def call(self, context):\n"
        "        return self.success({'shelf': 3})\n"
    )
    (tmp_path / "broken_pkg.py").write_text("import nothing_of_that_name\n")
    monkeypatch.syspath_prepend(tmp_path)

    run = tasker.run(LEND, packages=["shelves_pkg"], mocks={**ALL, "find": REAL})

    assert run.results["find"] == {"shelf": 3}
    with pytest.raises(HandlerLoadError, match="broken_pkg"):
        tasker.run(LEND, packages=["broken_pkg"])


def test_a_step_that_nobody_can_run_is_named(tasker):
    """Neither handler nor mock: the test is told when the step's turn comes."""
    with pytest.raises(ResolutionError, match="step 'stamp' is to run"):
        tasker.run(LEND, mocks={"find": {}, "note": {}})

    run = tasker.run(LEND, mocks={"find": PermanentError("lost")})
    run.assert_blocked("find")


def test_what_creating_a_task_refuses_is_refused(tasker):
    """The context is checked; the same task cannot be created twice."""
    strict = LEND.replace("always_unique", "strict")

    with pytest.raises(InvalidContext):
        tasker.run(LEND, {"book": 7}, mocks=ALL)
    tasker.run(strict, {"book": "Emma"}, mocks=ALL)
    with pytest.raises(DuplicateTask):
        tasker.run(strict, {"book": "Emma"}, mocks=ALL)
    tasker.run(strict, {"book": "Emma"}, mocks=ALL, idempotency_key="again").assert_complete()


def test_a_run_can_stop_on_the_way(tasker):
    """After the step named by `until`, nothing begins until the run goes on."""
    run = tasker.run(LEND, mocks=ALL, until="find")

    run.assert_never_ran("stamp", "note", "hand_over")
    assert run.results == {"find": {"shelf": 7}}
    with pytest.raises(KeyError, match="step 'note' has no result: it is enqueued"):
        run.results["note"]
    run.go_on(until="stamp").assert_never_ran("hand_over")
    run.go_on().assert_complete()
    with pytest.raises(ValueError, match="did you mean 'stamp'"):
        run.go_on(until="stmp")


def test_runs_stand_side_by_side(tasker):
    """Several tasks of one test have mocks of their own, even for the same steps."""
    first = tasker.run(LEND, mocks={**ALL, "stamp": RetryableError("dry")})
    second = tasker.run(LEND, mocks={**ALL, "find": {"shelf": 9}})

    first.advance(hours=1)
    second.assert_complete()
    assert second.results["find"] == {"shelf": 9}
    first.assert_attempts("stamp", 2)


def test_a_run_that_was_stopped_stands_still_while_others_run(tasker):
    """Another run of the same test, and time that passes there, do not move it."""
    stopped = tasker.run(LEND, mocks={**ALL, "find": RetryableError("dark")}, until="note")
    half = tasker.run(LEND, mocks=ALL, until="find")

    tasker.run(LEND, mocks=ALL).advance(hours=5).assert_complete()

    half.assert_never_ran("stamp", "note")
    half.assert_step("note", "enqueued")
    half.go_on().assert_complete()
    stopped.assert_attempts("find", 1)
    stopped.go_on().assert_attempts("find", 2)


def test_a_task_that_the_application_created_can_be_followed(tasker):
    """Code under test connects and creates; the bench runs what it created."""
    template = tasker.register(LEND)

    async def create() -> object:
        conn = await asyncpg.connect(tasker.url)
        new = NewTask(name=template.name, namespace=template.namespace)
        created = await create_task(conn, TemplateShelf(), new)
        await conn.close()
        return created.task_uuid

    run = tasker.follow(asyncio.run(create()), mocks=ALL)

    run.assert_complete()


def test_the_overrides_for_tests_hold(tasker):
    """As a server with TASKER_ENV=test would have it; a bench may be told another name."""
    overrides = {"test": {"steps": [{"name": "ALL", "handler": {"initialization": {"n": 1}}}]}}
    flow = {
        "name": "count",
        "namespace_name": "hall",
        "version": "1.0.0",
        "steps": [{"name": "say", "handler": {"callable": "say", "initialization": {"n": 0}}}],
        "environments": overrides,
    }
    handlers = {"say": lambda context: context.step_config}

    assert tasker.run(flow, handlers=handlers).results["say"] == {"n": 1}
    with Bench(tasker.database, environment="production") as live:
        assert live.run(flow, handlers=handlers).results["say"] == {"n": 0}


def test_a_handler_that_hangs_ends_the_run_not_the_test_session(tasker):
    """A run has a limit in real time; the message shows where it stood."""
    release = threading.Event()
    try:
        with pytest.raises(TimeoutError, match=r"note .* in_progress"):
            tasker.run(LEND, mocks={**ALL, "note": lambda context: release.wait(10)}, timeout=0.3)
    finally:
        release.set()


def test_a_timeout_of_the_template_is_kept_in_real_time(tasker):
    """A handler that takes longer than its step allows fails, although its thread goes on."""
    release = threading.Event()
    quick = LEND.replace("timeout_seconds: 20", "timeout_seconds: 0.05")
    try:
        run = tasker.run(quick, mocks={**ALL, "stamp": lambda context: release.wait(10)})
    finally:
        release.set()

    assert run.steps["stamp"].error["error_type"] == "timeout"
    run.assert_step("stamp", "waiting_for_retry")


# --- time ---------------------------------------------------------------------------------


def test_a_retry_waits_for_the_clock_of_the_test(tasker):
    """Nothing is due before the test says so, and a backoff is exact."""
    run = tasker.run(LEND, mocks={**ALL, "stamp": [RetryableError("dry"), KeyError("ink"), {}]})

    run.assert_state("waiting_for_retry")
    first = run.attempts("stamp")[0]
    assert first.due_at - first.finished_at == timedelta(minutes=30)
    run.advance(minutes=29)
    run.assert_attempts("stamp", 1)
    run.advance(timedelta(minutes=1))
    run.assert_attempts("stamp", 2)
    run.advance(hours=1).assert_complete()


def test_waits_are_skipped_on_demand(tasker):
    """With skip_waits, a run of hours takes milliseconds, and the clock shows the hours."""
    before = tasker.clock.now()
    began = time.monotonic()

    run = tasker.run(
        LEND, mocks={**ALL, "stamp": [RetryableError("dry")] * 2 + [{}]}, skip_waits=True
    )

    run.assert_complete()
    assert tasker.clock.now() - before > timedelta(minutes=90)
    assert time.monotonic() - began < 10


def test_the_clock_can_be_put_anywhere(tasker, tasker_clock):
    """Tasks are created at the test's own time."""
    new_year = datetime(2031, 1, 1, tzinfo=UTC)

    tasker_clock.set(new_year)
    run = tasker.run(LEND, mocks=ALL)

    assert timedelta() < run.snapshot().task.created_at - new_year < timedelta(seconds=1)
    assert tasker_clock.advance(days=2) - new_year > timedelta(days=2)
    assert tasker_clock.set(datetime(2031, 1, 1)).tzinfo is not None  # noqa: DTZ001


def test_transitions_are_in_order_while_the_clock_stands(tasker):
    """Only what one call to the database did has one time, as being released and claimed."""
    moves = [one for one in tasker.run(LEND, mocks=ALL).transitions if one.step == "stamp"]

    assert [one.to_state for one in moves] == ["enqueued", "in_progress", "complete"]
    enqueued, claimed, ended = (one.moved_at for one in moves)
    assert enqueued <= claimed < ended


# --- outcomes of mocks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "state", "error_type"),
    [
        (PermanentError("no"), "error", "permanent_error"),
        (PermanentError, "error", "permanent_error"),
        (RetryableError("busy"), "waiting_for_retry", "retryable_error"),
        (StepHandlerResult.failure("odd", "my_type", retryable=False), "error", "my_type"),
        (StepHandlerResult.success({"n": 1}), "complete", None),
        (None, "complete", None),
        (lambda context: {"n": 1}, "complete", None),
        (MagicMock(return_value={"n": 1}), "complete", None),
        (MagicMock(side_effect=ValueError("bad")), "waiting_for_retry", "handler_error"),
        (AsyncMock(return_value={"n": 1}), "complete", None),
        (AsyncMock(side_effect=PermanentError("no")), "error", "permanent_error"),
        (TIMES_OUT, "waiting_for_retry", "timeout"),
        ([{"n": 1}], "complete", None),
        ({"n": object()}, "error", "invalid_result"),
    ],
)
def test_an_outcome_may_be_many_things(tasker, outcome, state, error_type):
    """Results, exceptions, functions and simulated ends, alone or in a list."""
    run = tasker.run(LEND, mocks={**ALL, "stamp": outcome})

    run.assert_step("stamp", state)
    assert (run.steps["stamp"].error or {}).get("error_type") == error_type


def test_a_mocked_time_out_speaks_as_a_worker_does(tasker):
    """The message names the template's time-out."""
    run = tasker.run(LEND, mocks={**ALL, "stamp": TIMES_OUT})

    assert run.steps["stamp"].error["message"] == "the handler did not end within 20 seconds"


def test_a_worker_can_be_lost(tasker):
    """Its lease runs out when the clock says so; then the step is tried again."""
    run = tasker.run(LEND, mocks={**ALL, "stamp": [WORKER_LOST, {}]})

    run.assert_step("stamp", "in_progress")
    run.advance(seconds=31)
    assert run.attempts("stamp")[0].error["error_type"] == "worker_lost"
    run.advance(hours=1).assert_complete()


def test_a_list_of_outcomes_may_end_with_the_real_handler(tasker):
    """REAL stands for the handler that the step has."""
    run = tasker.run(
        LEND,
        mocks={**ALL, "stamp": [RetryableError("dry"), REAL]},
        handlers={"stamp": lambda context: {"attempt": context.attempt}},
        skip_waits=True,
    )

    assert run.results["stamp"] == {"attempt": 2}


def test_a_list_that_is_too_short_fails_the_test(tasker):
    """One attempt more than outcomes is told, with the step's name."""
    with pytest.raises(MockExhausted, match="step 'stamp' has 1 outcome"):
        tasker.run(LEND, mocks={**ALL, "stamp": [RetryableError("dry")]}, skip_waits=True)


def test_an_assertion_in_a_mock_fails_the_test(tasker):
    """It is not taken for an error of a handler, which would only be retried."""

    def check(context: StepContext) -> None:
        assert context.get_input("book") == "Persuasion"

    with pytest.raises(AssertionError, match="Persuasion"):
        tasker.run(LEND, {"book": "Emma"}, mocks={**ALL, "stamp": check})
    with pytest.raises(pytest.fail.Exception):
        tasker.run(LEND, mocks={**ALL, "stamp": lambda context: pytest.fail("no")})


def test_mocks_of_steps_that_do_not_exist_are_refused(tasker):
    """A slip of the pen would otherwise run the real handler."""
    with pytest.raises(ValueError, match="did you mean 'stamp'"):
        tasker.run(LEND, mocks={**ALL, "stmap": {}})


def test_decisions_can_be_mocked_and_taken(tasker):
    """A mocked decision adds its steps; the others never come into being."""
    mocks = {"ask": {}, "by_hand": {}, "tell": {}}

    run = tasker.run(ROUTE, mocks={**mocks, "choose": Decision.route("by_hand")})
    skipped = tasker.run(ROUTE, mocks={**mocks, "choose": lambda context: Decision.skip("none")})

    run.assert_complete()
    run.assert_ran("choose", "by_hand", "tell")
    run.assert_never_ran("by_post")
    assert "by_post" not in run.steps
    skipped.assert_complete()
    skipped.assert_never_ran("by_hand", "by_post")


def test_batches_can_be_mocked(tasker):
    """The mock of a batch worker holds for each of its steps, each with a list of its own."""
    run = tasker.run(
        COUNT,
        mocks={
            "cut": BatchConfig(total_items=30, batch_size=10),
            "shelf": [RetryableError("dusty"), lambda context: {"step": context.step_name}],
            "add_up": lambda context: {"n": len(context.get_all_dependency_results("shelf"))},
        },
        skip_waits=True,
    )

    run.assert_complete()
    shelves = [name for name in run.steps if name.startswith("shelf")]
    assert len(shelves) == 3
    assert [run.results[name] for name in shelves] == [{"step": name} for name in shelves]
    assert run.results["add_up"] == {"n": 3}
    run.assert_attempts(shelves[0], 2)


# --- operators and events -------------------------------------------------------------------


def test_an_operator_can_step_in(tasker):
    """Reset, resolve, complete and cancel do what they do, and the run goes on."""
    lost = {**ALL, "find": PermanentError("lost", error_code="LOST")}

    run = tasker.run(LEND, mocks=lost)
    run.assert_blocked("find", error_code="LOST", error_type="permanent_error", match="lo.t")
    run.mock({"find": {"shelf": 1}}).reset("find", reason="it was found")
    run.assert_complete()
    run.assert_attempts("find", 2)
    assert "it was found" in [one.reason for one in run.transitions]

    tasker.run(LEND, mocks=lost).resolve("find").assert_complete()
    by_hand = tasker.run(LEND, mocks=lost).complete("find", {"shelf": 5})
    assert by_hand.results["find"] == {"shelf": 5}
    cancelled = tasker.run(LEND, mocks=lost).cancel()
    cancelled.assert_state("cancelled")
    with pytest.raises(TransitionRefused):
        cancelled.reset("find")


def test_a_step_writes_in_its_own_transaction(tasker):
    """`context.transaction()` works as in a worker, in both colours, and its steps' events too."""

    async def find(context):
        async with context.transaction() as conn:
            await conn.execute("insert into loans values ('find', $1)", context.attempt)
        if not context.is_retry():
            raise RetryableError("the catalogue is away")
        return {}

    def stamp(context):
        with context.transaction() as conn:
            conn.execute("insert into loans values ('stamp', %s)", [context.attempt])
        return {}

    tasker.do(lambda conn: conn.execute("create table loans (step text, attempt int)"))
    try:
        run = tasker.run(
            LEND,
            {},
            mocks=ALL | {"find": REAL, "stamp": REAL},
            handlers={"find": find, "stamp": stamp},
            skip_waits=True,
        )
        written = tasker.do(lambda conn: conn.fetch("select * from loans order by step"))
    finally:
        tasker.do(lambda conn: conn.execute("drop table loans"))

    run.assert_complete()
    assert [tuple(row) for row in written] == [("find", 2), ("stamp", 1)]
    run.assert_event("book.found")


def test_durable_events_are_seen_whoever_publishes_them(tasker):
    """A worker's, a sweep's and an operator's; durable subscribers get them, once each."""
    heard = []

    class Ears(BaseSubscriber):
        durable = True

        @classmethod
        def subscribes_to(cls) -> list[str]:
            return ["book.*"]

        def handle(self, event: dict[str, object]) -> None:
            heard.append(str(event["event_name"]))

    find = LEND.replace(", delivery_mode: fast", "").replace(
        "handler: {callable: find}", "handler: {callable: find}\n    retry: {max_attempts: 1}"
    )
    SubscriberRegistry.reset()
    SubscriberRegistry.instance().register(Ears)
    try:
        with Bench(tasker.database) as bench:
            bench.run(find, mocks=ALL).assert_event("book.found", shelf=7)
            lost = bench.run(find, mocks={**ALL, "find": WORKER_LOST}, skip_waits=True)
            lost.assert_event("book.missing")
            lost.assert_no_event("book.found")
            lost.complete("find", {"shelf": 8}).assert_event("book.found", shelf=8)
    finally:
        SubscriberRegistry.reset()

    assert heard == ["book.found", "book.missing", "book.found"]


def test_events_are_published_and_remembered(tasker):
    """Events reach the application's subscribers, and the run keeps them."""
    heard: list[str] = []

    class Listener(BaseSubscriber):
        @classmethod
        def subscribes_to(cls) -> list[str]:
            return ["book.*"]

        def handle(self, event: dict[str, object]) -> None:
            heard.append(str(event["event_name"]))

    SubscriberRegistry.reset()
    SubscriberRegistry.instance().register(Listener)
    try:
        with Bench(tasker.database) as bench:
            run = bench.run(LEND, mocks=ALL)
            event = run.assert_event("book.f*", shelf=7)
            run.assert_no_event("book.missing")
            lost = bench.run(LEND, mocks={**ALL, "find": PermanentError("lost")})
            lost.assert_event("book.missing")
    finally:
        SubscriberRegistry.reset()

    assert event.payload == {"shelf": 7}
    assert heard == ["book.found"]  # the other one is durable


# --- without the fixture --------------------------------------------------------------------


def test_run_workflow_uses_the_bench_of_the_fixture(tasker):
    """In a test with the fixture, both runs live."""
    first = run_workflow(LEND, mocks=ALL, until="find")
    run_workflow(LEND, mocks=ALL).assert_complete()

    first.go_on().assert_complete()


def test_run_workflow_needs_no_fixture(tasker_database):
    """Each call begins with an empty database; the run before it is over."""
    first = run_workflow(LEND, mocks=ALL, until="find")
    second = run_workflow(LEND, mocks=ALL)

    second.assert_complete()
    assert second.bench.do(lambda conn: conn.fetchval("select count(*) from tasker.tasks")) == 1
    with pytest.raises(RuntimeError, match="this run is over"):
        first.go_on()


async def test_an_async_test_may_run_a_workflow(tasker):
    """Handlers may ask something that runs on the loop of the test."""
    loop = asyncio.get_running_loop()

    async def answer() -> dict[str, int]:
        return {"shelf": 4}

    def ask(context: StepContext) -> dict[str, int]:
        return asyncio.run_coroutine_threadsafe(answer(), loop).result(5)

    run = await tasker.run_async(LEND, mocks={**ALL, "find": ask})
    other = await run_workflow_async(LEND, mocks=ALL)

    assert run.results["find"] == {"shelf": 4}
    other.assert_complete()
    tasker.run(LEND, mocks=ALL).assert_complete()
