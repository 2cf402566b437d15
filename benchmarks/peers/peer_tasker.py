"""Tasker for Python: `tasker-ctl worker run` and `tasker-ctl server run`, as a user would.

Async handlers, or sync ones in threads: the first argument after the name of the file. Tasks
are created by `tasker_core.transactional` on a psycopg connection, over HTTP by POST /v1/tasks.
A worker runs 200 steps at a time (20 is the default).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]

import driver
import psycopg
from workloads import WORKLOADS

from tasker_core.transactional import NewTask, create_task, create_tasks

ROOT = Path(__file__).resolve().parents[2]
CONTROL = str(Path(sys.executable).parent / "tasker-ctl")
CONCURRENCY = 200


def template(workload: str) -> str:
    """Write the template of a workload."""
    kind = os.environ["PEERS_KIND"]
    steps = "".join(
        f"  - name: {name}\n    handler: {{callable: {kind}_step}}\n    dependencies: {parents}\n"
        for name, parents in WORKLOADS[workload].items()
    )
    return (
        f"name: {workload}\nnamespace_name: bench\nversion: 1.0.0\n"
        f"identity_strategy: always_unique\nsteps:\n{steps}"
    )


class Tasker(driver.Driver):
    """Everything through the commands that a user has."""

    def prepare(self, url: str, directory: str) -> None:
        """Upgrade the database and register the templates."""
        os.environ["DATABASE_URL"] = url
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
        self.templates = Path(directory) / "templates"
        self.templates.mkdir()
        for workload in WORKLOADS:
            (self.templates / f"{workload}.yaml").write_text(template(workload))
        self.url = url
        subprocess.run([CONTROL, "--quiet", "db", "upgrade"], check=True, stdout=subprocess.DEVNULL)
        self.conn = psycopg.connect(url, autocommit=True)

    def start(self, workers: int) -> None:
        """Start `tasker-ctl worker run`; a worker that is in the table waits for work."""
        for _ in range(workers):
            self._command(
                *("worker", "run", "--handlers", "peer_tasker_handlers"),
                *("--templates", str(self.templates), "--concurrency", str(CONCURRENCY)),
            )
        pids = [process.pid for process in self._processes]
        while not self._value(
            "select count(*) = %s from tasker.workers where pid = any (%s)", len(pids), pids
        ):
            time.sleep(0.05)

    def run_one(self, workload: str, number: int) -> float:
        """Create the task, look until it is complete."""
        began = time.perf_counter()
        task = create_task(self.conn, workload, {"number": number}, namespace="bench")
        query = "select state = 'complete' from tasker.tasks where task_uuid = %s"
        return self.look(began, lambda: self._value(query, task))

    def submit(self, workload: str, numbers: Sequence[int]) -> None:
        """Create all tasks in one transaction."""
        create_tasks(
            self.conn,
            [
                NewTask(name=workload, namespace="bench", context={"number": number})
                for number in numbers
            ],
        )

    def busy(self) -> bool:
        """Look for a task that is not complete."""
        return bool(
            self._value("select exists (select from tasker.tasks where state <> 'complete')")
        )

    def complete(self) -> int:
        """Count the complete tasks, all of whose steps have one attempt."""
        return int(
            self._value(
                "select count(*) from tasker.tasks where state = 'complete' and not exists ("
                "select from tasker.attempts where task_uuid = tasks.task_uuid and attempt > 1)"
            )
        )

    def serve_http(self) -> dict[str, str]:
        """Start `tasker-ctl server run`."""
        port = driver.free_port()
        self._command(
            *("server", "run", "--port", str(port), "--templates", str(self.templates)),
        )
        driver.wait_for_http(f"http://127.0.0.1:{port}/health")
        body = '{"name":"linear","namespace":"bench","context":{"number":NUMBER}}'
        return {"port": str(port), "path": "/v1/tasks", "body": body}

    def _command(self, *arguments: str) -> None:
        self._processes.append(
            subprocess.Popen(
                [CONTROL, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )

    def _value(self, query: str, *arguments: object) -> object:
        row = self.conn.execute(query, arguments).fetchone()
        assert row is not None
        return row[0]


if __name__ == "__main__":
    driver.main(Tasker)
