"""A context shows one attempt, and parses nothing before it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.errors import AttemptCancelled
from tasker_core.handlers.context import StepContext

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["result", "a", "b"]), inner, max_size=3)
    ),
    max_leaves=8,
)


class Texts(Mapping[str, Any]):
    """Results as a worker may hold them: text, parsed at each access, and counted."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.texts = texts
        self.parsed = 0

    def __getitem__(self, name: str) -> Any:
        text = self.texts[name]
        self.parsed += 1
        return orjson.loads(text)

    def __iter__(self) -> Iterator[str]:
        return iter(self.texts)

    def __len__(self) -> int:
        return len(self.texts)


def of_attempt(**given_: Any) -> StepContext:
    facts: dict[str, Any] = {
        "task_uuid": uuid4(),
        "step_uuid": uuid4(),
        "correlation_id": uuid4(),
        "handler_name": "charge",
        "step_name": "charge_card",
        "task_name": "order",
        "task_version": "1.0.0",
        "namespace": "shop",
        "attempt": 1,
        "max_attempts": 3,
        "results": {},
    }
    return StepContext.of_attempt(**{**facts, **given_})


# --- making one ---------------------------------------------------------------------


def test_everything_is_optional():
    """A context made of nothing has ids, empty inputs and the usual three attempts."""
    context = StepContext()

    assert isinstance(context.task_uuid, UUID)
    assert context.task_uuid != context.step_uuid
    assert (context.input_data, context.step_config, context.step_inputs) == ({}, {}, {})
    assert (context.dependency_results, context.handler_name) == ({}, "")
    assert (context.retry_count, context.max_retries, context.checkpoint) == (0, 3, None)


def test_ids_may_be_text():
    """A UUID as text becomes a UUID; other text is refused by name."""
    assert StepContext(task_uuid="0189d7a0-0000-7000-8000-000000000001").task_uuid == UUID(
        "0189d7a0-0000-7000-8000-000000000001"
    )
    with pytest.raises(ValueError, match=r"step_uuid is 'abc', which is not a UUID"):
        StepContext(step_uuid="abc")


def test_missing_counters_take_their_defaults():
    """None counts as not given, and a limit of 0 as none."""
    context = StepContext(retry_count=None, max_retries=0)

    assert (context.retry_count, context.max_retries) == (0, 3)


def test_fields_can_be_assigned():
    """A test may change a context that it was given, lazy fields too."""
    context = of_attempt(input_text='{"a": 1}', results={"cart": {"total": 1}})
    context.input_data = {"a": 2}
    context.dependency_results = {"cart": {"result": {"total": 2}}}

    assert context.get_input("a") == 2
    assert context.get_dependency_result("cart") == {"total": 2}


def test_a_context_says_where_it_stands():
    """Its repr names task, step and attempt."""
    assert "shop/order step 'charge_card', attempt 1 of 3" in repr(of_attempt())


# --- inputs -------------------------------------------------------------------------


def test_missing_inputs_are_none():
    """A field that is not there is None; `get_input_or` fills only what is missing or null."""
    context = StepContext.for_testing(input_data={"zero": 0, "null": None})

    assert context.get_input("absent") is None
    assert context.get_input_or("absent", 5) == 5
    assert context.get_input_or("null", 5) == 5
    assert context.get_input_or("zero", 5) == 0
    assert context.get_task_field("zero") == 0


def test_configuration_is_read_by_key():
    """`get_config` reads the template's initialization."""
    context = StepContext.for_testing(step_config={"url": "x"})

    assert (context.get_config("url"), context.get_config("other")) == ("x", None)


def test_nothing_is_parsed_before_it_is_asked_for():
    """Text that is not even JSON does no harm until somebody looks."""
    context = of_attempt(input_text="{", config_text="{", inputs_text="{", checkpoint_text="{")

    assert context.attempt == 1
    with pytest.raises(orjson.JSONDecodeError):
        context.get_input("a")


def test_each_text_feeds_its_field():
    """Inputs, configuration, step inputs and checkpoint come from their own text."""
    context = of_attempt(
        input_text='{"a": 1}',
        config_text=b'{"b": 2}',
        inputs_text='{"c": 3}',
        checkpoint_text='{"cursor": 4}',
    )

    assert context.input_data == {"a": 1}
    assert context.step_config == {"b": 2}
    assert context.step_inputs == {"c": 3}
    assert context.checkpoint == {"cursor": 4}


@pytest.mark.parametrize("text", [None, "null", "[]", "3"])
def test_text_that_is_no_object_is_empty(text: str | None):
    """What should be an object and is not counts as empty."""
    context = of_attempt(input_text=text, checkpoint_text=text)

    assert context.input_data == {}
    assert context.checkpoint is None


