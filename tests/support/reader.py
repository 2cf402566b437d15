"""Somebody who reads a page and does what it says: every file saved, every command run.

Before a code block of Python, YAML or TOML the page says under which name to save it. A
block of `text` after a command shows lines of its output, in their order; `…` stands for
anything.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.processes import until

# What a reader does once and this machine has done.
DONE_ALREADY = ("mkdir sign-up", "python3 -m venv", "pip install", "source .venv")
SERVERS = {
    "tasker-ctl dev": "ready",
    "tasker-ctl server run": "ready",
    "uvicorn": "running on",
}  # what each says when it is up


@dataclass
class Block:
    """One code block of the page."""

    language: str
    text: str
    before: str  # the paragraph before it


def blocks(path: Path) -> list[Block]:
    """Give a page's code blocks, in order."""
    page = path.read_text("utf-8")
    found = re.finditer(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S)
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
        commands = commands.replace("127.0.0.1:8080", self.environment["TASKER_URL"][7:])
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


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
