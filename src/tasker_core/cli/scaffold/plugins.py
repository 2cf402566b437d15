"""Find the plugins, and among their templates the one that is meant.

A place to search is a plugin itself, or holds plugins: in its directories, or in the
directory `tasker-cli-plugin` of one of them. Places are, first to last: the paths of
the configuration, what installed packages declare under the entry point
`tasker.plugins`, and the plugin that comes with Tasker. Of two plugins with one name
the first counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasker_core.cli.scaffold.errors import (
    AmbiguousScaffold,
    InvalidPlugin,
    UnknownLanguage,
    UnknownPlugin,
    UnknownScaffold,
)
from tasker_core.cli.scaffold.manifest import MANIFEST, Plugin, ScaffoldTemplate, read_plugin

BUILT_IN = Path(__file__).parent / "python"
ENTRY_POINTS = "tasker.plugins"
NESTED = "tasker-cli-plugin"


@dataclass(frozen=True, slots=True)
class Choice:
    """What the command line says about the template that is meant."""

    language: str | None = None
    framework: str | None = None
    plugin: str | None = None


def find_plugins(paths: Iterable[Path], warn: Callable[[str], None]) -> list[Plugin]:
    """Read every plugin there is; one that cannot be read is told, and left out."""
    found: dict[str, Plugin] = {}
    for directory in (d for root in _roots(paths, warn) for d in _plugin_directories(root)):
        try:
            plugin = read_plugin(directory)
        except InvalidPlugin as error:
            warn(f"this plugin is left out: {error}")
            continue
        first = found.setdefault(plugin.name.lower(), plugin)
        if first.directory.resolve() != directory.resolve():
            warn(f"{directory} is left out: {first.directory} is named {plugin.name}, too")
    return list(found.values())


def list_templates(plugins: Sequence[Plugin], choice: Choice) -> list[ScaffoldTemplate]:
    """Give the templates that a choice leaves.

    Raises:
        UnknownPlugin: There is no plugin of that name.
        UnknownLanguage: No plugin generates that language.
    """
    chosen = list(plugins)
    if choice.plugin is not None:
        chosen = [p for p in chosen if p.name.lower() == choice.plugin.lower()]
        if not chosen:
            raise UnknownPlugin(choice.plugin, sorted(p.name for p in plugins))
    if choice.language is not None:
        known = sorted({p.language.lower() for p in chosen})
        chosen = [p for p in chosen if p.language.lower() == choice.language.lower()]
        if not chosen:
            raise UnknownLanguage(choice.language, known)
    if choice.framework is not None:
        wanted = choice.framework.lower()
        chosen = [p for p in chosen if p.framework is not None and p.framework.lower() == wanted]
    return [template for plugin in chosen for template in plugin.templates]


def choose_template(plugins: Sequence[Plugin], name: str, choice: Choice) -> ScaffoldTemplate:
    """Give the one template that is meant.

    Raises:
        UnknownScaffold: There is none of that name.
        AmbiguousScaffold: Several plugins have one.
        UnknownPlugin: There is no plugin of that name.
        UnknownLanguage: No plugin generates that language.
    """
    templates = list_templates(plugins, choice)
    named = [template for template in templates if template.name.lower() == name.lower()]
    if not named:
        where = f" in the plugin {choice.plugin}" if choice.plugin else ""
        where = where or (f" for {choice.language}" if choice.language else "")
        raise UnknownScaffold(name, sorted({t.name for t in templates}), where)
    if len(named) > 1:
        raise AmbiguousScaffold(name, [(t.plugin.name, t.plugin.language) for t in named])
    return named[0]


# --- places ---------------------------------------------------------------------------------


def _roots(paths: Iterable[Path], warn: Callable[[str], None]) -> Iterator[Path]:
    yield from paths
    yield from _installed(warn)
    yield BUILT_IN


def _plugin_directories(root: Path) -> Iterator[Path]:
    if (root / MANIFEST).is_file():
        yield root
        return
    try:
        children = sorted(child for child in root.iterdir() if child.is_dir())
    except OSError:  # a place that is not there has no plugins
        return
    for child in children:
        for directory in (child, child / NESTED):
            if (directory / MANIFEST).is_file():
                yield directory
                break


def _installed(warn: Callable[[str], None]) -> Iterator[Path]:
    """Give the directories that installed packages declare: a package, or a path in one."""
    from importlib.metadata import entry_points
    from importlib.resources import files

    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            if point.attr:
                yield Path(str(point.load()))
            else:
                yield Path(str(files(point.module)))
        except Exception as error:  # a package that is broken must not break this command
            warn(f"the plugin {point.name} of {point.value} is left out: {error}")
