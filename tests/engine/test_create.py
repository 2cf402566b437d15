"""Tasks begin: all of their rows or none, and never twice."""

from __future__ import annotations

import asyncio
import json
from uuid import RFC_4122, UUID, uuid4

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.clock import START
from support.flows import CHAIN, DIAMOND, begin_one, names, state, states, template
from tasker_core.engine.create import NewTask, create_task, create_tasks, identity_hash
from tasker_core.engine.ids import MAX_STEPS
from tasker_core.engine.inspect import get_task
from tasker_core.engine.register import TemplateShelf, register_template
from tasker_core.errors import (
    DuplicateTask,
    InvalidContext,
    InvalidRequest,
    MissingIdempotencyKey,
    UnknownTemplate,
)
from tasker_core.states import StepState, TaskState

pytestmark = pytest.mark.usefixtures("consistent")

STRICT = {"identity_strategy": "strict"}


async def counted(conn) -> int:
    return await conn.fetchval(
        "select (select count(*) from tasker.tasks) + (select count(*) from tasker.steps) "
        "+ (select count(*) from tasker.ready)"
    )


def order(**fields) -> NewTask:
    return NewTask(name="flow", namespace="shop", **fields)


async def test_a_task_begins_with_all_its_steps(conn, worker):
    """Those without parents are ready at once, the rest wait."""
    task = await begin_one(conn, template(DIAMOND))

    assert await state(conn, task) is TaskState.STEPS_IN_PROCESS
    assert await states(conn, task) == {
        "a": StepState.ENQUEUED,
        "b": StepState.PENDING,
        "c": StepState.PENDING,
        "d": StepState.PENDING,
    }
    assert names(await worker.claim()) == ["a"]


async def test_what_was_asked_for_is_kept(conn, shelf):
    """Every field of the request can be read again."""
    await register_template(conn, template())
    correlation, parent = uuid4(), uuid4()
    created = await create_task(
        conn,
        shelf,
        order(
            context={"é": [1, {"deep": None}], "big": 2**53 + 1},
            initiator="ann",
            source_system="web",
            reason="because",
            tags=["x", "y"],
            priority=-7,
            correlation_id=correlation,
            parent_correlation_id=parent,
        ),
    )

    task = await get_task(conn, created.task_uuid)
    assert task.context == {"é": [1, {"deep": None}], "big": 2**53 + 1}
    assert (task.initiator, task.source_system, task.reason) == ("ann", "web", "because")
    assert (task.tags, task.priority) == (["x", "y"], -7)
    assert (task.correlation_id, task.parent_correlation_id) == (correlation, parent)


async def test_many_tasks_are_created_in_the_order_of_the_requests(conn, shelf):
    """Of several templates at once; the answers stand where the requests stood."""
    await register_template(conn, template(CHAIN))
    await register_template(conn, template(name="other"))
    new = [
        NewTask(name=("flow", "other")[n % 2], namespace="shop", context={"n": n})
        for n in range(50)
    ]

    created = await create_tasks(conn, shelf, new)

    for n, one in enumerate(created):
        task = await get_task(conn, one.task_uuid)
        assert (task.name, task.context) == (("flow", "other")[n % 2], {"n": n})
        assert task.total_steps == (3, 1)[n % 2]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (order(version="9.9.9"), UnknownTemplate),
        (order(priority=101), InvalidRequest),
        (order(reason=""), InvalidRequest),
        (order(tags=["nul\x00"]), InvalidRequest),
        (order(initiator="x" * 256), InvalidRequest),
        (order(context={"x": float("nan")}), InvalidContext),
        (order(context={"n": 3}), DuplicateTask),
    ],
)
async def test_one_bad_request_among_many_creates_nothing(conn, shelf, bad, error):
    """All tasks or none: a refused request leaves no rows (I19)."""
    await register_template(conn, template(**STRICT))
    await create_task(conn, shelf, order(context={"n": 3}))
    before = await counted(conn)

    with pytest.raises(error):
        await create_tasks(conn, shelf, [order(context={"m": 1}), bad, order(context={"m": 2})])

    assert await counted(conn) == before


async def test_a_refusal_does_not_end_the_transaction_of_the_caller(conn, shelf):
    """A task is created together with the caller's own rows, and so is its refusal survived."""
    await register_template(conn, template(**STRICT))
    await create_task(conn, shelf, order(context={"n": 1}))

    async with conn.transaction():
        with pytest.raises(DuplicateTask):
            await create_task(conn, shelf, order(context={"n": 1}))
        second = await create_task(conn, shelf, order(context={"n": 2}))

    assert await state(conn, second.task_uuid) is TaskState.STEPS_IN_PROCESS


