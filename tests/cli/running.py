"""Commands that run for long, and a small application for them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

TASKER_CTL = [sys.executable, "-m", "tasker_core.cli.main"]

HANDLERS = '''
"""Handlers that do what the context says."""

from itertools import count
from pathlib import Path

from tasker_core import PermanentError, RetryableError
from tasker_core.step_handler.functional import inputs, step_handler

WORD = "hello"


@step_handler("greet")
@inputs("name")
def greet(name, context):
    return {"text": f"{WORD} {name}"}


@step_handler("judge")
@inputs("mood", "gate")
def judge(mood, gate, context):
    if mood == "bad":
        raise PermanentError("the mood is \\x1b[31mbad")
    if mood == "closed" and not Path(gate).exists():
        raise RetryableError("the gate is closed")
    return {"mood": mood}
'''

TEMPLATE = """
name: hello
namespace_name: demo
version: 1.0.0
identity_strategy: always_unique
input_schema:
  type: object
  required: [name]
  properties: {name: {type: string}}
steps:
  - name: greet
    handler: {callable: greet}
  - name: judge
    handler: {callable: judge}
    dependencies: [greet]
    retry: {max_attempts: 20, backoff: linear, backoff_base_ms: 200, max_backoff_ms: 200}
"""


_numbers = count()


class LongRunning:
    """A `tasker-ctl` that runs until it is told to stop; `ready` is its first line."""

    def __init__(self, directory: Path, *args: object) -> None:
        self._stderr = directory / f"stderr-{next(_numbers)}"
        with self._stderr.open("w") as stderr:
            self.process = subprocess.Popen(
                [*TASKER_CTL, "--json", *map(str, args)],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith('{"event": "ready"'), line + self.stderr
        self.ready: dict[str, Any] = json.loads(line)

    @property
    def stderr(self) -> str:
        """What it has written to stderr so far."""
        return self._stderr.read_text()

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def __enter__(self) -> LongRunning:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.end()
        assert self.process.stdout is not None
        self.process.stdout.close()


def write_application(directory: Path) -> Path:
    """Write handlers and a template into a directory."""
    (directory / "handlers.py").write_text(HANDLERS)
    (directory / "templates").mkdir()
    (directory / "templates" / "hello.yaml").write_text(TEMPLATE)
    return directory
