"""Send three orders through the five steps of the shop, and watch them: `make demo`.

One is good, one has an empty cart, and for one the payment gateway fails the first time.
Everything that this needs, from PostgreSQL to the worker, is started in a temporary
directory by one command, `tasker-ctl dev`, and is gone afterwards. The exit code is 0 if
the orders went as they should.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tasker_core.client import StepResponse, TaskerClient, TaskResponse
from tasker_core.db import embedded

SHOP = Path(__file__).resolve().parent
PAUSE_SECONDS = "0.3"  # that every step takes, for the eye
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 60

COLOURS = {
    "pending": "dim",
    "enqueued": "blue",
    "in_progress": "cyan",
    "waiting_for_retry": "yellow",
    "complete": "green",
    "error": "bold red",
    "blocked_by_failures": "bold red",
}


@dataclass
class Order:
    """One of the three, what it should come to, and what is known of it so far."""

    title: str
    items: list[dict[str, Any]]
    payment_token: str
    expected: str  # the task's status in the end
    attempts: Sequence[int]  # of each step
    error_code: str | None = None
    task: TaskResponse = field(default_factory=TaskResponse)
    steps: list[StepResponse] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self.task.status in ("complete", "error", "cancelled", "blocked_by_failures")

    @property
    def went_as_expected(self) -> bool:
        errors = {error_of(step.results)[0] for step in self.steps} - {None}
        return (
            self.task.status == self.expected
            and [step.attempts for step in self.steps] == list(self.attempts)
            and errors == ({self.error_code} if self.error_code else set())
        )


def three_orders() -> list[Order]:
    mugs = [{"sku": "MUG-01", "quantity": 2}, {"sku": "TEA-01", "quantity": 1}]
    return [
        Order("good order", mugs, "tok_good", "complete", (1, 1, 1, 1, 1)),
        Order("empty cart", [], "tok_good", "blocked_by_failures", (1, 0, 0, 0, 0), "EMPTY_CART"),
        Order("gateway fails once", mugs, "tok_flaky", "complete", (1, 2, 1, 1, 1)),
    ]


def main() -> int:
    console = Console(highlight=False)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)  # all of them end like Ctrl-C
    orders = three_orders()
    try:
        with running_tasker(console) as url, TaskerClient("demo", "shop-demo", base_url=url) as api:
            place(api, orders)
            watch(console, api, orders)
            for order in orders:
                show_timeline(console, api, order)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    except DemoFailed as error:
        console.print(f"the demo failed: {error}", style="bold red", markup=False)
        return 1
    surprises = [order.title for order in orders if not order.went_as_expected]
    if surprises:
        console.print(f"not as expected: {', '.join(surprises)}", style="bold red")
        return 1
    console.print("All three orders went as expected, and everything is stopped again.")
    return 0


class DemoFailed(Exception):
    """Something did not start, or did not end."""


# --- start and stop -----------------------------------------------------------------------


@contextmanager
def running_tasker(console: Console) -> Iterator[str]:
    """Run `tasker-ctl dev` in a temporary directory; give the server's address."""
    home = Path(tempfile.mkdtemp(prefix="tasker-demo-"))
    log = home / "tasker.log"
    environment = {  # whatever this machine's own Tasker uses stays untouched
        name: value
        for name, value in os.environ.items()
        if name != "DATABASE_URL" and not name.startswith("TASKER_")
    }
    command = "dev --handlers shop.handlers --templates templates --port 0 --no-reload"
    console.print(f"$ tasker-ctl {command}", style="bold", markup=False, soft_wrap=True)
    process = None
    try:
        with log.open("w") as log_file:
            process = subprocess.Popen(
                [sys.executable, "-m", "tasker_core.cli.main", *command.split()],
                cwd=SHOP,
                env={
                    **environment,
                    "TASKER_HOME": str(home / "data"),
                    "SHOP_PAUSE_SECONDS": PAUSE_SECONDS,
                    "NO_COLOR": "1",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log_file,
                text=True,
                start_new_session=True,  # Ctrl-C is for us; we stop it ourselves
            )
        ready, url = ready_line(process, log)
        console.print(f"{ready}\n", markup=False, soft_wrap=True)
        yield url
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if process is not None:
            stop(process)
        embedded.stop(home / "data")  # should the process have been killed
        shutil.rmtree(home, ignore_errors=True)


def ready_line(process: subprocess.Popen[str], log: Path) -> tuple[str, str]:
    """Wait for the line that says that everything runs, and find the address in it."""
    assert process.stdout is not None
    for line in process.stdout:
        address = next((word for word in line.split() if word.startswith("http://")), None)
        if address:
            return line.strip(), address.rstrip("/,;")
    raise DemoFailed(f"tasker-ctl dev ended with {process.wait()}:\n{log.read_text()}")


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    assert process.stdout is not None
    process.stdout.close()


# --- the orders ---------------------------------------------------------------------------


def place(api: TaskerClient, orders: Sequence[Order]) -> None:
    for order in orders:
        order.task = api.create_task(
            "order",
            namespace="shop",
            context={
                "order_reference": uuid4().hex[:8],
                "customer_email": "ada@example.com",
                "payment_token": order.payment_token,
                "items": order.items,
            },
        )


def watch(console: Console, api: TaskerClient, orders: Sequence[Order]) -> None:
    """Show every change: in a live table, or as a line each when nobody watches."""
    begun = time.monotonic()
    if not console.is_terminal:
        for changes in looks(api, orders, begun):
            seconds = time.monotonic() - begun
            for order, step in changes:
                print(f"{seconds:5.2f} s  {order.title:20}{step.name:20}{describe(step)}")
        print()
        return
    with Live(console=console, auto_refresh=False) as live:
        for _ in looks(api, orders, begun):
            live.update(table_of(orders), refresh=True)
    console.print()


def looks(
    api: TaskerClient, orders: Sequence[Order], begun: float
) -> Iterator[list[tuple[Order, StepResponse]]]:
    """Look at the orders until all are settled; give what changed since the last look."""
    while not all(order.is_settled for order in orders):
        if time.monotonic() - begun > PATIENCE_SECONDS:
            raise DemoFailed(f"the orders are not done after {PATIENCE_SECONDS} seconds")
        changes = []
        for order in orders:
            if not order.is_settled:
                order.task = api.get_task(order.task.task_uuid, include_steps=False)
                before = {step.step_uuid: describe(step) for step in order.steps}
                order.steps = api.list_task_steps(order.task.task_uuid)
                changes += [
                    (order, step)
                    for step in order.steps
                    if before.get(step.step_uuid, "pending") != describe(step)
                ]
        yield changes
        time.sleep(LOOK_SECONDS)


def table_of(orders: Sequence[Order]) -> Table:
    """Show where every step of every order stands."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("step")
    for order in orders:
        table.add_column(order.title, min_width=16)
    for row in zip(*(order.steps for order in orders), strict=True):
        cells = [Text(describe(step), COLOURS.get(step.current_state, "")) for step in row]
        table.add_row(row[0].name, *cells)
    return table


def describe(step: StepResponse) -> str:
    """Name a step's state, its attempt if there is more than one, and why it failed."""
    told = step.current_state
    if step.attempts > 1 or told == "waiting_for_retry":
        told += f" #{step.attempts}"
    if step.current_state == "error":
        told += f" {error_of(step.results)[0]}"
    return told


# --- what became of them ------------------------------------------------------------------


def show_timeline(console: Console, api: TaskerClient, order: Order) -> None:
    """Show every attempt of an order's steps: when it began, how long it took, how it ended."""
    task = order.task
    heading = Text(f"{order.title}: ", "bold")
    heading.append(task.status, COLOURS.get(task.status, ""))
    heading.append(f"  task {task.task_uuid}", "dim")
    console.print(heading, soft_wrap=True)
    created = moment(task.created_at)
    for step in order.steps:
        history = api.get_step_audit_history(task.task_uuid, step.step_uuid)
        for attempt in reversed(history):
            result = attempt.result or {}
            began = (moment(result["metadata"]["started_at"]) - created).total_seconds()
            took = (attempt.execution_time_ms or 0) / 1000
            line = Text(f"  +{began:.2f} s  {took:.2f} s  {step.name:18} #{attempt.attempt}  ")
            line.append(attempt.to_state, COLOURS.get(attempt.to_state, ""))
            console.print(line, soft_wrap=True)
            code, message = error_of(result)
            if code:
                console.print(Text(f"{' ' * 19}{code}: {message}", "dim"), soft_wrap=True)
    console.print(f"  {result_of(order)}\n", markup=False, soft_wrap=True)


def result_of(order: Order) -> str:
    """Say what the order came to."""
    results = {step.name: (step.results or {}).get("result") or {} for step in order.steps}
    if order.task.status == "complete":
        placed, mail = results["create_order"], results["send_confirmation"]
        total = placed["total_cents"] / 100
        return f"{placed['order_number']} over {total:.2f}, confirmed to {mail['sent_to']}"
    failed = next(step for step in order.steps if step.current_state == "error")
    waiting = [step.name for step in order.steps if step.attempts == 0]
    return f"refused, {error_of(failed.results)[1]}; never begun: {', '.join(waiting)}"


def error_of(results: dict[str, Any] | None) -> tuple[str | None, str | None]:
    """Give code and message of a failed attempt, None and None of any other."""
    error = (results or {}).get("error") or {}
    return error.get("error_code") or error.get("error_type"), error.get("message")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


if __name__ == "__main__":
    sys.exit(main())
