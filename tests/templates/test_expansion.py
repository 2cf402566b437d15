"""Which steps come into being, whatever the template, the choices and the order of ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.gates import Says, random_says, random_template
from tasker_core.errors import InvalidExpansion
from tasker_core.templates.expansion import (
    ExistingStep,
    Expansion,
    expand_batch,
    expand_decision,
    expand_nothing,
)
from tasker_core.templates.fate import in_order
from tasker_core.templates.graph import ancestors, initial_steps
from tasker_core.templates.model import BatchConfig, TaskTemplate

RANDOMS = st.randoms(use_true_random=False)


class Task:
    """A task without a database: steps end, and what they add is added."""

    def __init__(self, template: TaskTemplate, says: Says) -> None:
        self.template = template
        self.says = says
        self.name = {}  # by number, as are the next three
        self.source = {}
        self.parents = {}
        self.children = {}
        self.ended: list[int] = []
        for step in initial_steps(template):
            self._put(step.step_no, step.name, step.name, step.parents)
            self.children[step.step_no] = set(step.children)

    def existing(self) -> list[ExistingStep]:
        return [
            ExistingStep(
                number,
                self.name[number],
                self.source[number],
                number not in self.ended,
                self.says.chosen.get(self.source[number], ()) if number in self.ended else (),
            )
            for number in sorted(self.name)
        ]

    def exists(self, source: str) -> bool:
        return source in self.source.values()

    def numbers(self, source: str) -> list[int]:
        return [number for number, own in self.source.items() if own == source]

    def ready(self) -> list[int]:
        ended = set(self.ended)
        return [n for n in sorted(self.name) if n not in ended and self.parents[n] <= ended]

    def end(self, number: int) -> None:
        """End a step; a gate says what it was to say, and that is added."""
        source = self.source[number]
        kind = self.template.step(source).type
        if kind == "decision":
            chosen = self.says.chosen[source]
            plan = expand_decision(self.template, self.existing(), source, chosen)
        elif kind == "batchable" and self.says.batches[source]:
            instances = {batch_id: {} for batch_id in self.says.batch_ids(source)}
            worker = f"{source}_work"
            plan = expand_batch(
                self.template, self.existing(), source, worker, instances, BatchConfig()
            )
        elif kind == "batchable":
            plan = expand_nothing(self.template, self.existing(), source)
        else:
            plan = Expansion(len(self.name))
        self._add(plan)
        self.ended.append(number)

    def _add(self, plan: Expansion) -> None:
        assert plan.known_steps == len(self.name)
        for step in plan.steps:
            assert step.name not in self.name.values()
            assert self.template.step(step.template_step).type == "batch_worker" or not (
                self.exists(step.template_step)
            )
            assert step.parents, "a step that waits for nothing"
            self._put(step.step_no, step.name, step.template_step, step.parents)
            self.children[step.step_no] = set(step.children)
        for number, children in plan.new_children.items():
            assert min(children) > plan.known_steps
            self.children[number].update(children)
        for number, parents in self.parents.items():
            assert all(number in self.children[parent] for parent in parents)
        assert sum(map(len, self.children.values())) == sum(map(len, self.parents.values()))

    def _put(self, number: int, name: str, source: str, parents: tuple[int, ...]) -> None:
        assert number == len(self.name) + 1
        self.name[number], self.source[number] = name, source
        self.parents[number] = set(parents)

    def run(self, pick: Callable[[list[int]], int]) -> None:
        """End ready steps, each time the one that is picked, until nothing is ready."""
        while ready := self.ready():
            self.end(pick(ready))


def check_order(task: Task) -> None:
    """No step ran before a dependency of its template that exists in the end."""
    place = {number: at for at, number in enumerate(task.ended)}
    for number in task.ended:
        step = task.template.step(task.source[number])
        for dependency in step.dependencies:
            for above in task.numbers(dependency):
                assert above in place, f"{step.name} ran, and {dependency} has not"
                assert place[above] < place[number], f"{step.name} ran before {dependency}"


def check_choices(task: Task) -> None:
    """What a decision left out does not exist; what nothing leaves out does."""
    led_to = {decision: below(task, names) for decision, names in task.says.chosen.items()}
    for step in task.template.steps:
        kinds = {name: task.template.step(name).type for name in step.dependencies}
        decisions = [n for n, kind in kinds.items() if kind == "decision" and task.exists(n)]
        if step.type in ("batch_worker", "deferred_convergence"):
            continue
        for decision in decisions:
            if task.exists(step.name):
                follows = any(name in led_to[decision] for name in step.dependencies)
                assert step.name in task.says.chosen[decision] or follows, step.name
        if all(
            task.exists(name) and (kind != "decision" or step.name in task.says.chosen[name])
            for name, kind in kinds.items()
        ):
            assert task.exists(step.name), f"{step.name} was forgotten"
        above = ancestors(task.template, step.name)
        deciding = [name for name in above if task.template.step(name).type == "decision"]
        if len(deciding) == 1 and task.exists(deciding[0]):
            assert task.exists(step.name) or step.name not in task.says.chosen[deciding[0]]


def below(task: Task, names: tuple[str, ...]) -> set[str]:
    """Give the steps that exist among these, and those that come after them."""
    found: set[str] = set()
    for name in in_order(task.template):
        after = any(parent in found for parent in task.template.step(name).dependencies)
        if task.exists(name) and (name in names or after):
            found.add(name)
    return found


def shape(task: Task) -> dict[str, set[str]]:
    """Tell which steps there are, and for which of their dependencies each waits."""
    return {
        task.name[number]: {
            task.name[parent]
            for parent in parents
            if task.source[parent] in task.template.step(task.source[number]).dependencies
        }
        for number, parents in task.parents.items()
    }


@settings(max_examples=300)
@given(RANDOMS, st.integers(4, 16))
def test_any_order_of_ends_gives_the_same_steps(random, size):
    """Every run ends, in order, with the same steps, each once; nothing is left to add."""
    template = random_template(random, size)
    says = random_says(random, template)
    runs = [Task(template, says) for _ in range(3)]

    for task in runs:
        task.run(random.choice)
        assert sorted(task.ended) == sorted(task.name)
        check_order(task)
        check_choices(task)
        for gate in task.existing():
            if template.step(gate.template_step).type == "batchable":
                assert expand_nothing(template, task.existing(), gate.template_step).steps == []

    assert shape(runs[0]) == shape(runs[1]) == shape(runs[2])


# --- the cases that taught the rule ------------------------------------------------------


def build(**steps: tuple[str, list[str]]) -> TaskTemplate:
    """Make a template of steps: their type and their dependencies."""
    return TaskTemplate.from_definition(
        {
            "name": "t",
            "namespace_name": "ns",
            "version": "1.0.0",
            "steps": [
                {"name": name, "type": kind, "dependencies": parents, "handler": {"callable": "x"}}
                for name, (kind, parents) in steps.items()
            ],
        }
    )


def analysis(name: str, *parents: str) -> dict[str, tuple[str, list[str]]]:
    """Write an analyzer, its workers and their convergence."""
    return {
        name: ("batchable", list(parents)),
        f"{name}_work": ("batch_worker", [name]),
        f"{name}_total": ("deferred_convergence", [f"{name}_work"]),
    }


def run(template: TaskTemplate, order: str, chosen=None, batches=None) -> tuple[Task, list[str]]:
    """Run gates in this order, others as soon as they are ready; give the names as they ran."""
    wanted = order.split()
    choices = {step.name: () for step in template.steps if step.type == "decision"}
    counts = {step.name: 1 for step in template.steps if step.type == "batchable"}
    task = Task(template, Says({**choices, **(chosen or {})}, {**counts, **(batches or {})}))

    def pick(ready: list[int]) -> int:
        first = [n for n in ready if task.source[n] not in wanted]
        return first[0] if first else min(ready, key=lambda n: wanted.index(task.source[n]))

    task.run(pick)
    assert sorted(task.ended) == sorted(task.name)
    return task, [task.name[number] for number in task.ended]


TWO_BATCHES = build(
    **analysis("a1"),
    **analysis("a2"),
    r1=("standard", ["a1_total"]),
    r2=("standard", ["a2_total"]),
    final=("standard", ["r1", "r2"]),
)
ROUTE_AND_BATCH = build(
    start=("standard", []),
    route=("decision", ["start"]),
    other=("standard", ["route"]),
    **analysis("a"),
    p=("standard", ["route", "a_total"]),
)
NESTED = build(
    start=("standard", []),
    route=("decision", ["start"]),
    x=("standard", ["route"]),
    nested=("decision", ["route"]),
    y=("standard", ["nested"]),
    z=("standard", ["nested"]),
    p=("standard", ["x", "y"]),
)
BATCH_BELOW = build(
    start=("standard", []),
    route=("decision", ["start"]),
    x=("standard", ["route"]),
    **analysis("a", "route"),
    report=("standard", ["a_total"]),
    p=("standard", ["x", "report"]),
)


def test_a_join_of_two_batches_waits_for_both():
    """The first batch is through before the second is cut: the join is not there yet."""
    _, ran = run(TWO_BATCHES, "a1 a2")

    assert ran.index("r2") < ran.index("final")
    assert ran.index("a1_total") < ran.index("a2")


@pytest.mark.parametrize("order", ["a1 a2", "a2 a1"])
def test_a_join_waits_until_it_is_known_that_a_batch_is_empty(order):
    """The batch without work adds nothing: the join comes with the other alone, if any."""
    task, ran = run(TWO_BATCHES, order, batches={"a2": 0})

    assert shape(task)["final"] == {"r1"}
    assert ran.index("final") > ran.index("a2")
    assert not run(TWO_BATCHES, order, batches={"a1": 0, "a2": 0})[0].exists("final")


@pytest.mark.parametrize("order", ["a route", "route a"])
def test_a_decision_s_branch_that_joins_a_batch(order):
    """It exists only if it was chosen, and waits for both, whichever ends first."""
    assert not run(ROUTE_AND_BATCH, order, chosen={"route": ("other",)})[0].exists("p")

    task, ran = run(ROUTE_AND_BATCH, order, chosen={"route": ("p",)})

    assert shape(task)["p"] == {"route", "a_total"}
    assert ran.index("p") > ran.index("a_total")


@pytest.mark.parametrize(
    ("inner", "waits_for"),
    [(("y",), {"x", "y"}), (("y", "z"), {"x", "y"}), (("z",), None), (("z", "p"), {"x"})],
)
def test_a_join_waits_for_a_decision_below_a_decision(inner, waits_for):
    """What comes after two decisions exists if both led to it, and waits for what they chose."""
    task, ran = run(NESTED, "route nested", {"route": ("x", "nested"), "nested": inner})

    assert shape(task).get("p") == waits_for
    assert "p" not in ran or ran.index("p") > ran.index("nested")


@pytest.mark.parametrize(("batches", "waits_for"), [(1, {"x", "report"}), (0, {"x"})])
def test_a_join_waits_for_a_batch_below_the_same_decision(batches, waits_for):
    """Chosen together, a step and a batch are waited for together."""
    task, _ = run(BATCH_BELOW, "route a", {"route": ("x", "a")}, {"a": batches})

    assert shape(task)["p"] == waits_for


@pytest.mark.parametrize(("inner", "exists"), [(("y",), True), ((), False)])
def test_a_step_may_follow_a_choice_by_way_of_a_convergence(inner, exists):
    """Whether it does may be known long before the convergence comes, or only then."""
    template = build(
        start=("standard", []),
        route=("decision", ["start"]),
        inner=("decision", ["route"]),
        y=("standard", ["inner"]),
        **analysis("a"),
        meet=("deferred_convergence", ["a_total", "y"]),
        last=("standard", ["route", "meet"]),
    )

    for order in ("route a inner meet", "a route inner meet", "route inner a meet"):
        task, _ = run(template, order, {"route": ("inner",), "inner": inner})
        assert task.exists("last") == exists


@pytest.mark.parametrize("order", ["one two", "two one"])
@pytest.mark.parametrize("both", [True, False])
def test_a_choice_beyond_a_step_that_two_decisions_leave_out(order, both):
    """Far down, too, a step below two decisions exists only if both lead to it."""
    template = build(
        start=("standard", []),
        one=("decision", ["start"]),
        two=("decision", ["start"]),
        between=("standard", ["one", "two"]),
        far=("standard", ["between"]),
    )

    task, _ = run(template, order, {"one": ("far",), "two": ("far",) if both else ()})

    assert not task.exists("between")
    assert task.exists("far") == both


def test_a_long_chain_is_refused():
    """A decision leads to a hundred new steps at the most, all that follows included."""
    chain = {f"k{n}": ("standard", [f"k{n - 1}"]) for n in range(2000, 0, -1)}
    template = build(
        **chain, k0=("standard", ["route"]), route=("decision", ["s"]), s=("standard", [])
    )
    existing = [ExistingStep(1, "s", "s", False), ExistingStep(2, "route", "route", True)]

    with pytest.raises(InvalidExpansion, match="more than 100 new steps"):
        expand_decision(template, existing, "route", ["k0"])


def nested(depth: int) -> TaskTemplate:
    """Build decisions below each other."""
    steps = {f"d{n}": ("decision", [f"d{n - 1}" if n > 1 else "s"]) for n in range(1, depth + 1)}
    return build(s=("standard", []), **steps, end=("standard", [f"d{depth}"]))


def walked(depth: int) -> list[ExistingStep]:
    """Give the steps of such a task of which the last of so many decisions is about to end."""
    steps = [ExistingStep(1, "s", "s", False)]
    for n in range(1, depth + 1):
        name, is_open = f"d{n}", n == depth
        steps.append(ExistingStep(n + 1, name, name, is_open, () if is_open else (f"d{n + 1}",)))
    return steps


def test_decisions_are_nested_twenty_deep():
    """The twentieth may still decide; it may not lead to another decision."""
    template = nested(21)

    plan = expand_decision(template, walked(19), "d19", ["d20"])
    assert [step.name for step in plan.steps] == ["d20"]
    with pytest.raises(InvalidExpansion, match="'d21', number 21 in a row; at most 20"):
        expand_decision(template, walked(20), "d20", ["d21"])


@pytest.mark.parametrize(("depth", "warns"), [(9, False), (10, True)])
def test_deep_decisions_are_warned_of(depth, warns):
    """The eleventh in a row is worth a word."""
    plan = expand_decision(nested(21), walked(depth), f"d{depth}", [f"d{depth + 1}"])

    assert any("in a row" in warning for warning in plan.warnings) == warns


@pytest.mark.parametrize(("count", "warns"), [(49, False), (50, True)])
def test_many_steps_are_warned_of(count, warns):
    """From half of what a decision may add."""
    chosen = [f"k{n}" for n in range(count)]
    branches = {name: ("standard", ["route"]) for name in chosen}
    template = build(s=("standard", []), route=("decision", ["s"]), **branches)
    existing = [ExistingStep(1, "s", "s", False), ExistingStep(2, "route", "route", True)]

    plan = expand_decision(template, existing, "route", chosen)

    assert bool(plan.warnings) == warns


def test_a_batch_has_its_limits(monkeypatch):
    """Too many ranges, or more steps than can be numbered, are told as what they are."""
    template = build(cut=("batchable", []), cut_work=("batch_worker", ["cut"]))
    existing = [ExistingStep(1, "cut", "cut", True)]
    instances = {str(n): {} for n in range(6)}
    assert (
        len(expand_batch(template, existing, "cut", "cut_work", instances, BatchConfig()).steps)
        == 6
    )

    monkeypatch.setattr("tasker_core.templates.expansion.MAX_STEPS", 6)
    with pytest.raises(InvalidExpansion, match="more steps than a task can number"):
        expand_batch(template, existing, "cut", "cut_work", instances, BatchConfig())
    monkeypatch.setattr("tasker_core.templates.expansion.MAX_BATCHES", 5)
    with pytest.raises(InvalidExpansion, match="into 6 batches; at most 5"):
        expand_batch(template, existing, "cut", "cut_work", instances, BatchConfig())
