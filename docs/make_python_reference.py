"""Write docs/reference/python.md from the docstrings of the published names.

    python docs/make_python_reference.py

A test holds the page against the code, so that it cannot fall behind.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "reference" / "python.md"

HEAD = """# Python

Every published name, with its docstring, made by `python docs/make_python_reference.py`.
A name is imported from the module that it stands under.
"""

# In the order in which someone who writes handlers meets them.
MODULES = (
    ("Handlers", "tasker_core"),
    ("Functional style", "tasker_core.step_handler.functional"),
    ("Mixins", "tasker_core.step_handler.mixins"),
    ("Types", "tasker_core.types"),
    ("Batches", "tasker_core.batch_processing"),
    ("Errors", "tasker_core.errors"),
    ("Client", "tasker_core.client"),
    ("Tasks in your transaction", "tasker_core.transactional"),
    ("FastAPI", "tasker_core.fastapi"),
    ("Events", "tasker_core.domain_events"),
    ("Logging", "tasker_core.logging"),
    ("Models", "tasker_core.models"),
    ("Template discovery", "tasker_core.template_discovery"),
    ("Testing", "tasker_core.testing"),
)


def make_page() -> str:
    """Give the whole page."""
    told: set[int] = set()
    parts = [HEAD]
    for title, name in MODULES:
        module = importlib.import_module(name)
        entries = [
            entry
            for public in sorted(getattr(module, "__all__", ()), key=str.lower)
            if (entry := _entry(public, getattr(module, public), told))
        ]
        if entries:
            parts.append(f"## {title}\n\n`{name}`\n")
            parts += entries
    return "\n".join(parts)


def _entry(name: str, value: Any, told: set[int]) -> str | None:
    if id(value) in told or inspect.ismodule(value) or name.startswith("__"):
        return None
    if getattr(value, "__module__", "").startswith("tasker_core.wire."):
        return None  # a reply of the HTTP API: http.md tells its members
    doc = inspect.getdoc(value)
    if not doc or not (inspect.isclass(value) or callable(value)):
        return None
    told.add(id(value))
    lines = [f"### {name}\n", f"```text\n{name}{_signature(value)}\n```\n", _doc(doc)]
    if inspect.isclass(value):
        lines += _members(value)
    return "\n".join(lines)


def _members(kind: type) -> Iterator[str]:
    """Give a line for each method and property that the class itself defines and explains."""
    told = []
    for owner in kind.__mro__:
        if not owner.__module__.startswith("tasker_core"):
            continue
        for name, member in vars(owner).items():
            target = member.__func__ if isinstance(member, classmethod | staticmethod) else member
            doc = inspect.getdoc(target)
            is_method = inspect.isfunction(target) or isinstance(target, property)
            if name.startswith("_") or not doc or not is_method or name in told:
                continue
            told.append(name)
            shown = name if isinstance(target, property) else f"{name}{_signature(target)}"
            yield f"- `{_one_line(shown)}`: {_one_line(doc.split(chr(10) * 2)[0])}"
    if told:
        yield ""


def _signature(value: Any) -> str:
    try:
        text = str(inspect.signature(value))
    except (TypeError, ValueError):
        return ""
    text = re.sub(r"(?<![\w.])(?:[a-z_]\w*\.)+(?=[A-Z])", "", text)  # modules before class names
    return re.sub(r" at 0x[0-9a-f]+", "", text).replace("'", "")


def _doc(doc: str) -> str:
    """Show a docstring as it stands; its sections and examples are laid out already."""
    if "\n" not in doc.strip():
        return doc.strip() + "\n"
    return f"```text\n{doc.strip()}\n```\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    PAGE.write_text(make_page(), encoding="utf-8")
