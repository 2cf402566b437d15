"""Whose turn it is when a worker asks, told in plain Python: the model's idea of a claim."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple
from uuid import UUID


class Lane(NamedTuple):
    namespace: str
    callable: str


class Turn(NamedTuple):
    """One step that waits for a worker, or was handed to one; the lowest rank goes first."""

    lane: Lane
    rank: int
    task: UUID


def fair_turns(
    waiting: Iterable[Turn], lanes: Sequence[Lane], room: int, as_in: Sequence[Lane]
) -> list[Turn]:
    """Say what a claim must bring, in order.

    Each namespace with work gets an equal share of the room, in the order of `lanes`; what
    is left goes to all. Lanes whose first steps are equally good go as in `as_in`.
    """
    queues: dict[Lane, list[Turn]] = {}
    for turn in sorted(waiting):
        queues.setdefault(turn.lane, []).append(turn)
    taken: list[Turn] = []

    def take(among: Iterable[Lane], share: int, key: slice) -> None:
        open_lanes = [lane for lane in among if queues.get(lane)]
        ties = as_in[len(taken) :]
        order = sorted(
            open_lanes, key=lambda lane: (queues[lane][0][key], [*ties, lane].index(lane))
        )
        goal = len(taken) + share
        for lane in order:
            count = goal - len(taken)
            taken.extend(queues[lane][:count])
            del queues[lane][:count]

    spaces = list(dict.fromkeys(lane.namespace for lane in lanes if lane in queues))
    for at, space in enumerate(spaces):
        share = ceil((room - len(taken)) / (len(spaces) - at))
        take((lane for lane in lanes if lane.namespace == space), share, slice(1, 3))
    take(lanes, room - len(taken), slice(1, 2))
    return taken
