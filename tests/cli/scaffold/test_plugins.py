"""Plugins: where they are found, what they must be, and which one is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.scaffold.conftest import files

MANIFEST = """
[plugin]
name = "{name}"
description = "For tests"
version = "1.0.0"
language = "{language}"
framework = "rails"

[[templates]]
name = "{template}"
path = "it"
description = "One file"
"""

METADATA = """
name = "it"
description = "One file"

[[parameters]]
name = "name"
description = "Any"
required = true

[[parameters]]
name = "kind"
description = "Which"
default = "plain"

[[parameters]]
name = "count"
description = "How many"
type = "integer"
default = "2"

[[outputs]]
template = "file.tera"
filename = "{{ name | kebab_case }}.txt"
subdir = "lib/{{ kind }}"

[[outputs]]
template = "more.tera"
filename = "more.txt"
when = "count > 2"
"""

SOURCE = """{# a comment -#}
{% if kind == "plain" %}{{ name | camel_case }}{% else %}{{ name | pascal_case }}{% endif %}
{% for n in range(count) %}{{ n }}{% endfor %}
"""


def write_plugin(directory: Path, name="acme", language="ruby", template="thing", **sources):
    """Write a plugin of one template."""
    (directory / "it").mkdir(parents=True)
    manifest = MANIFEST.format(name=name, language=language, template=template)
    (directory / "tasker-plugin.toml").write_text(manifest)
    given = {"template.toml": METADATA, "file.tera": SOURCE, "more.tera": "more\n", **sources}
    for file, text in given.items():
        (directory / "it" / file).write_text(text)
    return directory


@pytest.fixture
def configure(here):
    """Write the project's configuration."""

    def configure(text: str) -> None:
        (here / ".config").mkdir(exist_ok=True)
        (here / ".config" / "tasker.toml").write_text(f"[cli]\n{text}\n")

    return configure


@pytest.fixture
def plugin(tmp_path, configure):
    """Write a plugin into a place that the project's configuration names."""
    configure('plugin-paths = ["../plugins"]')
    return lambda **more: write_plugin(tmp_path / "plugins" / more.get("name", "acme"), **more)


def test_a_plugin_of_the_project_generates(generate, plugin, here):
    """Also from sources that were written for Tera; the conditions of outputs hold."""
    plugin()
    made = generate("thing", name="XMLReader")
    assert made.exit_code == 0, made.output
    assert made.stdout == "created   lib/plain/xml-reader.txt\n"
    assert (here / "lib/plain/xml-reader.txt").read_text() == "xmlReader\n01\n"
    made = generate("thing", "--plugin", "ACME", name="XMLReader", kind="odd", count=3)
    assert "created   more.txt\n" in made.stdout
    assert (here / "lib/odd/xml-reader.txt").read_text() == "XmlReader\n012\n"


def test_the_configuration_is_found_from_below(template, plugin, here, monkeypatch):
    """Paths in it are relative to the project, wherever one stands."""
    plugin()
    (here / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(here / "deep" / "er")
    assert "thing" in template("list").stdout


@pytest.mark.parametrize(
    ("file", "table"),
    [(".tasker-ctl.toml", ""), ("pyproject.toml", "[tool.tasker.cli]\n")],
)
def test_other_places_of_the_configuration(template, here, tmp_path, file, table):
    """Each project has its own habits."""
    write_plugin(tmp_path / "plugins" / "acme")
    (here / file).write_text(f'{table}plugin-paths = ["../plugins/acme"]\n')
    assert "thing" in template("list").stdout


def test_the_users_configuration_adds_to_it(template, plugin, tmp_path):
    """Its plugins come behind those of the project."""
    plugin()
    write_plugin(tmp_path / "config" / "mine", name="mine", template="other")
    (tmp_path / "config" / "tasker-ctl.toml").write_text('plugin-paths = ["mine"]')
    names = [line.split()[0] for line in template("list").stdout.splitlines()]
    assert names[1:4] == ["thing", "other", "step_handler"]


def test_an_installed_package_declares_a_plugin(template, tmp_path, monkeypatch):
    """Under the entry point tasker.plugins, as a package or as a path in one."""
    write_plugin(tmp_path / "site" / "acme_scaffold").joinpath("__init__.py").write_text("")
    about = tmp_path / "site" / "acme-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    points = "[tasker.plugins]\nacme = acme_scaffold\nbad = nowhere_at_all\n"
    (about / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    listed = template("list")
    assert listed.exit_code == 0
    assert "thing" in listed.stdout
    assert "the plugin bad of nowhere_at_all is left out" in listed.stderr


def test_a_plugin_in_a_repository_of_many_things(template, tmp_path, configure):
    """In the directory tasker-cli-plugin of one of its directories, and no deeper."""
    write_plugin(tmp_path / "many" / "ruby" / "tasker-cli-plugin")
    write_plugin(tmp_path / "many" / "a" / "b" / "c", name="deep", template="hidden")
    configure('plugin-paths = ["../many", "../nowhere"]')
    listed = template("list")
    assert "thing" in listed.stdout
    assert "hidden" not in listed.stdout
    assert listed.stderr == ""


def test_a_broken_plugin_is_left_out_with_a_warning(template, plugin):
    """The others still work."""
    (plugin() / "tasker-plugin.toml").write_text("[plugin]\nname = 1\n")
    listed = template("list")
    assert listed.exit_code == 0
    assert "step_handler" in listed.stdout
    assert "left out" in listed.stderr
    assert "the plugin needs a name, as text" in listed.stderr


def test_of_two_plugins_with_one_name_the_first_counts(template, plugin, tmp_path):
    """And the other is told."""
    plugin()
    write_plugin(tmp_path / "plugins" / "zulu", name="ACME", template="other")
    listed = template("list")
    assert "thing" in listed.stdout
    assert "other" not in listed.stdout
    assert "zulu is left out" in listed.stderr


def test_a_template_that_two_have_must_be_told_apart(generate, plugin):
    """By the language or by the plugin."""
    plugin(name="other-python", language="python", template="step_handler")
    refused = generate("step_handler", "--language", "python", name="X")
    assert refused.exit_code == 2
    assert "other-python (python), tasker-python (python)" in refused.stderr
    assert "--plugin other-python" in refused.stderr
    assert generate("step_handler", "--plugin", "tasker-python", name="X").exit_code == 0


def test_a_default_language_holds_where_no_plugin_is_named(generate, plugin, configure):
    """So that every plugin stays within reach."""
    plugin(template="task_template")
    configure('plugin-paths = ["../plugins"]\ndefault-language = "ruby"')
    made = generate("task_template", name="X")
    assert made.stdout == "created   lib/plain/x.txt\n"
    made = generate("task_template", "-l", "python", name="X", handler_callable="y")
    assert made.stdout == "created   x.yaml\n"
    made = generate("step_handler", "--plugin", "tasker-python", name="X")
    assert made.exit_code == 0


def test_a_default_directory(generate, configure, here):
    """Relative to the project; --output goes before it."""
    configure('default-output-dir = "made"')
    assert generate("task_template", name="X", handler_callable="y").exit_code == 0
    assert generate("task_template", "-o", ".", name="X", handler_callable="y").exit_code == 0
    assert {"made/x.yaml", "x.yaml"} <= set(files(here))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("plugin-paths = 1", "plugin-paths must be a list"),
        ("default-language = 1", "default-language must be text"),
        ("= 1", "cannot be read"),
    ],
)
def test_a_broken_configuration_is_told(template, configure, text, problem):
    """With its path; nothing goes on as if it were not there."""
    configure(text)
    refused = template("list")
    assert refused.exit_code == 3
    assert ".config/tasker.toml" in refused.stderr
    assert problem in refused.stderr


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ nothing }}", "file.tera: 'nothing' is undefined"),
        ("a\n{% if %}", "file.tera:2: "),
        ("{{ count | snake_case }}", "file.tera: the filter snake_case needs text, not 2"),
        ("{% include 'lost.tera' %}", "there is no source 'lost.tera' beside it"),
        ("{{ name.__class__.__mro__ }}", "unsafe"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
)
def test_a_broken_source_is_told(generate, plugin, here, source, problem):
    """With its name; nothing is written."""
    plugin(**{"file.tera": source})
    refused = generate("thing", name="X")
    assert refused.exit_code == 3
    assert problem in refused.stderr
    assert files(here) == [".config/tasker.toml"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            'filename = "more.txt"',
            'filename = "../more.txt"',
            "'../more.txt', which cannot be written",
        ),
        ('filename = "more.txt"', 'filename = "/more.txt"', "which cannot be written"),
        ('filename = "more.txt"', "filename = \"{{ kind and '' }}\"", "which cannot be written"),
        ('when = "count > 2"', 'when = "lost > 2"', "template.toml: 'lost' is undefined"),
        ('type = "integer"', 'type = "int"', "count has type 'int'; types are"),
        ('name = "kind"', 'name = "name"', "the parameter name is there twice"),
        ('filename = "more.txt"', "", "an output needs a filename, as text"),
        ('default = "plain"', "default = 1", "default of kind must be text"),
    ],
)
def test_broken_metadata_are_told(generate, plugin, here, old, new, problem):
    """With the file that they are in; nothing is written."""
    metadata = METADATA.replace('when = "count > 2"', "") if "when" not in old else METADATA
    plugin(**{"template.toml": metadata.replace(old, new)})
    refused = generate("thing", name="X")
    assert refused.exit_code == 3
    assert problem in refused.stderr
    assert files(here) == [".config/tasker.toml"]


def test_only_the_framework_that_is_asked_for(template, plugin):
    """A plugin without one is of none."""
    plugin()
    data = json.loads(template("list", "-f", "Rails", "--json").stdout)
    assert [item["name"] for item in data["items"]] == ["thing"]


def test_python_of_other_plugins_can_be_imported_where_it_is(generate, plugin, here):
    """Their files go into the package, too, that their parameter module_name names."""
    metadata = METADATA.replace('name = "kind"', 'name = "module_name"').replace(
        'subdir = "lib/{{ kind }}"', ""
    )
    metadata = metadata.replace("| kebab_case }}.txt", "| snake_case }}_handler.py")
    plugin(
        name="acme-python",
        language="python",
        **{"template.toml": metadata, "file.tera": "class {{ name }}:\n    pass\n"},
    )
    assert generate("thing", name="Ours", module_name="ours.steps").exit_code == 0
    assert (here / "ours/steps/ours_handler.py").is_file()
    assert "from .ours_handler import Ours\n" in (here / "ours/steps/__init__.py").read_text()
