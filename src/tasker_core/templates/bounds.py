"""How much decisions and batches may add to a task, and how deep decisions may be nested.

A template is finite, and so is what it leads to. The limits are there for the template
that was written by a program, and for the analyzer that cuts too small.

Source:
    docs/concepts/expand.md, "Limits".
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

MAX_STEPS = (1 << 20) - 1  # of a task: a step's number is the last 20 bits of its id

MAX_STEPS_PER_DECISION = 100
MANY_STEPS_PER_DECISION = 50  # a worker warns from here on
MAX_DECISION_DEPTH = 20
DEEP_DECISION = 10  # the deepest that nobody warns of
MAX_BATCHES = 100_000


def decision_depths(
    parents: Mapping[str, Iterable[str]], decisions: Container[str]
) -> dict[str, int]:
    """Count the decisions on the longest path to each step, the step itself included.

    Args:
        parents: The steps, parents before children, each with its parents.

    >>> decision_depths({"a": [], "b": ["a"], "c": ["b"], "d": ["a", "c"]}, {"b", "d"})
    {'a': 0, 'b': 1, 'c': 1, 'd': 2}
    """
    depths: dict[str, int] = {}
    for name, above in parents.items():
        depths[name] = max((depths[one] for one in above), default=0) + (name in decisions)
    return depths
