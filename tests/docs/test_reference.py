"""The reference says what the code says: no setting, option, endpoint, key or code is missing.

Each test reads one page and compares it with the thing that the page is about. further
down: every template and every Python block of the documentation can be read, and every
link leads somewhere. No database is needed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasker_core.cli.main import ENTRIES, app, load
from tasker_core.db.migrate import FUNCTIONS, MIGRATIONS
from tasker_core.server import permissions, problems
from tasker_core.server.app import create_app
from tasker_core.settings import Settings, variable
from tasker_core.templates import shape, steps
from tasker_core.templates.load import parse_template

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "ARCHITECTURE.md"])


def page(name: str) -> str:
    """Read a page of the reference without its blocks of code."""
    return without_code((REFERENCE / name).read_text(encoding="utf-8"))


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def section(text: str, title: str) -> str:
    """Give what stands between a heading and the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}$", text, re.MULTILINE)
    assert found, f"there is no heading {title!r}"
    rest = text[found.end() :]
    after = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: after.start()] if after else rest


def rows(text: str) -> list[list[str]]:
    """Give the cells of every table row but the headings."""
    found = []
    for line in re.findall(r"^\|(.*)\|$", text, re.MULTILINE):
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)]
        if set(cells[0]) <= set("-: "):
            found.pop()
            continue
        found.append(cells)
    return found


def first_words(text: str) -> list[str]:
    """Give what stands in backquotes at the start of every table row."""
    words = [re.match(r"`([^`]+)`", cells[0]) for cells in rows(text)]
    return [word[1] for word in words if word]


# --- settings -----------------------------------------------------------------------------


def test_settings_are_those_of_the_program():
    """Every field with its variable and default, in the program's order."""
    told = [cells[:3] for cells in rows(section(page("settings.md"), "The settings"))]

    assert told == [
        [f"`{name}`", f"`{variable(name)}`", _default(field.default)]
        for name, field in Settings.model_fields.items()
    ]


def test_bounds_of_settings_are_those_of_the_program():
    """Where a bound is told, it is the one that is checked; where there is one, it is told."""
    for name, *_, bounds, _ in rows(section(page("settings.md"), "The settings")):
        field = Settings.model_fields[name.strip("`")]
        limits = {
            key: getattr(item, key)
            for item in field.metadata
            for key in ("ge", "gt", "le")
            if getattr(item, key, None) is not None
        }
        numbers = [float(n.replace("\u202f", "")) for n in re.findall(r"\d[\d\u202f.]*", bounds)]
        if "gt" in limits:
            assert "above" in bounds
        assert sorted(numbers) == sorted(map(float, limits.values())), name


def _default(value: Any) -> str:
    if value is None:
        return "unset"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


# --- command line ---------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, Any]]:
    """Give every command with what stands on the line before its arguments."""
    from typer.main import get_command

    yield "tasker-ctl", get_command(app)
    for entry in ENTRIES:
        yield from _below(f"tasker-ctl {entry}", load(entry))


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for inner, its_command in command.commands.items():
        yield from _below(f"{name} {inner}", its_command)


def table_of(command: Any) -> str:
    """Write a command's arguments and options as the page shows them."""
    lines = ["| argument or option | default | what it does |", "| --- | --- | --- |"]
    for option in command.params:
        if option.name in ("help", "install_completion", "show_completion"):
            continue
        lines.append(f"| {_spelling(option)} | {_value(option)} | {_help(option)} |")
    return "\n".join(lines)


def _spelling(option: Any) -> str:
    if option.param_type_name == "argument":
        return f"`{option.metavar}`"
    value = "" if option.is_flag or option.count else f" {option.metavar or _kind(option)}"
    names = [*option.opts, *option.secondary_opts]
    return f"`{names[0]}{value}`" + "".join(f", `{name}`" for name in names[1:])


def _kind(option: Any) -> str:
    kind = getattr(option.type_descriptor.annotation, "__name__", "")
    return {"float": "NUMBER", "int": "NUMBER", "UUID": "UUID", "Format": "FORMAT"}.get(
        kind, "TEXT"
    )


