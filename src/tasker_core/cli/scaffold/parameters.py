"""Read `--param key=value`, and hold it against what the template declares.

Everything that is wrong is said at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tasker_core.cli.scaffold.errors import BadParameters, did_you_mean
from tasker_core.cli.scaffold.manifest import Parameter, ScaffoldTemplate
from tasker_core.cli.scaffold.names import module_problem, name_problem, without_suffix

Value = str | int | bool | list[str]

_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def read_values(
    template: ScaffoldTemplate, words: Iterable[str], options: Mapping[str, str]
) -> dict[str, Value]:
    """Give the value of every parameter that has one.

    Args:
        words: What stood behind `--param`; of two for one key the later counts.
        options: Parameters that have options of their own, such as `style`.

    Raises:
        BadParameters: With everything that is missing, unknown or wrong.
    """
    parameters = {parameter.name: parameter for parameter in template.metadata.parameters}
    given: dict[str, str] = {}
    problems: list[str] = []
    for word in words:
        key, equals, written = word.partition("=")
        if not equals:
            problems.append(f"write --param {key}=VALUE, not --param {key}")
        else:
            given[key.strip()] = written
    given.update(options)
    problems += [
        _unknown(key, parameters, key in options) for key in given if key not in parameters
    ]
    problems += _missing(parameters.values(), given)
    values: dict[str, Value] = {}
    for parameter in parameters.values():
        text = given.get(parameter.name, parameter.default)
        if text is None:
            continue
        try:
            values[parameter.name] = _value(parameter, text)
        except ValueError as error:
            problems.append(f"{parameter.name} is {text!r}, but {error}")
    if problems:
        raise BadParameters(template.name, problems)
    return values


def _unknown(key: str, parameters: Mapping[str, Parameter], is_option: bool) -> str:
    if is_option:
        return f"it has no --{key}"
    return f"it has no parameter {key!r}{did_you_mean(key, parameters)}"


def _missing(parameters: Iterable[Parameter], given: Mapping[str, str]) -> list[str]:
    missing = [
        p.name for p in parameters if p.required and p.default is None and p.name not in given
    ]
    return ["it needs " + " ".join(f"--param {name}=…" for name in missing)] if missing else []


def _value(parameter: Parameter, text: str) -> Value:
    """Read one value.

    Raises:
        ValueError: Says what the value must be.
    """
    if parameter.type == "boolean":
        if text.lower() not in _FLAGS:
            raise ValueError("must be true or false")
        return _FLAGS[text.lower()]
    if parameter.type == "integer":
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError("must be a whole number")
        return int(text)
    if parameter.choices and text not in parameter.choices:
        listed = " or ".join(parameter.choices)
        raise ValueError(f"must be {listed}{did_you_mean(text, parameter.choices)}")
    if parameter.type == "list":
        items = [item.strip() for item in text.split(",") if item.strip()]
        for item in items:
            _check_pattern(parameter, item)
        return items
    if not text.isprintable():
        raise ValueError("must be printable, on one line")
    if parameter.type in ("name", "module"):
        text = text.strip()
        if parameter.strip_suffix is not None:
            text = without_suffix(text, parameter.strip_suffix)
        problem = (name_problem if parameter.type == "name" else module_problem)(text)
        if problem is not None:
            raise ValueError(f"it {problem}" if problem.startswith(("has", "is")) else problem)
    _check_pattern(parameter, text)
    return text


def _check_pattern(parameter: Parameter, text: str) -> None:
    if parameter.pattern is not None and not re.fullmatch(parameter.pattern, text):
        which = f"{text!r} of it " if parameter.type == "list" else ""
        raise ValueError(f"{which}must match {parameter.pattern}")