async def test_a_task_that_is_rolled_back_never_was(conn, connect, shelf):
    """No step of it can be claimed, and its identity is free again."""
    await register_template(conn, template(**STRICT))
    other = await connect()
    transaction = other.transaction()
    await transaction.start()
    await create_task(other, shelf, order(context={"n": 1}))
    await transaction.rollback()

    await create_task(conn, shelf, order(context={"n": 1}))

    assert await conn.fetchval("select count(*) from tasker.tasks") == 1


async def test_an_uncommitted_task_is_invisible(conn, connect, shelf, worker):
    """It appears with all its steps, when its creator commits (I1)."""
    await register_template(conn, template(DIAMOND))
    other = await connect()
    transaction = other.transaction()
    await transaction.start()
    task = (await create_task(other, shelf, order())).task_uuid
    assert await worker.claim() == []

    await transaction.commit()

    assert names(await worker.claim()) == ["a"]
    assert len(await states(conn, task)) == 4


async def test_the_same_context_is_the_same_task(conn, shelf):
    """Under `strict`, whoever asks, with whatever priority, and in whatever order of keys."""
    await register_template(conn, template(**STRICT))
    await create_task(conn, shelf, order(context={"a": 1, "b": {"c": [1, 2], "d": None}}))

    with pytest.raises(DuplicateTask) as caught:
        await create_task(
            conn,
            shelf,
            order(
                context={"b": {"d": None, "c": [1, 2]}, "a": 1},
                priority=9,
                initiator="somebody else",
                tags=["t"],
            ),
        )

    assert caught.value.positions == (0,)


@pytest.mark.parametrize(
    "context",
    [{"a": [2, 1]}, {"a": ["1", 2]}, {"a": [1, 2], "b": None}, {"a": [1.0, 2]}, {"a": [True, 2]}],
)
async def test_order_in_arrays_and_types_of_scalars_make_another_task(conn, shelf, context):
    """Only the order of keys does not count."""
    await register_template(conn, template(**STRICT))
    await create_task(conn, shelf, order(context={"a": [1, 2]}))

    await create_task(conn, shelf, order(context=context))


async def test_each_version_and_template_has_identities_of_its_own(conn, shelf):
    """Namespace, name and version are part of what makes a task the same."""
    for flow in (
        template(**STRICT),
        template(version="1.0.1", **STRICT),
        template(name="other", **STRICT),
        template(namespace="bank", **STRICT),
    ):
        await register_template(conn, flow)
        new = NewTask(name=flow.name, namespace=flow.namespace, version=flow.version)
        await create_task(conn, shelf, new)

    assert await conn.fetchval("select count(*) from tasker.tasks") == 4


async def test_a_key_of_the_caller_overrules_every_strategy(conn, shelf):
    """The same key is the same task whatever the context; another key is another task."""
    for strategy in ("strict", "caller_provided", "always_unique"):
        flow = template(name=strategy, identity_strategy=strategy)
        await register_template(conn, flow)
        for key in ("one", "two"):
            new = NewTask(name=strategy, namespace="shop", context={"n": 1}, idempotency_key=key)
            await create_task(conn, shelf, new)
            with pytest.raises(DuplicateTask):
                await create_task(
                    conn,
                    shelf,
                    NewTask(name=strategy, namespace="shop", context={"n": 2}, idempotency_key=key),
                )


async def test_caller_provided_wants_a_key(conn, shelf):
    """Nothing is created without."""
    await register_template(conn, template(identity_strategy="caller_provided"))

    with pytest.raises(MissingIdempotencyKey):
        await create_task(conn, shelf, order())

    assert await counted(conn) == 0


async def test_always_unique_tasks_may_be_as_many_as_one_likes(conn, shelf):
    """Also in one call."""
    await register_template(conn, template())

    await create_tasks(conn, shelf, [order(context={"n": 1})] * 3)

    assert await conn.fetchval("select count(*) from tasker.tasks") == 3


