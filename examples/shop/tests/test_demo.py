"""The demo as a person starts it: its outcome, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[1] / "demo.py"


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The demo, running; its temporary directory is below `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, str(DEMO)],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        yield process
        process.terminate()  # should the test have failed


def test_three_orders_go_as_they_should(demo, tmp_path):
    """Each step's change is a line, each order has its timeline, and all is gone afterwards."""
    told, _ = demo.communicate(timeout=60)

    assert demo.returncode == 0, told
    assert "waiting_for_retry #1" in told
    assert "GATEWAY_UNAVAILABLE: the payment gateway answered 503" in told
    assert "EMPTY_CART: the cart is empty" in told
    assert "confirmed to ada@example.com" in told
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_demo_stops_everything(demo, tmp_path):
    """Ctrl-C while the orders are under way ends all that was started."""
    while "ready" not in (line := demo.stdout.readline()):
        assert line, "it ended by itself"
    demo.send_signal(signal.SIGINT)

    told, _ = demo.communicate(timeout=60)

    assert demo.returncode == 130, told
    assert list(tmp_path.iterdir()) == []
