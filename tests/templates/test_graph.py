"""The graph of a template: order, ancestors, rings, and versions in order."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasker_core.templates.graph import (
    ancestors,
    find_cycles,
    initial_steps,
    is_semver,
    topological_order,
    version_sort_key,
)
from tasker_core.templates.model import TaskTemplate

TYPES = ["standard", "decision", "batchable", "batch_worker", "deferred_convergence"]


def build(dependencies, types=None):
    """Make a template of steps that wait for each other so."""
    steps = [
        {
            "name": name,
            "handler": {"callable": "x"},
            "dependencies": list(parents),
            "type": (types or {}).get(name, "standard"),
        }
        for name, parents in dependencies.items()
    ]
    return TaskTemplate.from_definition(
        {"name": "t", "namespace_name": "ns", "version": "1.0.0", "steps": steps}
    )


@st.composite
def dags(draw):
    """Draw steps whose dependencies form no ring, in any order of the file."""
    names = [f"s{n}" for n in range(draw(st.integers(1, 9)))]
    graph = {
        name: draw(st.lists(st.sampled_from(names[:at]), unique=True)) if at else []
        for at, name in enumerate(names)
    }
    return {name: graph[name] for name in draw(st.permutations(names))}


@st.composite
def graphs(draw):
    """Draw steps with any dependencies, rings and all."""
    names = [f"s{n}" for n in range(draw(st.integers(1, 7)))]
    return {name: draw(st.lists(st.sampled_from(names), unique=True)) for name in names}


def closure(dependencies):
    """Give every step's ancestors, slowly and surely."""
    above = {name: set(parents) for name, parents in dependencies.items()}
    for _ in dependencies:
        above = {
            name: parents.union(*(above[parent] for parent in parents))
            for name, parents in above.items()
        }
    return above


@given(dags())
def test_parents_come_before_children(dependencies):
    """In the order, every step stands once, after all it depends on."""
    order = topological_order(dependencies)

    assert sorted(order) == sorted(dependencies)
    assert all(
        order.index(parent) < order.index(name)
        for name, parents in dependencies.items()
        for parent in parents
    )


def test_order_is_the_files_where_it_can_be():
    """A file whose steps are in a possible order keeps it."""
    assert topological_order({"c": [], "a": [], "b": ["c"]}) == ["c", "a", "b"]


@pytest.mark.parametrize("graph", [{"a": ["b"], "b": ["a"]}, {"a": ["x"]}])
def test_no_order_without_a_graph(graph):
    """A ring or a stranger has no order."""
    with pytest.raises(ValueError, match=r"ring|does not exist"):
        topological_order(graph)


@given(dags())
def test_ancestors_are_the_closure(dependencies):
    """Ancestors are all that is reached by following dependencies."""
    template = build(dependencies)

    assert {name: set(ancestors(template, name)) for name in dependencies} == closure(dependencies)


@given(graphs())
def test_rings_are_found_exactly_when_there_are_some(dependencies):
    """A ring is reported if and only if some step is its own ancestor."""
    rings = find_cycles(dependencies)

    above = closure(dependencies)
    assert bool(rings) == any(name in above[name] for name in above)


@given(graphs())
def test_every_ring_is_one(dependencies):
    """Each step of a ring depends on the next, and the last on the first."""
    for ring in find_cycles(dependencies):
        assert all(b in dependencies[a] for a, b in itertools.pairwise([*ring, ring[0]]))


def test_strangers_form_no_ring():
    """A dependency that is no step is passed over."""
    assert find_cycles({"a": ["x"], "b": ["a", "b"]}) == [("b",)]


def test_the_search_for_rings_ends():
    """Steps that all wait for each other give a hundred rings, not all of them."""
    names = [f"s{n}" for n in range(200)]

    assert len(find_cycles(dict.fromkeys(names, names))) == 100


@given(dags())
def test_plain_steps_all_exist_at_creation(dependencies):
    """Without dynamic steps every step is planned, with both directions of its edges."""
    plan = initial_steps(build(dependencies))

    names = {step.step_no: step.name for step in plan}
    assert [step.step_no for step in plan] == list(range(1, len(dependencies) + 1))
    assert {s.name: {names[n] for n in s.parents} for s in plan} == {
        name: set(parents) for name, parents in dependencies.items()
    }
    assert {(s.step_no, c) for s in plan for c in s.children} == {
        (parent, s.step_no) for s in plan for parent in s.parents
    }
    assert all(list(s.children) == sorted(s.children) for s in plan)