async def test_twins_in_one_call_are_refused(conn, shelf):
    """The error says which requests repeat an earlier one."""
    await register_template(conn, template(**STRICT))
    new = [order(context={"n": n}) for n in (1, 2, 1, 3, 2)]

    with pytest.raises(DuplicateTask) as caught:
        await create_tasks(conn, shelf, new)

    assert caught.value.positions == (2, 4)
    assert await counted(conn) == 0


async def test_an_identity_is_taken_for_ever(conn, shelf, worker):
    """Also when the first task has ended."""
    await register_template(conn, template(**STRICT))
    await create_task(conn, shelf, order(context={"n": 1}))
    await worker.succeed(*await worker.claim())

    with pytest.raises(DuplicateTask):
        await create_task(conn, shelf, order(context={"n": 1}))


async def test_of_fifty_simultaneous_requests_one_creates(clean_database, conn):
    """The other 49 are told that the task exists (I2)."""
    await register_template(conn, template(DIAMOND, **STRICT))
    async with asyncpg.create_pool(clean_database, min_size=10, max_size=10) as pool:

        async def attempt() -> object:
            async with pool.acquire() as one:
                return await create_task(one, TemplateShelf(), order(context={"n": 1}))

        outcomes = await asyncio.gather(*(attempt() for _ in range(50)), return_exceptions=True)

    assert sum(isinstance(outcome, DuplicateTask) for outcome in outcomes) == 49
    assert await conn.fetchval("select count(*) from tasker.tasks") == 1
    assert await conn.fetchval("select count(*) from tasker.steps") == 4


async def test_creation_tells_each_namespace_once(conn, shelf, heard):
    """However many tasks it creates; and nobody when it is refused."""
    await register_template(conn, template(DIAMOND, **STRICT))
    await register_template(conn, template(namespace="bank"))
    shop = [order(context={"n": n}) for n in range(5)]
    bank = [NewTask(name="flow", namespace="bank")] * 5

    await create_tasks(conn, shelf, [*shop, *bank])
    assert sorted(await heard()) == ["bank", "shop"]

    with pytest.raises(DuplicateTask):
        await create_tasks(conn, shelf, shop)
    assert await heard() == []


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
contexts = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=4),
    json_values,
    max_size=5,
)


def shuffled(value, random):
    if isinstance(value, dict):
        items = [(key, shuffled(item, random)) for key, item in value.items()]
        random.shuffle(items)
        return dict(items)
    if isinstance(value, list):
        return [shuffled(item, random) for item in value]
    return value


@given(contexts, st.randoms(use_true_random=False))
def test_the_order_of_keys_never_matters(context, random):
    """At any depth."""
    flow = template(**STRICT)

    assert identity_hash(flow, order(context=context)) == identity_hash(
        flow, order(context=shuffled(context, random))
    )


# --- in plain SQL -----------------------------------------------------------------------


async def in_sql(conn, **params) -> UUID:
    args = "".join(f", {name} => ${n}" for n, name in enumerate(params, 1))
    return await conn.fetchval(
        f"""select tasker.create_task('shop', 'flow', '{{"n": 1}}'{args})""", *params.values()
    )


async def test_sql_creates_a_task_like_any_other(conn, worker):
    """Of the newest version, with all that was asked for; a worker takes its step."""
    await register_template(conn, template(version="1.9.0"))
    await register_template(conn, template(DIAMOND, version="1.10.0"))
    correlation = uuid4()

    made = await in_sql(conn, tags=["x"], priority=7, reason="because", correlation_id=correlation)

    task = await get_task(conn, made)
    assert (task.version, task.total_steps, task.context) == ("1.10.0", 4, {"n": 1})
    assert (task.tags, task.priority, task.reason) == (["x"], 7, "because")
    assert (task.correlation_id, task.source_system) == (correlation, "sql")
    assert task.initiator == await conn.fetchval("select session_user")
    assert names(await worker.claim()) == ["a"]


async def test_ids_made_in_sql_are_those_of_tasks(conn, clock):
    """UUIDv7 of the moment, each another one, with room for the numbers of steps."""
    await register_template(conn, template())

    made = [await in_sql(conn) for _ in range(50)]

    assert len(set(made)) == 50
    for one in made:
        assert (one.version, one.variant, one.int & MAX_STEPS) == (7, RFC_4122, 0)
        assert one.int >> 80 == START.timestamp() * 1000
        assert (await get_task(conn, one)).correlation_id.version == 7


