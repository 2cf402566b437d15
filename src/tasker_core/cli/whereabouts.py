"""Where `tasker-ctl dev` listens, for the other commands of the same directory.

`.tasker/dev.url` has the URL, and is locked for as long as dev lives: a file that is not
locked was left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

HOME = Path(".tasker")
FILE = HOME / "dev.url"

_TRIES = 5  # a reader holds the lock for a moment
_REST_SECONDS = 0.02


@contextlib.contextmanager
def published(url: str) -> Iterator[bool]:
    """Write the URL down meanwhile; False if another dev of this directory has, or we may not."""
    with contextlib.ExitStack() as stack:
        try:
            HOME.mkdir(exist_ok=True)
            if not (HOME / ".gitignore").exists():
                (HOME / ".gitignore").write_text("*\n", encoding="utf-8")
            file = stack.enter_context(FILE.open("a+", encoding="utf-8"))
            is_ours = _locked(file.fileno())
            if is_ours:
                file.truncate(0)
                file.write(url)
                file.flush()
                stack.callback(FILE.unlink, missing_ok=True)
        except OSError:
            is_ours = False
        yield is_ours


def find_url() -> str | None:
    """Say where the dev of this directory listens; None if none runs."""
    try:
        with FILE.open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or None
    except OSError:
        pass
    return None


def _locked(file: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(_REST_SECONDS)
    return False
