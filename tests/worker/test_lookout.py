"""A worker looks where it was told that something waits, and everywhere now and then."""

from __future__ import annotations

import pytest

from tasker_core.engine.claim import Lane
from tasker_core.worker import lookout as lookout_module
from tasker_core.worker.lookout import MOST_AT_ONCE, Lookout

POLL = 5.0


def lane(number: int, namespace: str) -> Lane:
    return Lane(number, namespace, f"do_{number}", "call", None)


@pytest.fixture
def moment(monkeypatch):
    """Own the clock: a list of one number, the seconds."""
    now = [100.0]
    monkeypatch.setattr(lookout_module.time, "monotonic", lambda: now[0])
    return now


def look(lookout: Lookout, *, found_all: bool = True) -> list[str]:
    """Look once, to the end or not; say where."""
    namespaces = lookout.begin()
    lookout.end(namespaces, found_all=found_all)
    return namespaces


@pytest.fixture
def lookout(moment):
    """Serves three namespaces; all have been looked at."""
    made = Lookout(POLL)
    made.serve([lane(1, "a"), lane(2, "b"), lane(3, "a"), lane(4, "c")])
    assert look(made) == ["a", "b", "c"]
    return made


def test_nothing_is_looked_at_twice_untold(lookout):
    """Until somebody tells, there is nowhere to look."""
    assert not lookout.has_any
    assert look(lookout) == []


def test_what_is_told_is_looked_at_once(lookout):
    """However often it is told."""
    assert [lookout.tell("b"), lookout.tell("b"), lookout.tell("elsewhere")] == [True, True, False]
    assert lookout.has_any
    assert look(lookout) == ["b"]
    assert look(lookout) == []


def test_the_lanes_of_a_namespace_stand_side_by_side(lookout):
    """As finish_steps wants them."""
    assert lookout.lanes_of(["b", "a"]) == [2, 1, 3]
    assert lookout.lanes_of(["elsewhere"]) == []


def test_another_namespace_goes_first_the_next_time(lookout):
    """As long as no look comes to an end."""
    lookout.look_everywhere()
    assert look(lookout, found_all=False) == ["a", "b", "c"]
    namespaces = lookout.begin()
    assert namespaces == ["b", "c", "a"]
    lookout.tell("b")
    lookout.end(namespaces, found_all=False)
    assert look(lookout) == ["c", "a", "b"]


def test_what_is_told_during_a_look_is_looked_at_again(lookout):
    """It may have come too late for that look."""
    lookout.tell("b")
    namespaces = lookout.begin()
    lookout.tell("b")
    lookout.end(namespaces, found_all=True)
    assert look(lookout) == ["b"]


def test_a_second_call_looks_where_the_first_one_is_looking(lookout):
    """There may be enough for both."""
    lookout.tell("b")
    first = lookout.begin()
    lookout.tell("c")
    second = lookout.begin()
    assert (first, second) == (["b"], ["c", "b"])
    lookout.end(first, found_all=True)
    assert look(lookout) == ["c", "b"]
    lookout.end(second, found_all=True)
    assert look(lookout) == []


@pytest.mark.parametrize("room", [1, 2, 8])
@pytest.mark.parametrize("count", [MOST_AT_ONCE + 1, 2 * MOST_AT_ONCE + 1])
def test_everyone_has_a_turn(moment, count, room):
    """Also with more namespaces than a call looks at, and room for few."""
    lookout = Lookout(POLL)
    lookout.serve([lane(number, f"space {number}") for number in range(count)])
    served = set()
    for _ in range(count):
        served.update(look(lookout, found_all=False)[:room])
    assert len(served) == count


def test_a_call_that_failed_has_looked_nowhere(lookout):
    """Nor has it seen to what is due."""
    lookout.tell("c")
    lookout.is_due = True
    namespaces = lookout.begin()
    lookout.tell("a")
    lookout.fail(namespaces)
    assert lookout.is_due
    assert look(lookout) == ["c", "a"]


def test_everywhere_when_the_time_has_come(lookout, moment):
    """What was told may be lost, and a busy worker has no idle moment to poll in."""
    moment[0] += POLL - 0.1
    assert look(lookout) == []
    moment[0] += 0.1
    assert look(lookout) == ["a", "b", "c"]
    assert look(lookout) == []


def test_a_delayed_step_that_is_due_is_of_no_namespace(lookout):
    """One call is to be made for it."""
    lookout.is_due = True
    assert lookout.has_any
    assert look(lookout) == []
    assert not lookout.has_any


def test_a_call_looks_at_so_many_namespaces(moment):
    """And the next call at the others."""
    lookout = Lookout(POLL)
    lookout.serve([lane(number, f"space {number}") for number in range(MOST_AT_ONCE + 2)])
    assert len(look(lookout)) == MOST_AT_ONCE
    assert look(lookout) == [f"space {MOST_AT_ONCE}", f"space {MOST_AT_ONCE + 1}"]


def test_other_lanes_are_looked_at_from_the_start(lookout):
    """What was told of namespaces that are no longer served is forgotten."""
    lookout.tell("c")
    lookout.serve([lane(9, "d"), lane(1, "a")])
    assert look(lookout) == ["d", "a"]
