"""Let a package export what one of its modules defines, and leave the rest as it is.

>>> print(with_exports("", "cart_handler", ["CartHandler"], "shop/__init__.py"), end="")
from .cart_handler import CartHandler
<BLANKLINE>
__all__ = ["CartHandler"]

The text stays in the order and form that linters want. Where somebody has written
their own `__init__.py`, only these lines are added.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Sequence

from tasker_core.cli.scaffold.errors import InTheWay

WIDTH = 88  # the formatters' default, so that nobody's formatter changes the lines


def with_exports(text: str, module: str, names: Sequence[str], path: str) -> str:
    """Give an `__init__.py` that exports these names of a module beside it, and only these.

    Args:
        text: What is in the file now.
        path: For messages.

    Raises:
        InTheWay: It is no Python, or has one of the names from elsewhere.
    """
    tree = _parse(text, path)
    old = [node for node in _siblings(tree) if node.module == module]
    dropped = {alias.asname or alias.name for node in old for alias in node.names}
    others = _bound(node for node in tree.body if node not in old)
    for name in names:
        if name in others:
            raise InTheWay(
                f"{path} has a {name} already, which is not the one of {module}.py",
                "choose another name, or another module_name",
                path=path,
                name=name,
            )
    if old and dropped == set(names):
        return text
    made = _without(text, old)
    exported = _exported(_parse(made, path))
    with_list = exported is not None or not _has_code(_parse(made, path))
    made = _with_import(made, _import_line(module, names, alias=not with_list), module, path)
    if with_list:
        kept = [name for name in _listed(exported) if name not in dropped]
        made = _with_list(made, sorted({*kept, *names}, key=_export_order), path)
    if not _bound(_parse(made, path).body) >= others | set(names):
        raise InTheWay(f"{path} is written in a way that nothing can be added to", path=path)
    return made


# --- reading --------------------------------------------------------------------------------


def _parse(text: str, path: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        raise InTheWay(
            f"{path} is no Python, so nothing can be added: {error}", path=path
        ) from None


def _siblings(tree: ast.Module) -> list[ast.ImportFrom]:
    """Find what is imported from modules of the same package."""
    return [
        node
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module is not None
    ]


def _bound(nodes: Iterable[ast.stmt]) -> set[str]:
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names.update(target.id for target in targets if isinstance(target, ast.Name))
    return names


def _has_code(tree: ast.Module) -> bool:
    """Say whether there is more than a docstring."""
    return any(
        not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in tree.body
    )


def _exported(tree: ast.Module) -> ast.Assign | None:
    """Find `__all__` written out as a list; None if it is computed, or not there."""
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]
            and isinstance(node.value, ast.List)
            and all(isinstance(item, ast.Constant) for item in node.value.elts)
        ):
            return node
    return None


def _listed(exported: ast.Assign | None) -> list[str]:
    if exported is None:
        return []
    assert isinstance(exported.value, ast.List)
    return [str(item.value) for item in exported.value.elts if isinstance(item, ast.Constant)]


# --- writing --------------------------------------------------------------------------------


def _without(text: str, nodes: Sequence[ast.stmt]) -> str:
    lines = text.splitlines(keepends=True)
    for node in reversed(nodes):
        del lines[node.lineno - 1 : node.end_lineno]
    return "".join(lines)


def _with_import(text: str, line: str, module: str, path: str) -> str:
    """Put the import among those of the same package, in order; else behind the others."""
    tree = _parse(text, path)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    siblings = _siblings(tree)
    later = [n.lineno for n in siblings if _natural(n.module or "") > _natural(module)]
    if later:
        lines.insert(later[0] - 1, line)
    elif siblings:
        lines.insert(siblings[-1].end_lineno or 0, line)
    else:
        at = _end_of_head(tree, len(lines))
        below = ["\n"] if lines[at:] and lines[at].strip() else []
        lines[at:at] = [*(["\n"] if at else []), line, *below]
    return "".join(lines)


def _end_of_head(tree: ast.Module, length: int) -> int:
    """Count the lines of the docstring and of the imports that follow it."""
    at = 0
    for node in tree.body:
        is_docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if not is_docstring and not isinstance(node, ast.Import | ast.ImportFrom):
            return at
        at = node.end_lineno or 0
    return at if tree.body else length  # nothing but comments


def _import_line(module: str, names: Sequence[str], *, alias: bool) -> str:
    parts = [f"{name} as {name}" if alias else name for name in sorted(names, key=_export_order)]
    line = f"from .{module} import {', '.join(parts)}"
    if len(line) <= WIDTH:
        return line + "\n"
    listed = "".join(f"    {part},\n" for part in parts)
    return f"from .{module} import (\n{listed})\n"


def _with_list(text: str, names: Sequence[str], path: str) -> str:
    quoted = [f'"{name}"' for name in names]
    made = f"__all__ = [{', '.join(quoted)}]\n"
    if len(names) > 1 or len(made) > WIDTH:
        made = "__all__ = [\n" + "".join(f"    {name},\n" for name in quoted) + "]\n"
    exported = _exported(_parse(text, path))
    if exported is None:
        return text.rstrip("\n") + "\n\n" + made
    lines = text.splitlines(keepends=True)
    lines[exported.lineno - 1 : exported.end_lineno] = [made]
    return "".join(lines)


def _export_order(name: str) -> tuple[int, list[tuple[int, int, str]]]:
    """Order names as isort and ruff do: constants, classes, the rest."""
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, _natural(name)


def _natural(text: str) -> list[tuple[int, int, str]]:
    parts = re.findall(r"\d+|\D+", text)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