def _value(option: Any) -> str:
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    if option.default in (None, False, 0, "", [], ()) and option.name != "priority":
        return ""
    if option.param_type_name == "option" and option.secondary_opts:
        return f"`{option.opts[0]}`"
    return f"`{getattr(option.default, 'value', option.default)}`"


def _help(option: Any) -> str:
    said = option.help
    low, high = option.min, option.max
    if (low is not None or high is not None) and not getattr(option, "count", False):
        said += f" From {low} to {high}." if high is not None else f" At least {low}."
    if option.envvar:
        said += f" Variable: `{option.envvar}`."
    return said


def commands_page() -> str:
    """Write the part of the page that tells the commands."""
    parts = []
    for name, command in commands():
        said = [line.strip() for line in str(command.help).splitlines()]
        said = [f"`{line}`" if line.startswith("tasker-ctl") else line for line in said]
        if name == "tasker-ctl":
            said = [_EVERYWHERE]
        parts.append("\n".join([f"## `{name}`", "", *said, "", table_of(command)]))
    return "\n\n".join(parts) + "\n"


_EVERYWHERE = (
    "These hold for every command, and may stand anywhere on the line, "
    "except where the command has an option of that name itself."
)
_FIRST_COMMAND = "## `tasker-ctl`\n"


def test_every_command_is_told_with_its_options():
    """From the first command on, the page is what `commands_page` writes."""
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")

    assert text[text.index(_FIRST_COMMAND) :] == commands_page()


def test_no_command_is_shown_that_does_not_exist():
    """On any page."""
    known = {name for name, _ in commands()}
    groups = {name for name in ENTRIES if hasattr(load(name), "commands")}
    for path in PAGES:
        for group, command in re.findall(
            r"tasker-ctl (\w+) +([a-z][a-z-]+)", path.read_text(encoding="utf-8")
        ):
            if group in groups:
                assert f"tasker-ctl {group} {command}" in known, path


def test_exit_codes_are_those_of_the_program():
    """Each number of the page is one of ExitCode, and the other way round."""
    from tasker_core.cli.failures import ExitCode

    told = [int(cells[0].strip("`")) for cells in rows(section(page("cli.md"), "Exit codes"))]
    assert told == [int(code) for code in ExitCode]


# --- HTTP -------------------------------------------------------------------------------------


def test_endpoints_are_those_of_the_server():
    """Every method and path, once each, as a heading."""
    told = re.findall(r"^### `(\w+) (/[^`]*)`$", page("http.md"), re.MULTILINE)
    paths = create_app(Settings(database_url="postgresql://nowhere/none")).openapi()["paths"]
    known = [(method.upper(), path) for path, methods in paths.items() for method in methods]

    assert sorted(told) == sorted(known)


def test_permissions_are_those_of_the_server():
    """The vocabulary, the roles, and every route that is served with what it asks for."""
    app = create_app(Settings(database_url="postgresql://nowhere/none"))
    served = {
        f"{method} {route.path}" for route in app.state.api_routes for method in route.methods
    }
    told = {cells[0]: cells[1] for cells in rows(section(page("http.md"), "Who calls"))}

    assert told == {
        **{f"`{word}`": what for word, what in permissions.PERMISSIONS.items()},
        **{f"`{role}`": _words(words) for role, words in permissions.ROLES.items()},
        **{
            f"`{route}`": _words(words, " or ") or "any credential"
            for route, words in permissions.ROUTES.items()
            if route in served
        },
    }


def _words(words: tuple[str, ...], between: str = ", ") -> str:
    return between.join(f"`{word}`" for word in words)


def test_error_codes_are_those_of_the_server():
    """Every code that a problem may carry, with its status."""
    source = (ROOT / "src/tasker_core/server").rglob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in source)
    known = {(str(status), code) for status, code in problems._BY_CLASS.values()}
    known |= {(str(status), code) for status, code in problems._BY_STATUS.items()}
    known |= set(re.findall(r'(\d{3}), "([A-Z_]{4,})"', text))
    told = {(cells[0], cells[1].strip("`")) for cells in rows(section(page("http.md"), "Errors"))}

    assert told == known


