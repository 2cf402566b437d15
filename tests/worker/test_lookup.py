"""What a claim does not bring along is read when a handler asks, once a task."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from types import SimpleNamespace
from uuid import uuid4

import pytest

from support.flows import ONE, template
from support.workers import eventually
from tasker_core.payload import encode
from tasker_core.worker import lookup as lookup_module
from tasker_core.worker.lookup import EarlierResults, Lookup

LARGE = "x" * 40_000


@pytest.fixture
def reads(monkeypatch):
    """Counts the queries of lookups: the names asked for, or None for a context."""
    seen = []
    results, context = lookup_module.read_results, lookup_module.read_context

    async def read_results(conn, task_uuid, names):
        seen.append(sorted(names))
        return await results(conn, task_uuid, names)

    async def read_context(conn, task_uuid):
        seen.append(None)
        return await context(conn, task_uuid)

    monkeypatch.setattr(lookup_module, "read_results", read_results)
    monkeypatch.setattr(lookup_module, "read_context", read_context)
    return seen


def colours(function):
    async def coroutine(context):
        return function(context)

    return {"sync": function, "async": coroutine}


async def test_direct_parents_need_no_query(bench, reads):
    """Parents' results and the context arrive with the step."""

    def b(context):
        return {"got": context.get_dependency_field("a", "n"), "in": context.get_input("i")}

    await bench.worker({"a": lambda c: {"n": 1}, "b": b})
    state, task = await bench.run(template({"a": [], "b": ["a"]}), context={"i": 2})

    assert state == "complete"
    assert await bench.result(task, "b") == {"got": 1, "in": 2}
    assert reads == []


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_older_ancestors_are_read_once_a_task(bench, reads, colour):
    """The first that asks makes the query, in a thread or on the loop; the others have it."""

    def ask(context):
        return {"a": context.get_dependency_field("a", "n")}

    handler = colours(ask)[colour]
    graph = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["d"]}
    await bench.worker(
        {"a": lambda c: {"n": 5}, "b": handler, "c": handler, "d": handler, "e": ask}
    )
    state, task = await bench.run(template(graph))

    assert state == "complete"
    assert await bench.result(task, "e") == {"a": 5}
    assert reads == [["a"]]


async def test_all_results_can_be_listed(bench, reads):
    """Iterating gives every ancestor that has a result, in one query for what is missing."""

    def d(context):
        return {name: context.get_dependency_result(name) for name in context.dependency_results}

    graph = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"]}
    await bench.worker({**{name: (lambda c: {"by": c.step_name}) for name in "abc"}, "d": d})
    state, task = await bench.run(template(graph))

    assert state == "complete"
    assert await bench.result(task, "d") == {name: {"by": name} for name in "abc"}
    assert reads == [["a", "b"]]


async def test_what_is_no_ancestor_is_not_asked_for(bench, reads):
    """A sibling, a later step or no step at all has no result, and costs no query."""

    def b(context):
        names = ("c", "nobody", "b")
        return {name: context.get_dependency_result(name) for name in names}

    await bench.worker({"a": lambda c: {}, "b": b, "c": lambda c: {"x": 1}})
    state, task = await bench.run(template({"a": [], "b": ["a"], "c": ["a"]}))

    assert state == "complete"
    assert await bench.result(task, "b") == {"c": None, "nobody": None, "b": None}
    assert reads == []


@pytest.mark.parametrize("colour", ["sync", "async"])
async def test_large_contexts_and_results_are_read_when_asked_for(bench, reads, colour):
    """More than 32 kB do not come along, and are read once for all steps of the task."""

    def size(context):
        return {
            "context": len(context.get_input("text")),
            "a": len(context.get_dependency_field("a", "text")),
        }

    handler = colours(size)[colour]
    await bench.worker({"a": lambda c: {"text": LARGE}, "b": handler, "c": handler})
    graph = {"a": [], "b": ["a"], "c": ["a"]}
    state, task = await bench.run(template(graph), context={"text": LARGE})

    assert state == "complete"
    for name in ("b", "c"):
        assert await bench.result(task, name) == {"context": 40_000, "a": 40_000}
    assert sorted(reads, key=str) == [None, ["a"]]


