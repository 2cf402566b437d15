"""Data shown as text, which does nothing to whoever reads it."""

from __future__ import annotations


def visible(text: str, keep: str = "") -> str:
    r"""Write control characters out, so that data cannot command a terminal.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(c if c.isprintable() or c in keep else repr(c)[1:-1] for c in text)
