"""A RabbitMQ of one's own: Debian's, on loopback, with directories, ports and a name of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from support.processes import until

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the wrapper in the path changes the user
EPMD = shutil.which("epmd")
MISSING = (
    None
    if SERVER.exists() and EPMD
    else "there is no RabbitMQ here: apt-get install rabbitmq-server"
)


class RabbitMQ:
    """One broker: start it, kill it, start it again; `close` leaves nothing behind."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="tasker-rabbitmq-"))
        self.port, distribution, names = _free_ports(3)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        (self.directory / "plugins").write_text("[].")
        self._environment = {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self.directory),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(names),
            "RABBITMQ_NODENAME": f"tasker-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.directory / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +SDcpu 1:1 +SDio 2"
            ),
            "RUNNING_UNDER_SYSTEMD": "true",  # the shell becomes the server, and has its pid
        }
        self._names = self._popen(str(EPMD))
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._server = self._popen(str(SERVER))
        until(self._answers, seconds=30)

    def kill(self) -> None:
        """SIGKILL it, with what it started, and wait until it is gone."""
        if self._server is not None:
            _kill(self._server)
            self._server = None

    def close(self) -> None:
        """Kill it, and remove everything."""
        self.kill()
        _kill(self._names)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _popen(self, program: str) -> subprocess.Popen[bytes]:
        with (self.directory / "output").open("ab") as output:
            return subprocess.Popen(
                [program],
                env=self._environment,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        assert self._server is not None
        said = (self.directory / "output").read_text(errors="replace")[-2000:]
        assert self._server.poll() is None, f"it ended:\n{said}"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                return probe.recv(1) == b"\x01"
        except OSError:
            return False


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and its children: it leads a group of its own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
