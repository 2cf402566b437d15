"""Threads for handlers that are not async.

All jobs wait in one queue. A job that is known to be quick costs less than waking a
thread for it, so a burst of quick jobs wakes one thread; anything else wakes one
each. Should a quick job turn out slow, `push` puts more threads to work.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue

from tasker_core.worker.attempt import Attempt


class HandlerThreads:
    """Up to `limit` threads that call `run` with one attempt after another.

    `run` must not raise.
    """

    def __init__(self, limit: int, run: Callable[[Attempt], None]) -> None:
        self._limit = limit
        self._run = run
        self._jobs: deque[Attempt] = deque()
        self._signals: SimpleQueue[bool] = SimpleQueue()  # True: look for jobs; False: end
        self._lock = threading.Lock()
        self._thread_count = 0
        self._idle_count = 0

    def submit(self, jobs: Sequence[Attempt]) -> None:
        """Queue these jobs."""
        self._jobs.extend(jobs)
        slow_count = sum(1 for job in jobs if not job.plan.is_quick)
        self._wake(slow_count + (slow_count < len(jobs)))

    def push(self) -> bool:
        """Put more threads to work when jobs are waiting, twice as many each time.

        Returns:
            Whether jobs were waiting.
        """
        waiting = len(self._jobs)
        if waiting:
            self._wake(min(waiting, max(1, self._thread_count - self._idle_count)))
        return waiting > 0

    def next_is_quick(self) -> bool:
        """Say whether the job at the head of the queue is known to be quick."""
        try:
            return self._jobs[0].plan.is_quick
        except IndexError:
            return False

    def withdraw(self) -> list[Attempt]:
        """Take back the jobs that no thread has begun."""
        taken = []
        while True:
            try:
                taken.append(self._jobs.popleft())
            except IndexError:
                return taken

    def close(self) -> None:
        """Let every thread end when its job is done; what is queued is forgotten."""
        self._jobs.clear()
        for _ in range(self._thread_count):
            self._signals.put(False)

    def _wake(self, count: int) -> None:
        with self._lock:
            woken = min(count, self._idle_count)
            self._idle_count -= woken
            started = min(count - woken, self._limit - self._thread_count)
            self._thread_count += started
        for _ in range(woken):
            self._signals.put(True)
        for _ in range(started):
            self._start_one()

    def _start_one(self) -> None:
        try:
            threading.Thread(target=self._work, name="tasker-handler", daemon=True).start()
        except RuntimeError:  # the system has no more to give; `push` tries again
            with self._lock:
                self._thread_count -= 1

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.popleft()
            except IndexError:
                if not self._rest():
                    return
            else:
                self._run(job)

    def _rest(self) -> bool:
        with self._lock:
            # whoever queued a job before we got the lock saw nobody idle
            if self._jobs:
                return True
            self._idle_count += 1
        return self._signals.get()