async def test_more_than_sixteen_parents(bench, reads):
    """A wide join reads the results of its parents in one query."""
    parents = [f"p{n}" for n in range(40)]

    def join(context):
        return {"sum": sum(one["n"] for one in context.get_all_dependency_results("p"))}

    one = {"p": lambda c: {"n": int(c.step_name[1:])}, "join": join}
    graph = {**{name: [] for name in parents}, "join": parents}
    await bench.worker(one)
    state, task = await bench.run(template(graph, callables=dict.fromkeys(parents, "p")))

    assert state == "complete"
    assert await bench.result(task, "join") == {"sum": sum(range(40))}
    assert reads == [sorted(parents)]


async def test_a_lookup_outlives_its_connection(bench):
    """A broken connection is made again while the handler waits; the attempt does not fail."""
    ask = threading.Event()

    def b(context):
        first = context.get_dependency_result("z")  # connects, if nobody did
        ask.wait(20)
        return {"first": first, "a": context.get_dependency_field("a", "n")}

    await bench.worker({"z": lambda c: {}, "a": lambda c: {"n": 1}, "x": lambda c: {}, "b": b})
    task = await bench.begin(template({"z": [], "a": ["z"], "x": ["a"], "b": ["x"]}))
    killed = await eventually(
        lambda: bench.conn.fetchval(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity "
            "where application_name = 'tasker worker lookup' and query like '%steps%'"
        )
    )
    ask.set()

    assert killed
    assert await bench.settled(task) == "complete"
    assert await bench.result(task, "b") == {"first": {}, "a": 1}
    assert await bench.outcomes(task) == ["complete"] * 4


async def test_after_the_end_nobody_waits_for_an_answer(bench):
    """A handler that outlives its worker and asks gets an error at once."""
    lookup = Lookup(bench.database)
    lookup.close()
    with pytest.raises(ConnectionError, match="stopped"):
        lookup.context(uuid4())


async def test_closing_cuts_off_who_waits(bench):
    """An unanswerable question ends with the worker, and not half a minute later."""
    from tasker_core.db.connect import Database

    lookup = Lookup(Database("postgresql://nobody@127.0.0.1:1/none"))
    asking = asyncio.create_task(asyncio.to_thread(lookup.context, uuid4()))
    await eventually(lambda: lookup._loop is not None)
    await asyncio.to_thread(lookup.close)
    await asyncio.wait({asking}, timeout=5)
    assert isinstance(asking.exception(), CancelledError | ConnectionError)


async def test_what_is_kept_is_bounded(bench, monkeypatch):
    """The texts that are kept stay under a size; what was dropped is read again."""
    monkeypatch.setattr(lookup_module, "KEPT_CHARACTERS", 100_000)
    lookup = Lookup(bench.database)
    tasks = [await bench.begin(template(ONE), context={"t": LARGE}) for _ in range(5)]
    try:
        for task in tasks * 2:
            text = await asyncio.to_thread(lookup.context, task)
            assert text == encode({"t": LARGE})
        kept = sum(len(text) for text in lookup._shelf._kept.values())
        assert 0 < kept <= 100_000
    finally:
        lookup.close()


async def test_ancestors_are_counted_only_when_needed():
    """A handler that looks at its parents alone never makes anybody walk the graph."""

    def walk():
        raise AssertionError("nobody asked for that")

    plan = SimpleNamespace(ancestors=walk, parents=frozenset({"a"}))
    claim = SimpleNamespace(task_uuid=uuid4(), parent_results='{"a": {"n": 1}}')
    results = EarlierResults(None, claim, plan)
    assert results["a"] == {"n": 1}
    assert results.get("a") == {"n": 1}
    assert results


async def test_a_long_chain_costs_what_its_steps_cost(bench):
    """A plan holds no list of all the steps before it."""
    worker = await bench.worker({"s": lambda c: {}})
    names = [f"s{n}" for n in range(300)]
    graph = {name: names[n - 1 : n] if n else [] for n, name in enumerate(names)}
    state, _ = await bench.run(template(graph, callables=dict.fromkeys(names, "s")))

    assert state == "complete"
    assert all(plan._ancestors is None for plan in worker._plans._plans.values())
    assert max(len(plan.ancestors()) for plan in worker._plans._plans.values()) == 299