@given(dags())
def test_depth_is_the_longest_way(dependencies):
    """A root has depth 0, every other step one more than its deepest parent."""
    plan = initial_steps(build(dependencies))

    depth = {step.step_no: step.depth for step in plan}
    assert all(
        step.depth == max((depth[parent] + 1 for parent in step.parents), default=0)
        for step in plan
    )


@given(dags(), st.data())
def test_what_comes_after_a_gate_comes_later(dependencies, data):
    """A step is planned iff neither it nor an ancestor makes or awaits dynamic steps."""
    types = {name: data.draw(st.sampled_from(TYPES)) for name in dependencies}

    planned = {step.name for step in initial_steps(build(dependencies, types))}

    gates = {"decision", "batch_worker", "deferred_convergence"}
    above = closure(dependencies)
    assert planned == {
        name
        for name in dependencies
        if types[name] not in gates - {"decision"}
        and not any(types[parent] in gates for parent in above[name])
    }


def test_long_chains_need_no_stack():
    """Ten thousand steps in a row are planned, followed and searched for rings."""
    chain = {f"s{n}": [f"s{n - 1}"] if n else [] for n in range(10_000)}
    template = build(chain)

    assert initial_steps(template)[-1].depth == 9_999
    assert len(ancestors(template, "s9999")) == 9_999
    chain["s0"] = ["s9999"]
    assert len(find_cycles(chain)[0]) == 10_000


def test_dense_layers_stay_linear():
    """Wide layers, each step after the whole layer before, are followed once an edge."""
    width, layers = 60, 20
    graph = {
        f"s{layer}_{n}": [f"s{layer - 1}_{m}" for m in range(width)] if layer else []
        for layer in range(layers)
        for n in range(width)
    }
    template = build(graph)

    assert len(ancestors(template, f"s{layers - 1}_0")) == width * (layers - 1)
    assert initial_steps(template)[-1].depth == layers - 1
    assert find_cycles(graph) == []


# --- versions ----------------------------------------------------------------------------

WORDS = st.one_of(
    st.integers(0, 120).map(str),
    st.text(alphabet="aZ-09", min_size=1, max_size=3).filter(lambda w: not w.isdigit()),
)
VERSIONS = st.builds(
    lambda core, pre: ".".join(map(str, core)) + ("-" + ".".join(pre) if pre else ""),
    st.tuples(*[st.integers(0, 120)] * 3),
    st.lists(WORDS, max_size=3),
)


def precedence(version):
    """Write the rule of semver as a tuple that Python compares."""
    core, _, pre = version.partition("-")
    words = [(0, int(w), "") if w.isdigit() else (1, 0, w) for w in pre.split(".")] if pre else []
    return ([int(n) for n in core.split(".")], not pre, words)


@given(VERSIONS, VERSIONS)
def test_keys_sort_as_versions(one, other):
    """Bytes of keys compare as semver says of their versions."""
    keys = [version_sort_key(v).encode() for v in (one, other)]

    assert (keys[0] < keys[1]) == (precedence(one) < precedence(other))
    assert (keys[0] == keys[1]) == (precedence(one) == precedence(other))


def test_the_order_of_semver_org():
    """The example of the specification comes out in its order."""
    pre = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1"]
    order = [*(f"1.0.0-{each}" for each in pre), "1.0.0", "1.9.0", "1.10.0"]

    assert sorted(set(order), key=version_sort_key) == order


def test_build_metadata_has_no_part():
    """What follows + changes nothing."""
    assert version_sort_key("1.0.0+a.1") == version_sort_key("1.0.0")


@pytest.mark.parametrize(
    "version", ["1.0", "1", "١.0.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0\n"]
)
def test_what_is_no_version(version):
    """Only semver has a key; ١.0.0 and a trailing newline are not semver."""
    assert not is_semver(version)
    with pytest.raises(ValueError, match=re.escape("such as 1.0.0")):
        version_sort_key(version)
