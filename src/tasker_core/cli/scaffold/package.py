"""Place Python files so that what they define can be imported, and their tests run.

A template that has a parameter `module_name` makes files for that package: those
without a directory of their own go into it. With `module_name=handlers.ecommerce`::

    handlers/__init__.py
    handlers/ecommerce/__init__.py          imports what its modules define
    handlers/ecommerce/validate_cart_handler.py
    tests/conftest.py                       lets the tests find handlers/
    tests/test_validate_cart_handler.py

so that `from handlers.ecommerce import ValidateCartHandler` works beside `handlers`, and
a second handler in the same package is one more file.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasker_core.cli.scaffold.errors import InTheWay, NameClash, RenderFailed
from tasker_core.cli.scaffold.exports import with_exports
from tasker_core.cli.scaffold.render import RenderedFile

TESTS = PurePosixPath("tests")

CONFTEST = '''"""Let the tests import the packages beside this directory."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
'''


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file as it is to be, and where."""

    path: PurePosixPath  # relative to the directory of the command
    text: str
    check: str | None = None
    merged: bool = False  # what was in it stays in it


def place(
    files: Sequence[RenderedFile], directory: Path, module_name: str | None
) -> list[PlannedFile]:
    """Say where each file goes, and which others are needed for it.

    Args:
        directory: Where the files will be; read, not written.
        module_name: The package that they belong to; None leaves them where they are.

    Raises:
        RenderFailed: One of them is no Python.
        NameClash: A name is one that Python, or the file itself, has already.
        InTheWay: Something is there that is no package, or defines the same name.
    """
    for file in files:
        if file.path.suffix == ".py":
            _check(file)
    if module_name is None:
        return [PlannedFile(file.path, file.text, file.check) for file in files]
    package = PurePosixPath(*module_name.split("."))
    _check_free(directory, package)
    exports: dict[str, list[str]] = {}
    planned: list[PlannedFile] = []
    for file in files:
        path = file.path
        if path.suffix == ".py" and len(path.parts) == 1:
            path = package / path
            exports[path.stem] = _public_names(file.text)
        planned.append(PlannedFile(path, file.text, file.check))
    return planned + _package_files(directory, package, exports) + _test_files(directory, planned)


def above_package(directory: Path, module_name: str) -> Path:
    """Give the directory that the package goes into, should the package itself be named.

    >>> above_package(Path("app/handlers"), "handlers.late").as_posix()
    'app'
    """
    parts = tuple(module_name.split("."))
    for length in range(len(parts), 0, -1):
        if directory.parts[-length:] == parts[:length]:
            return Path(*directory.parts[:-length])
    return directory


def _package_files(
    directory: Path, package: PurePosixPath, exports: dict[str, list[str]]
) -> list[PlannedFile]:
    """Make every directory down to the package importable, and the package export names."""
    planned = []
    for parent in reversed(package.parents[:-1]):
        path = parent / "__init__.py"
        if not (directory / path).exists():
            planned.append(PlannedFile(path, ""))
    path = package / "__init__.py"
    before = _text_of(directory / path)
    text = before or ""
    for module, names in exports.items():
        _check_modules(directory, package, names)
        text = with_exports(text, module, names, str(path))
    if text != before:
        planned.append(PlannedFile(path, text, merged=before is not None))
    return planned


def _test_files(directory: Path, planned: Sequence[PlannedFile]) -> list[PlannedFile]:
    has_tests = any(TESTS in file.path.parents for file in planned)
    path = TESTS / "conftest.py"
    if not has_tests or (directory / path).exists() or any(f.path == path for f in planned):
        return []  # whoever wrote one knows how their tests import
    return [PlannedFile(path, CONFTEST)]


# --- checks ---------------------------------------------------------------------------------


def _check(file: RenderedFile) -> None:
    """Hold what a file defines against what it imports and what Python has."""
    try:
        tree = ast.parse(file.text)
    except (SyntaxError, ValueError) as error:
        raise RenderFailed(
            file.source, f"makes {file.path}, which is no Python: {error}"
        ) from error
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for name in _defined(tree):
        if name in imported or hasattr(builtins, name):
            owner = "the generated code imports" if name in imported else "Python has"
            raise NameClash(
                f"the code would define {name}, which {owner} already", "choose another name"
            )


def _check_free(directory: Path, package: PurePosixPath) -> None:
    if directory.exists() and not directory.is_dir():
        raise InTheWay(f"{directory} is no directory", path=str(directory))
    for path in (*reversed(package.parents[:-1]), package):
        module = path.with_suffix(".py")
        if (directory / module).exists():
            raise InTheWay(
                f"{module} is a module, and the package {path}/ would hide it; nothing was written",
                f"move it to {path}/__init__.py, or choose another module_name",
                path=str(module),
            )
        if (directory / path).exists() and not (directory / path).is_dir():
            raise InTheWay(f"{path} is there, and is no directory", path=str(path))


def _check_modules(directory: Path, package: PurePosixPath, names: Sequence[str]) -> None:
    """Refuse a name that would hide a module beside it."""
    for name in names:
        for path in (package / name, package / f"{name}.py"):
            if (directory / path).exists():
                raise InTheWay(
                    f"{package / '__init__.py'} would export {name}, and hide {path}",
                    "choose another name, or another module_name",
                    path=str(path),
                )


def _public_names(text: str) -> list[str]:
    return [name for name in _defined(ast.parse(text)) if not name.startswith("_")]


def _defined(tree: ast.Module) -> list[str]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [node.name for node in tree.body if isinstance(node, kinds)]


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InTheWay(f"{path} cannot be read: {error}", path=str(path)) from error