# --- templates --------------------------------------------------------------------------------

BLOCKS = {
    "The template": shape.TEMPLATE_KEYS,
    "`task_handler`": shape.TASK_HANDLER_KEYS,
    "`system_dependencies`": shape.SYSTEM_KEYS,
    "`domain_events`": shape.DOMAIN_EVENT_KEYS,
    "`lifecycle`": shape.LIFECYCLE_KEYS,
    "`environments`": steps.OVERRIDE_KEYS,
    "A step": steps.STEP_KEYS,
    "`handler`": steps.HANDLER_KEYS,
    "`retry`": steps.RETRY_KEYS,
    "`batch_config`": steps.BATCH_KEYS,
    "`publishes_events`": steps.EVENT_KEYS,
}


@pytest.mark.parametrize("title", BLOCKS)
def test_template_keys_are_those_that_are_read(title):
    """Every key of every block, the old words included, once each."""
    own = section(page("template.md"), title).split("\n###")[0]

    assert sorted(first_words(own)) == sorted(BLOCKS[title])


def test_finding_codes_are_those_of_the_program():
    """Every code that a check can give, once each."""
    source = (ROOT / "src/tasker_core/templates").glob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in source)
    known = set(re.findall(r'"([A-Z]{2,}(?:_[A-Z]+)+)"', text))

    assert sorted(first_words(section(page("template.md"), "Findings"))) == sorted(known)


# --- schema -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "title"), [("table", "Tables"), ("view", "Views"), ("function", "Functions")]
)
def test_the_schema_is_told_whole(kind, title):
    """Every table of the migrations, every view and function of the engine's files."""
    files = [*MIGRATIONS.iterdir(), *FUNCTIONS.iterdir()]
    text = "".join(file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql"))
    known = re.findall(rf"^create {kind} tasker\.(\w+)", text, re.MULTILINE)
    part = section(page("schema.md"), title)
    told = first_words(part) + re.findall(r"^### `(\w+)`$", part, re.MULTILINE)

    assert sorted(told) == sorted(known)


# --- everything that is shown -----------------------------------------------------------------


def blocks(language: str) -> list[Any]:
    found = []
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 2
            found.append(pytest.param(match[1], id=f"{path.relative_to(ROOT)}:{line}"))
    return found


@pytest.mark.parametrize("text", blocks("yaml"))
def test_every_template_shown_is_valid(text):
    """A YAML block is a whole template without errors; what is only a part says `yml`."""
    report = parse_template(text)

    assert report.valid, "\n".join(map(str, report.findings))


@pytest.mark.parametrize("text", blocks("yml"))
def test_every_part_of_a_template_shown_can_be_read(text):
    """Steps, or keys of one step, put into a template of their own."""
    lines = text.splitlines()
    is_list = lines[0].startswith("- ")
    if not is_list:
        lines = ["- name: shown", *(f"  {line}" for line in lines)]
        if not any(line.startswith("  handler:") for line in lines):
            lines.append("  handler: {callable: shown}")
    head = "name: shown\nnamespace_name: docs\nversion: 1.0.0\nsteps:\n"
    report = parse_template(head + "\n".join(f"  {line}" for line in lines))

    assert report.valid, "\n".join(map(str, report.findings))


@pytest.mark.parametrize("text", blocks("python"))
def test_every_python_block_compiles(text):
    """And what it imports from the project is there."""
    tree = ast.parse(text)
    compile(tree, "<docs>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tasker_core"):
            module = __import__(node.module or "", fromlist=["*"])
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module}.{name.name}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    """To a file, and to a heading in it."""
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        if anchor:
            assert anchor in _anchors(found.read_text(encoding="utf-8")), target


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", without_code(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


if __name__ == "__main__":
    target = REFERENCE / "cli.md"
    written = target.read_text(encoding="utf-8")
    head = written[: written.index(_FIRST_COMMAND)]
    target.write_text(head + commands_page(), encoding="utf-8")