@pytest.mark.parametrize("key", ["order 1", 'quote" \\ back', "é 漢 \U0001f600", "a\tb\n\x7f"])
async def test_a_key_means_the_same_in_sql(conn, shelf, key):
    """Who comes second hears it, whichever of the two came in SQL; nothing else is undone."""
    await register_template(conn, template(**STRICT))
    async with conn.transaction():
        made = await in_sql(conn, idempotency_key=key)
        with pytest.raises(DuplicateTask):
            await create_task(conn, shelf, order(idempotency_key=key))
        await create_task(conn, shelf, order(idempotency_key=key + "2"))

    with pytest.raises(
        asyncpg.UniqueViolationError, match=r"a task of shop/flow 1\.0\.0"
    ) as caught:
        await in_sql(conn, idempotency_key=key + "2")

    assert caught.value.constraint_name == "tasks_identity"
    assert await state(conn, made) is TaskState.STEPS_IN_PROCESS


@pytest.mark.parametrize("strategy", ["strict", "caller_provided"])
async def test_sql_wants_a_key_unless_tasks_are_always_unique(conn, strategy):
    """What makes two contexts the same is known to Python alone."""
    await register_template(conn, template(identity_strategy=strategy))

    with pytest.raises(asyncpg.InvalidParameterValueError, match=f"{strategy}: give an idempot"):
        await in_sql(conn)


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ("'shop', 'flaw', '{}'", asyncpg.NoDataFoundError, "no template shop/flaw\n"),
        ("'shop', 'flow', '{}', '2.0.0'", asyncpg.NoDataFoundError, "shop/flow 2.0.0\n"),
        ("'shop', 'flow', '[]'", None, "context must be a JSON object"),
        ("'shop', 'flow', null", None, "context must be a JSON object"),
        ("'shop', 'flow', '{\"n\": 1e999}'", None, "has a number beyond"),
        ("'shop', 'flow', '{\"n\": [[-2e308]]}'", None, "has a number beyond"),
        (
            f"'shop', 'flow', '{{\"n\": {'[' * 100}1{']' * 100}}}'",
            None,
            "nested more than 100 deep",
        ),
        ("'shop', 'flow', jsonb_build_object('n', repeat('x', 4194304))", None, "than 4 MiB"),
        ("'shop', 'flow', '{}', priority => 101", None, "priority is 101, but"),
        ("'shop', 'flow', '{}', priority => null", None, "priority is null, but"),
        ("'shop', 'flow', '{}', reason => ''", None, "reason is '', but must be text of 1 to 500"),
        ("'shop', 'flow', '{}', initiator => null", None, "initiator is NULL, but"),
        ("'shop', 'flow', '{}', tags => '{a,NULL}'", None, "a tag is NULL, but"),
        ("'shop', 'flow', '{}', idempotency_key => repeat('x', 256)", None, "1 to 255"),
    ],
)
async def test_what_sql_refuses(conn, args, error, message):
    """With the place and the value, before anything is written."""
    await register_template(conn, template())

    with pytest.raises(error or asyncpg.InvalidParameterValueError, match=message):
        await conn.fetchval(f"select tasker.create_task({args})")

    assert await counted(conn) == 0


async def test_the_deepest_context_that_python_stores_is_stored_by_sql(conn, shelf):
    """The bounds are the same."""
    await register_template(conn, template())
    context = {"n": json.loads("[" * 99 + "1" + "]" * 99)}
    await create_task(conn, shelf, order(context=context))

    made = await conn.fetchval("select tasker.create_task('shop', 'flow', $1)", json.dumps(context))

    assert (await get_task(conn, made)).context == context


async def test_a_trigger_creates_tasks(conn, worker):
    """One for each row, in the transaction that writes the row."""
    await register_template(conn, template())
    await conn.execute(
        """
        create temp table orders (number text primary key, cents int);
        create function pg_temp.begin_task() returns trigger language plpgsql as $$
        begin
            perform tasker.create_task(
                'shop', 'flow', to_jsonb(new), idempotency_key => 'order ' || new.number
            );
            return new;
        end; $$;
        create trigger begin_task after insert on orders
        for each row execute function pg_temp.begin_task();
        insert into orders values ('A-1', 5), ('A-2', 6);
        """
    )

    claims = await worker.claim()

    contexts = [(await get_task(conn, claim.task_uuid)).context for claim in claims]
    contexts.sort(key=lambda context: context["number"])
    assert contexts == [{"number": "A-1", "cents": 5}, {"number": "A-2", "cents": 6}]
