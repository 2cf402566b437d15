"""Find task templates on disk, and the handlers that they name, without checking them.

For tools and tests; a worker reads and checks templates with `tasker_core.templates`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tasker_core.templates.load import USUAL_DIRECTORIES

log = logging.getLogger(__name__)

_ROOT_MARKS = (
    "Cargo.toml",
    "pyproject.toml",
    ".git",
    "Gemfile",
    "package.json",
    "tasker-core.code-workspace",
)
_MAX_LEVELS = 10
_TEST_DIRECTORY = "tests/fixtures/task_templates/python"


class TemplatePath:
    """Where the templates are."""

    @staticmethod
    def find_template_config_directory() -> Path | None:
        """Give the directory of the templates; None if there is none.

        The first that exists of: TASKER_TEMPLATE_PATH; with TASKER_ENV=test,
        `tests/fixtures/task_templates/python`; the `template_path` of `tasker.toml`; then
        `config/tasks`, `config/tasker/templates`, … below WORKSPACE_PATH, below the root
        of the project around the working directory, and below the working directory.
        """
        named = os.environ.get("TASKER_TEMPLATE_PATH")
        if named:
            if Path(named).is_dir():
                return Path(named)
            log.warning("TASKER_TEMPLATE_PATH is %s, which is not a directory", named)
        return next((place for place in TemplatePath._places() if place.is_dir()), None)

    @staticmethod
    def discover_template_files(template_dir: Path | str) -> list[Path]:
        """List `*.yaml` and `*.yml` below a directory, sorted; nothing if it is none."""
        folder = Path(template_dir)
        if not folder.is_dir():
            return []
        found = (file for pattern in ("*.yaml", "*.yml") for file in folder.rglob(pattern))
        return sorted(file for file in found if file.is_file())

    @staticmethod
    def _places() -> Iterator[Path]:
        roots = [Path(path) for path in [os.environ.get("WORKSPACE_PATH")] if path]
        detected = TemplatePath._detect_workspace_root()
        roots += [root for root in (detected, Path.cwd()) if root is not None]
        if TemplatePath._is_test_environment():
            for root in roots:
                yield root / _TEST_DIRECTORY
        configured = _configured_directory()
        if configured is not None:
            yield configured
        for root in roots:
            for place in USUAL_DIRECTORIES:
                yield root / place

    @staticmethod
    def _is_test_environment() -> bool:
        return os.environ.get("TASKER_ENV", "").lower() == "test"

    @staticmethod
    def _detect_workspace_root() -> Path | None:
        here = Path.cwd()
        for folder in [here, *here.parents][:_MAX_LEVELS]:
            if any((folder / mark).exists() for mark in _ROOT_MARKS):
                return folder
        return None


class TemplateParser:
    """What a template file says, as far as it can be read."""

    @staticmethod
    def extract_handler_callables(template_file: Path | str) -> list[str]:
        """Name the handlers of a file's steps, in order; nothing if it cannot be read."""
        documents = _documents(template_file)
        found = (TemplateParser.extract_handlers_from_template(data) for data in documents)
        return [name for names in found for name in names]

    @staticmethod
    def extract_handlers_from_template(template_data: Any) -> list[str]:
        """Name the handlers of a template's steps, in order; what is malformed is left out."""
        steps = template_data.get("steps") if isinstance(template_data, dict) else None
        found: list[str] = []
        for step in steps if isinstance(steps, list) else []:
            handler = step.get("handler") if isinstance(step, dict) else None
            name = handler.get("callable") if isinstance(handler, dict) else None
            if isinstance(name, str) and name:
                found.append(name)
        return found

    @staticmethod
    def extract_template_metadata(template_file: Path | str) -> dict[str, Any]:
        """Describe a file's first template; `{}` if it cannot be read.

        `{"name": str, "namespace": str, "version": str, "description": str,
        "file_path": str, "handlers": [str]}`; what is missing is "".
        """
        for data in _documents(template_file):
            return {
                "name": data.get("name") or "",
                "namespace": data.get("namespace_name") or "",
                "version": data.get("version") or "",
                "description": data.get("description") or "",
                "file_path": str(template_file),
                "handlers": TemplateParser.extract_handlers_from_template(data),
            }
        return {}


class HandlerDiscovery:
    """What all templates of a directory name."""

    @staticmethod
    def discover_all_handlers(template_dir: Path | str) -> list[str]:
        """Name all handlers, sorted, each once."""
        files = TemplatePath.discover_template_files(template_dir)
        return sorted({n for f in files for n in TemplateParser.extract_handler_callables(f)})

    @staticmethod
    def discover_template_metadata(template_dir: Path | str) -> list[dict[str, Any]]:
        """Describe each file, as `TemplateParser.extract_template_metadata` does."""
        files = TemplatePath.discover_template_files(template_dir)
        found = (TemplateParser.extract_template_metadata(file) for file in files)
        return [metadata for metadata in found if metadata]

    @staticmethod
    def discover_handlers_by_namespace(template_dir: Path | str) -> dict[str, list[str]]:
        """Name the handlers of each namespace, sorted, each once; "" if a template has none."""
        found: dict[str, set[str]] = {}
        for file in TemplatePath.discover_template_files(template_dir):
            for data in _documents(file):
                names = TemplateParser.extract_handlers_from_template(data)
                found.setdefault(data.get("namespace_name") or "", set()).update(names)
        return {namespace: sorted(names) for namespace, names in found.items()}


def _documents(file: Path | str) -> list[dict[str, Any]]:
    try:
        loaded = list(yaml.safe_load_all(Path(file).read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, yaml.YAMLError) as error:
        log.warning("%s cannot be read as a template: %s", file, error)
        return []
    return [document for document in loaded if isinstance(document, dict)]


def _configured_directory() -> Path | None:
    from tasker_core.errors import InvalidSettings
    from tasker_core.settings import Settings

    try:
        return Settings().template_path
    except InvalidSettings as error:
        log.warning("%s", error)
        return None
