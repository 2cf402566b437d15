"""The pages, and in which order a path is looked up among them."""

from __future__ import annotations

from tasker_core.server.dashboard import (
    act,
    at_work,
    files,
    letters,
    login,
    overview,
    registered,
    steps,
    task,
    tasks,
)

# what an application includes, which asks itself who calls
PAGES = [
    one.router for one in (overview, tasks, task, steps, act, letters, registered, at_work, files)
]
# what the server has: it also lets people log in
SERVER_PAGES = [*PAGES, login.router]
