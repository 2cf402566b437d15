"""Every job that is queued runs once, whatever the others do."""

from __future__ import annotations

import threading
from collections import Counter
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from support.processes import until
from tasker_core.worker.threads import HandlerThreads


def job(number, is_quick=False, waits_for=None):
    plan = SimpleNamespace(is_quick=is_quick)
    return SimpleNamespace(number=number, plan=plan, waits_for=waits_for)


def blocked(release):
    return job("blocked", waits_for=release)


class Pool:
    """The threads under test, and what they ran."""

    def __init__(self, limit):
        self.ran = Counter()
        self.inside = self.most = 0
        self._lock = threading.Lock()
        self.threads = HandlerThreads(limit, self._run)

    def _run(self, job):
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        if job.waits_for is not None:
            assert job.waits_for.wait(20)
        with self._lock:
            self.inside -= 1
            self.ran[job.number] += 1

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.threads.close()


bursts = st.lists(st.lists(st.sampled_from("qqqs!"), max_size=12), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(limit=st.integers(1, 6), bursts=bursts)
def test_no_job_is_lost_and_none_runs_twice(limit, bursts):
    """Bursts of quick (q), slow (s) and blocking (!) jobs: each runs exactly once.

    A blocking job is let go only when all the others have run, as long as it leaves a
    thread for them: quick jobs behind it must not wait for it.
    """
    release = threading.Event()
    with Pool(limit) as pool:
        number = blocking = 0
        for burst in bursts:
            jobs = []
            for kind in burst:
                blocks = kind == "!" and blocking < limit - 1
                blocking += blocks
                jobs.append(job(number, kind != "s", release if blocks else None))
                number += 1
            pool.threads.submit(jobs)

        def others_ran():
            pool.threads.push()  # as the runner's pulse does
            return pool.ran.total() == number - blocking

        until(others_ran)
        release.set()
        until(lambda: pool.ran.total() == number)
        assert set(pool.ran.values()) <= {1}
        assert pool.most <= limit


def test_quick_jobs_share_a_thread():
    """A burst of quick jobs wakes one thread; `push` brings more when that one is stuck."""
    release = threading.Event()
    with Pool(8) as pool:
        pool.threads.submit([job(0, True, release), *(job(n, True) for n in range(1, 6))])
        until(lambda: pool.inside == 1)
        assert pool.threads._thread_count == 1
        assert pool.threads.push() is True
        until(lambda: pool.ran.total() == 5)
        assert pool.threads.push() is False
        release.set()
        until(lambda: pool.ran.total() == 6)


def test_withdrawn_jobs_do_not_run():
    """What is taken back is run by nobody."""
    release = threading.Event()
    with Pool(1) as pool:
        pool.threads.submit([blocked(release), *(job(n) for n in range(5))])
        until(lambda: pool.inside == 1)
        assert [one.number for one in pool.threads.withdraw()] == [0, 1, 2, 3, 4]
        release.set()
        until(lambda: pool.ran.total() == 1)


def test_closing_ends_idle_and_busy_threads():
    """An idle thread ends at once, a busy one after its job; queued jobs are forgotten."""
    release = threading.Event()
    before = set(threading.enumerate())
    pool = Pool(3)
    pool.threads.submit([job(n) for n in range(3)])
    until(lambda: pool.ran.total() == 3)
    pool.threads.submit([blocked(release) for _ in range(3)])
    until(lambda: pool.inside == 3)
    pool.threads.submit([job(7)])
    pool.threads.close()
    release.set()

    until(lambda: set(threading.enumerate()) <= before)
    assert pool.ran[7] == 0


def test_a_system_without_threads_left(monkeypatch):
    """When no thread can be started the job waits, and runs when one can."""
    real = threading.Thread.start

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with Pool(2) as pool:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        pool.threads.submit([job(0)])
        assert pool.threads._thread_count == 0
        monkeypatch.setattr(threading.Thread, "start", real)
        pool.threads.push()
        until(lambda: pool.ran.total() == 1)
