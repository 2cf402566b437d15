"""One worker a process, started and stopped from the application's own code."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextlib import asynccontextmanager

import asyncpg
import pytest

import tasker_core
from support.flows import begin_one, template
from support.workers import eventually
from tasker_core.errors import HandlerLoadError, WorkerBootstrapError, WorkerNotInitializedError
from tasker_core.handlers.registry import HandlerRegistry
from tasker_core.worker import Worker, get_worker_status, is_worker_running, stop_worker

HANDLERS = """
from tasker_core import StepHandler

class Greet(StepHandler):
    handler_name = "worker_test_greet"

    def call(self, context):
        return self.success({"hello": context.get_input("who")})
"""

TEMPLATE = """
name: greeting
namespace_name: shop
version: 1.0.0
identity_strategy: always_unique
steps:
  - name: greet
    handler: {callable: worker_test_greet}
"""


@pytest.fixture
def package(tmp_path, monkeypatch, clean_database):
    """A package of handlers in the working directory, and no worker, before and after."""
    (tmp_path / "greetings").mkdir()
    (tmp_path / "greetings" / "__init__.py").write_text("")
    (tmp_path / "greetings" / "greet.py").write_text(HANDLERS)
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates" / "greeting.yaml").write_text(TEMPLATE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("DATABASE_URL", clean_database)
    HandlerRegistry.reset_instance()
    yield tmp_path
    Worker.reset_instance()
    HandlerRegistry.reset_instance()
    for name in [name for name in sys.modules if name.partition(".")[0] == "greetings"]:
        del sys.modules[name]


def greet(url, who):
    """Create a task and wait for its result, as code without a loop would."""

    async def wait():
        conn = await asyncpg.connect(url)
        try:
            task = await begin_one(
                conn,
                template({"greet": []}, name="hi", callables={"greet": "worker_test_greet"}),
                context={"who": who},
            )
            return await eventually(
                lambda: conn.fetchval(
                    "select result ->> 'hello' from tasker.steps where task_uuid = $1", task
                )
            )
        finally:
            await conn.close()

    return asyncio.run(wait())


def test_from_ordinary_code(package, clean_database):
    """It works in the background until it is stopped, and leaves nothing behind."""
    worker = Worker.start(handler_packages=["greetings"])

    assert worker.is_running
    assert is_worker_running()
    assert Worker.instance() is worker
    assert worker.bootstrap_result.running
    assert greet(clean_database, "Ada") == "Ada"
    status = get_worker_status()
    assert status.running
    assert status.worker_id == worker.worker_id
    assert status.handler_count >= 1
    assert status.supported_namespaces == ["shop"]

    worker.stop()
    worker.stop()
    assert not worker.is_running
    assert Worker.instance() is None
    assert not is_worker_running()
    assert get_worker_status().error == "Worker system not initialized"
    assert "tasker-worker" not in {thread.name for thread in threading.enumerate()}


def test_templates_are_registered(package, clean_database):
    """What lies in the usual directory is registered at start."""
    with Worker.start(handler_packages=["greetings"]) as worker:
        assert worker.is_running

    async def names():
        conn = await asyncpg.connect(clean_database)
        try:
            return await conn.fetch("select name from tasker.current_templates")
        finally:
            await conn.close()

    assert [row["name"] for row in asyncio.run(names())] == ["greeting"]
    assert not worker.is_running


def test_a_second_start_gives_the_running_one(package):
    """There is one worker a process; after it stopped, another can be started."""
    first = Worker.start(handler_packages=["greetings"])
    assert Worker.start(max_concurrent_handlers=3) is first
    first.stop()
    second = Worker.start(max_concurrent_handlers=3)
    assert second is not first
    assert second.worker_id != first.worker_id
    assert stop_worker() == "Worker system stopped"
    assert stop_worker() == "Worker system not running"


def test_several_threads_start_one_worker(package):
    """Whoever comes second gets the worker of the first."""
    found = []
    threads = [threading.Thread(target=lambda: found.append(Worker.start())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


async def test_in_a_lifespan(package, clean_database, conn):
    """Started and stopped inside a running loop; the application's loop goes on meanwhile."""
    from fastapi import FastAPI

    @asynccontextmanager
    async def lifespan(app):
        worker = Worker.start(handler_packages=["greetings"])
        yield
        worker.stop()

    app = FastAPI(lifespan=lifespan)
    async with app.router.lifespan_context(app):
        assert is_worker_running()
        assert await asyncio.to_thread(greet, clean_database, "Bo") == "Bo"
    assert not is_worker_running()
    assert await conn.fetchval("select count(*) from tasker.workers") == 0


def test_an_unreachable_database(package, monkeypatch):
    """The error says why, and the next start can succeed."""
    with pytest.raises(WorkerBootstrapError, match="cannot connect to PostgreSQL") as caught:
        Worker.start(config={"database_url": "postgresql://nobody@127.0.0.1:1/none"})
    assert caught.value.__cause__ is not None
    assert not is_worker_running()
    assert Worker.start().is_running


def test_a_setting_that_does_not_exist(package):
    """A slip in the settings is a failed start."""
    with pytest.raises(WorkerBootstrapError, match="worker_concurency"):
        Worker.start(config={"worker_concurency": 3})


def test_import_errors_are_listed(package):
    """What cannot be imported is told; the rest works."""
    (package / "greetings" / "broken.py").write_text("import no_such_module_anywhere")
    worker = Worker.start(handler_packages=["greetings"])

    assert len(worker.handler_load_errors) == 1
    assert "no_such_module_anywhere" in worker.handler_load_errors[0]
    assert worker.status().load_errors == worker.handler_load_errors
    assert worker.status().handler_count >= 1


@pytest.mark.parametrize(
    ("file", "content", "cause"),
    [
        ("greetings/broken.py", "import no_such_module_anywhere", HandlerLoadError),
        ("templates/broken.yaml", "name: broken\nsteps: 7\n", Exception),
    ],
)
def test_strict_refuses_to_start(package, file, content, cause):
    """With `strict`, an error in a handler module or a template is a failed start."""
    (package / file).write_text(content)
    with pytest.raises(WorkerBootstrapError) as caught:
        Worker.start(handler_packages=["greetings"], strict=True)
    assert isinstance(caught.value.__cause__, cause)
    assert not is_worker_running()


def test_a_worker_that_died_is_not_the_instance(package):
    """When what it does has ended by an error, nobody is told that it works."""
    worker = Worker.start(handler_packages=["greetings"])
    assert worker._loop is not None
    assert worker._worker is not None
    worker._loop.call_soon_threadsafe(worker._worker._flow.cancel)
    worker._thread.join(20)

    assert not worker.is_running
    assert Worker.instance() is None
    assert Worker.start().is_running
    worker.stop()
    assert is_worker_running()


def test_not_started():
    """What needs a running worker says so."""
    with pytest.raises(WorkerNotInitializedError, match="has not been started"):
        _ = Worker().bootstrap_result
    Worker().stop()
    assert not Worker().is_running


def test_it_is_exported():
    """Applications import it from the top."""
    assert tasker_core.Worker is Worker
    assert tasker_core.is_worker_running is is_worker_running
    with pytest.raises(AttributeError):
        _ = tasker_core.worker.nonsense