def test_what_a_handler_changes_stays_in_its_attempt():
    """A parsed input is the same object all through an attempt, and never in another."""
    text, results = '{"items": [1]}', Texts({"cart": '{"items": [1]}'})
    first, second = (of_attempt(input_text=text, results=results) for _ in range(2))

    first.get_input("items").append(2)
    first.get_dependency_result("cart")["items"].append(2)

    assert first.get_input("items") == [1, 2]
    assert second.get_input("items") == [1]
    assert second.get_dependency_result("cart") == {"items": [1]}


# --- results of the steps before ----------------------------------------------------


@given(json_values)
def test_results_come_back_as_they_were_returned(value: Any):
    """At run time and in tests alike, also if the handler's own dict has a key `result`."""
    for context in (
        of_attempt(results={"before": value}),
        StepContext.for_testing(dependency_results={"before": value}),
    ):
        assert context.get_dependency_result("before") == value
        assert context.dependency_results["before"] == {"result": value}


def test_hand_made_envelopes_are_opened_once():
    """`{"result": …}` gives what is in it, anything else is given as it is."""
    context = StepContext(
        dependency_results={
            "wrapped": {"result": {"result": 1}},
            "plain": {"total": 2},
            "scalar": 3,
            "null": None,
        }
    )

    assert context.get_dependency_result("wrapped") == {"result": 1}
    assert context.get_dependency_result("plain") == {"total": 2}
    assert context.get_dependency_result("scalar") == 3
    assert context.get_dependency_result("null") is None
    assert context.get_dependency_result("absent") is None


def test_a_path_leads_into_a_result():
    """A path ends at a value, or at None where a part of it is missing."""
    context = StepContext.for_testing(dependency_results={"a": {"b": {"c": 1}, "list": [1]}})

    assert context.get_dependency_field("a", "b", "c") == 1
    assert context.get_dependency_field("a") == {"b": {"c": 1}, "list": [1]}
    assert context.get_dependency_field("a", "list", "0") is None
    assert context.get_dependency_field("a", "x", "y") is None
    assert context.get_dependency_field("absent", "b") is None


def test_results_are_gathered_by_prefix():
    """Values come in order, without names, and without those that are None."""
    context = StepContext.for_testing(
        dependency_results={"batch_2": {"n": 2}, "batch_1": {"n": 1}, "batch_3": None, "other": 4}
    )

    assert context.get_all_dependency_results("batch_") == [{"n": 2}, {"n": 1}]
    assert context.get_dependency_result_keys() == ["batch_2", "batch_1", "batch_3", "other"]


def test_results_are_fetched_one_by_one():
    """Naming the results fetches none, reading one fetches one."""
    results = Texts({"a": "1", "b": "2"})
    context = of_attempt(results=results)

    assert context.get_dependency_result_keys() == ["a", "b"]
    assert results.parsed == 0
    assert context.get_dependency_result("b") == 2
    assert results.parsed == 1


# --- attempts and checkpoints -------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "limit", "is_retry", "is_last"),
    [(1, 3, False, False), (2, 3, True, False), (3, 3, True, True), (1, 1, False, True)],
)
def test_attempts_count_from_one(attempt: int, limit: int, is_retry: bool, is_last: bool):
    """The first attempt is no retry, and is the last one if there is only one."""
    for context in (
        of_attempt(attempt=attempt, max_attempts=limit),
        StepContext.for_testing(attempts=attempt - 1, max_attempts=limit),
    ):
        assert context.attempt == attempt
        assert context.retry_count == attempt - 1
        assert context.is_retry() is is_retry
        assert context.is_last_retry() is is_last


def test_a_checkpoint_may_be_at_zero():
    """Cursor 0 is a checkpoint; without one there is nothing processed."""
    none = StepContext.for_testing()
    zero = StepContext.for_testing(
        checkpoint={"cursor": 0, "items_processed": None, "accumulated_results": {"sum": 1}}
    )

    assert (none.has_checkpoint(), none.checkpoint_cursor, none.accumulated_results) == (
        False,
        None,
        None,
    )
    assert none.checkpoint_items_processed == 0
    assert (zero.has_checkpoint(), zero.checkpoint_cursor) == (True, 0)
    assert zero.checkpoint_items_processed == 0
    assert zero.accumulated_results == {"sum": 1}


def test_an_attempt_that_counts_is_not_cancelled():
    """A handler may ask at any time; in a test it is told what the test says."""
    context = StepContext.for_testing(step_name="pay")
    late = StepContext.for_testing(step_name="pay", is_cancelled=True)

    context.raise_if_cancelled()
    assert (context.is_cancelled, late.is_cancelled) == (False, True)
    with pytest.raises(AttemptCancelled, match="step 'pay' was cancelled"):
        late.raise_if_cancelled()
