"""The quickstart, done as it is written: every file saved, every command run, in order.

Before a code block of Python or YAML the page says under which name to save it. A block of
`text` after a command shows lines of its output, in their order; `…` stands for anything.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from support.processes import until

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"

# What a reader does once and this machine has done.
DONE_ALREADY = ("mkdir sign-up", "python3 -m venv", "pip install", "source .venv")
SERVERS = {"tasker-ctl dev": "ready", "uvicorn": "running on"}  # what each says when it is up


@dataclass
class Block:
    """One code block of the page."""

    language: str
    text: str
    before: str  # the paragraph before it


def blocks() -> list[Block]:
    """Give the page's code blocks, in order."""
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    page = PAGE.read_text("utf-8")
    return [
        Block(match[1], match[2], page[: match.start()].rstrip().rpartition("\n")[2])
        for match in found
    ]


class Reader:
    """Somebody who does what the page says, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said = ""  # by the last command
        self.exit_code = 0
        self.servers: list[subprocess.Popen[bytes]] = []
        self.application = _free_port()
        port = str(_free_port())
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        strange = ("DATABASE_URL", "PYTHONPATH", "PYTEST_ADDOPTS")
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if name not in strange and not name.startswith("TASKER_")
            },
            "PATH": programs,
            "TASKER_SERVER_PORT": port,  # 8080 may be taken
            "TASKER_URL": f"http://127.0.0.1:{port}",
        }

    def do(self, block: Block) -> None:
        """Save a file, run commands, or compare what they said."""
        if block.language == "text":
            self.compare(block.text)
        elif block.language == "bash":
            self.run(block.text)
        else:
            name = re.fullmatch(r"Save this as `([\w./]+)`:", block.before)
            assert name, f"the page does not say where to save:\n{block.text}"
            file = self.directory / name[1]
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text)

    def run(self, commands: str) -> None:
        """Run the commands of a block; what goes on running, goes on beside."""
        left = [line for line in commands.splitlines() if not line.startswith(DONE_ALREADY)]
        if not left:
            return
        server = next((name for name in SERVERS if left[0].startswith(name)), None)
        if server is not None:
            self.begin(left[0], SERVERS[server])
            return
        done = subprocess.run(
            ["bash", "-ec", "\n".join(left)],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        self.said, self.exit_code = done.stdout, done.returncode

    def begin(self, command: str, sign: str) -> None:
        """Start a server and wait for its sign."""
        log = self.directory / f"log-{len(self.servers)}"
        command = command.replace("--port 8000", f"--port {self.application}")
        with log.open("wb") as file:
            process = subprocess.Popen(
                command.split(),
                cwd=self.directory,
                env=self.environment,
                stdout=file,
                stderr=subprocess.STDOUT,
                executable=Path(sys.executable).parent / command.split()[0],
            )
        self.servers.append(process)

        def is_up() -> bool:
            assert process.poll() is None, log.read_text()
            return sign in log.read_text()

        until(is_up, seconds=30)
        self.said = log.read_text()

    def compare(self, expected: str) -> None:
        """Find the lines of a transcript in what was said, in their order."""
        said = [" ".join(line.split()) for line in self.said.splitlines()]
        at = 0
        for line in expected.splitlines():
            wanted = ".*".join(map(re.escape, " ".join(line.split()).split("…")))
            hits = [n for n in range(at, len(said)) if re.fullmatch(wanted, said[n])]
            assert hits, f"missing: {line}\nin:\n{self.said}"
            at = hits[0] + 1

    def leave(self) -> None:
        """Press Ctrl-C everywhere."""
        for process in reversed(self.servers):
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    try:
        yield reader
    finally:
        reader.leave()


def test_the_quickstart_works(reader):
    """All files and commands of the page do what it says, down to the application at its end."""
    page = blocks()
    for number, block in enumerate(page):
        reader.do(block)
        shown = page[number + 1].text if page[number + 1 :] else ""
        if block.language == "bash" and not re.search(r"^error:|blocked_by", shown, re.M):
            assert reader.exit_code == 0, reader.said

    url = f"http://127.0.0.1:{reader.application}/sign-ups"
    answer = httpx.post(url, params={"email": "joan@example.com"}, trust_env=False)
    assert answer.status_code == 202
    task_url = f"{reader.environment['TASKER_URL']}/v1/tasks/{answer.json()['task_uuid']}"
    until(lambda: httpx.get(task_url, trust_env=False).json()["status"] == "complete")


def test_the_quickstart_is_read_to_its_end():
    """Every kind of block that the page has is one that the test above knows."""
    assert {block.language for block in blocks()} == {"bash", "python", "yaml", "text"}
    assert sum(block.language == "bash" for block in blocks()) >= 10


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
