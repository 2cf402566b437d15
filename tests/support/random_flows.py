"""Random templates for the model: plain graphs, decisions and batches, with policies and limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

from hypothesis import strategies as st

from support.gates import Says, random_says, random_template
from tasker_core.payload import encode
from tasker_core.templates.load import parse_template
from tasker_core.templates.model import TaskTemplate

SHOP, DEPOT = "shop", "depot"  # the namespaces
CALLABLES = "xyz"

retries = st.fixed_dictionaries(
    {
        "max_attempts": st.integers(0, 3),
        "backoff": st.sampled_from(["none", "linear", "exponential", "fibonacci"]),
        "backoff_base_ms": st.sampled_from([0, 100, 5000, 80_000]),
        "max_backoff_ms": st.sampled_from([20_000, 100_000]),
    }
)
batches = st.fixed_dictionaries(
    {
        "parallelism": st.integers(1, 3),
        "failure_strategy": st.sampled_from(["continue_on_failure", "fail_fast", "isolate"]),
    }
)
limits = st.fixed_dictionaries(
    {
        "lifecycle": st.fixed_dictionaries(
            {},
            optional={
                "max_duration_minutes": st.just(10),
                "max_waiting_for_retry_minutes": st.just(1),
                "staleness_action": st.sampled_from(["dlq", "error", "none"]),
                "auto_fail_on_timeout": st.booleans(),
            },
        ),
        "give_up_after": st.sampled_from([90, 500]),
    }
)


@dataclass
class Flow:
    """A template without a name, and what its gates will say."""

    definition: dict[str, Any]
    says: Says

    def named(self, name: str) -> TaskTemplate:
        report = parse_template(encode({**self.definition, "name": name}))
        assert report.template is not None, report.findings
        return report.template


@st.composite
def plain_steps(draw: st.DrawFn) -> tuple[list[dict[str, Any]], Says]:
    """A graph of up to eight steps."""
    names = [f"s{n}" for n in range(1, draw(st.integers(1, 8)) + 1)]
    above = [
        draw(st.lists(st.sampled_from(names[:n]), unique=True, max_size=3)) if n else []
        for n in range(len(names))
    ]
    steps = [
        {"name": name, "dependencies": parents} for name, parents in zip(names, above, strict=True)
    ]
    return steps, Says({}, {})


@st.composite
def gated_steps(draw: st.DrawFn) -> tuple[list[dict[str, Any]], Says]:
    """Decisions, batches and convergences."""
    random = Random(draw(st.integers(0, 2**20)))
    drawn = random_template(random, draw(st.integers(2, 9)))
    says = random_says(random, drawn)
    sizes = {name: draw(st.integers(0, 4)) for name in says.batches}
    steps = [dict(step) for step in drawn.definition["steps"]]
    for step in steps:
        if step["type"] == "batchable":
            step["batch_config"] = draw(batches)
            if draw(st.booleans()):  # then no batches are one, with nothing to do
                step["batch_config"] = {
                    **step["batch_config"],
                    "worker_template": f"{step['name']}_work",
                }
    return steps, replace(says, batches=sizes)


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    """A template of either namespace, with handlers and a policy for each step."""
    steps, says = draw(st.one_of(plain_steps(), gated_steps()))
    for step in steps:
        step |= {"handler": {"callable": draw(st.sampled_from(CALLABLES))}, "retry": draw(retries)}
    definition = {
        "namespace_name": draw(st.sampled_from([SHOP, SHOP, DEPOT])),
        "version": "1.0.0",
        "identity_strategy": "always_unique",
        "on_failure": draw(st.sampled_from(["halt", "halt", "continue"])),
        "steps": steps,
        **draw(st.one_of(st.just({}), limits, limits)),
    }
    return Flow(definition, says)
