"""`tasker-ctl task watch`: lines, JSON, and the live view of a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios

import pytest

from cli.running import TASKER_CTL

TRANSITION_FIELDS = {
    "task_uuid", "step_uuid", "step_name", "from_state", "to_state", "moved_at", "attempt",
    "action", "actor", "reason", "error",
}  # fmt: skip


@pytest.fixture
def gated(task, tmp_path):
    """A task that tries again until its gate is there; gives its id and the gate."""
    gate = tmp_path / "gate"
    words = ("--set", "name=Ada", "--set", "mood=closed", "--set", f"gate={gate}", "-q")
    return task("create", "demo/hello", *words).stdout.strip(), gate


def test_one_line_a_transition(task, gated):
    """None is missed, each has its time, and a failure its reason."""
    uuid, gate = gated
    gate.touch()
    watched = task("watch", uuid, "--interval", 0.1)
    assert watched.exit_code == 0
    assert watched.stderr == ""
    lines = watched.stdout.splitlines()
    assert all(
        re.match(r"\d\d:\d\d:\d\d\.\d{3} UTC  (task|greet|judge)  \w+ → \w+", ln) for ln in lines
    )
    moves = [line[18:] for line in lines]
    assert "greet  in_progress → complete  attempt 1" in moves
    assert moves[-1].startswith("task  ")
    assert moves[-1].endswith(" → complete")
    assert len(moves) == len(set(moves))


def test_json_has_one_object_a_transition(task, gated):
    """The fields are those of the API, and the error of the attempt that failed."""
    uuid, gate = gated
    waited = task("watch", uuid, "--timeout", 0.6, "--interval", 0.1, "--json")
    assert waited.exit_code == 6
    *_, failure = waited.stdout.splitlines()
    assert json.loads(failure)["error"]["code"] == "wait_timeout"
    gate.touch()
    watched = task("watch", uuid, "--json")
    assert watched.exit_code == 0
    moves = [json.loads(line) for line in watched.stdout.splitlines()]
    assert all(set(move) == TRANSITION_FIELDS for move in moves)
    failed = [
        move for move in moves if move["to_state"] == "waiting_for_retry" and move["step_uuid"]
    ]
    assert failed
    assert {move["error"] for move in failed} == {"retryable_error: the gate is closed"}
    assert moves[-1]["to_state"] == "complete"
    assert moves[-1]["step_name"] is None


def test_until_stops_at_a_status(task, gated):
    """It need not be an end."""
    uuid, _ = gated
    assert task("watch", uuid, "--until", "waiting_for_retry", "--timeout", 10).exit_code == 0
    assert task("watch", uuid, "--until", "complet").exit_code == 2
    assert task("cancel", uuid, "-y").exit_code == 0


def on_terminal(*args: object, keys: bytes = b"") -> tuple[int, str]:
    """Run `tasker-ctl` on a terminal of 100 × 30, and give exit code and screen."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    for size in ("COLUMNS", "LINES"):  # of the terminal that the tests run on
        environment.pop(size, None)
    process = subprocess.Popen(
        [*TASKER_CTL, *map(str, args)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=environment,
    )
    os.close(terminal)
    os.write(screen, keys)
    written = b""
    while True:
        try:
            chunk = os.read(screen, 65536)
        except OSError:  # the last one has closed it
            break
        if not chunk:
            break
        written += chunk
    os.close(screen)
    return process.wait(timeout=30), written.decode()


def test_a_terminal_shows_the_task_as_it_moves(service, task, gated):
    """Progress, a line a step, the wait for the retry, the last error; in colour."""
    uuid, gate = gated
    waited, screen = on_terminal(
        "--url", service.url, "task", "watch", uuid, "--timeout", 1, "--interval", 0.1
    )
    assert waited == 6
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert "demo/hello 1.0.0" in text
    assert "1/2" in text
    assert "50.0 %" in text
    assert "↻ waiting_for_retry" in text
    assert re.search(r"again in \d\.\d s; retryable_error: the gate is closed", text)
    assert "\x1b[" in screen
    gate.touch()
    ended, screen = on_terminal("--url", service.url, "task", "watch", uuid)
    assert ended == 0
    assert "✓ complete" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)


def test_a_terminal_shows_lines_if_that_is_wanted(service, gated):
    """With --no-tui; without colours with NO_COLOR or --no-color."""
    uuid, gate = gated
    gate.touch()
    words = ("--no-color", "--url", service.url, "task", "watch", uuid, "--no-tui")
    ended, screen = on_terminal(*words)
    assert ended == 0
    assert "greet  in_progress → complete" in screen
    assert not re.search(r"\x1b\[3[0-9]", screen)


@pytest.mark.parametrize(("keys", "exit_code"), [(b"n\n", 1), (b"y\n", 0)])
def test_a_terminal_is_asked_before_a_task_is_cancelled(service, task, gated, keys, exit_code):
    """No leaves it as it is."""
    uuid, gate = gated
    ended, screen = on_terminal("--url", service.url, "task", "cancel", uuid, keys=keys)
    assert ended == exit_code
    assert "cancel demo/hello 1.0.0" in screen
    assert ("nothing was done" in screen) == bool(exit_code)
    status = json.loads(task("get", uuid, "--json").stdout)["status"]
    assert (status == "cancelled") == (exit_code == 0)
    gate.touch()


@pytest.mark.parametrize(("keys", "exit_code"), [(b"n\n", 1), (b"y\n", 0)])
def test_a_terminal_is_asked_before_many_tasks_are_cancelled(
    service, task, tmp_path, keys, exit_code
):
    """With a list of what was found; what was agreed to is what is done."""
    name = f"many-{exit_code}"
    words = ("create", "demo/hello", "--set", "name=Ada", "--set", "mood=closed", "--json")
    for _ in range(2):
        task(*words, "--set", f"gate={tmp_path / name}")
    search = ("task", "cancel", "--where", "template=demo/hello")
    ended, screen = on_terminal("--url", service.url, *search, keys=keys)
    assert ended == exit_code, screen
    assert re.search(r"cancel \d tasks", screen)
    assert "demo/hello 1.0.0" in screen
    assert ("nothing was done" in screen) == bool(exit_code)
