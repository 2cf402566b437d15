"""How the parameters of a decorated function get their values.

`depends_on` and `inputs` collect what a function needs; `Injection` compares that
with its parameters once, and then reads the values from each attempt's context,
by `get_input` and `get_dependency_result` with one argument and nothing else, so
that a test may stand in for the context with those two.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from inspect import Parameter
from typing import Any, TypeAlias, cast

from pydantic import AliasChoices, AliasPath, BaseModel, TypeAdapter

from tasker_core.handlers.context import StepContext

_Read: TypeAlias = Callable[[StepContext], Any]

_MISSING = dataclasses.MISSING
_BY_KEYWORD = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


@dataclass
class Needs:
    """What a function has declared so far, by decorators in any order."""

    dependencies: dict[str, str] = field(default_factory=dict)  # parameter → step name
    models: dict[str, type] = field(default_factory=dict)  # parameter → model of its result
    inputs: list[str] = field(default_factory=list)  # fields of the task's context
    input_model: type | None = None  # fills the parameter `inputs`

    def add_dependency(self, parameter: str, source: object) -> None:
        """Note a step name, a model, or a pair of both."""
        model: object
        if isinstance(source, tuple) and len(source) == 2:
            step, model = source
        elif isinstance(source, str):
            step, model = source, dict
        else:
            step, model = parameter, source
        if not isinstance(step, str) or not step:
            raise TypeError(
                f"depends_on({parameter}=…) must be a step name, a model, or both in a "
                f"tuple (step name, model), not {source!r}"
            )
        self.dependencies[parameter] = step
        self.models.pop(parameter, None)
        if model is not dict:
            self.models[parameter] = _checked_model(f"depends_on({parameter}=…)", model)

    def add_inputs(self, keys_or_model: tuple[object, ...]) -> None:
        """Note names of inputs, or one model of them."""
        keys = [key for key in keys_or_model if isinstance(key, str)]
        models = [key for key in keys_or_model if not isinstance(key, str)]
        if models and (keys or len(models) > 1):
            raise TypeError("inputs(…) takes names, or one model and nothing else")
        for model in models:
            checked = _checked_model("inputs(…)", model)
            if self.input_model not in (None, checked):
                raise TypeError("inputs(…) takes one model, but two were given")
            self.input_model = checked
        self.inputs.extend(key for key in keys if key not in self.inputs)


class Injection:
    """How one function is called for an attempt.

    A declared name `x` goes to the parameter `x`, else `_x`, else into `**kwargs`.
    `context` goes to a parameter `context` or `_context`, if there is one; so does an
    extra value that the kind of handler has to give, and to `**kwargs`, too.

    Attributes:
        unmet: Parameters without a default that nothing was declared for.
        extra: The parameter of the extra value; None if the function does not take it.

    Raises:
        TypeError: Something is declared that no parameter takes.
    """

    def __init__(
        self,
        handler: str,
        function: Callable[..., Any],
        needs: Needs,
        extra: str | None = None,
    ) -> None:
        self._handler = handler
        self._where = f"handler {handler!r}, function {getattr(function, '__name__', function)}()"
        parameters = inspect.signature(function).parameters
        self._by_keyword = {n: p for n, p in parameters.items() if p.kind in _BY_KEYWORD}
        self._takes_any = any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values())
        self._reads: dict[str, _Read] = {}
        for declared, read in _declared_reads(needs):
            self._add(declared, read)
        self._context = self._parameter("context")
        self.extra = None if extra is None else self._parameter(extra)
        if self._context in self._reads:
            raise TypeError(f"{self._where}: {self._context!r} always is the step's context")
        if extra is not None and {extra, self.extra} & self._reads.keys():
            raise TypeError(f"{self._where}: {extra!r} always is what the decorator gives")
        if extra is not None and self.extra is None and self._takes_any:
            self.extra = extra
        self.unmet = tuple(
            name
            for name, parameter in parameters.items()
            if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
            and parameter.default is Parameter.empty
            and name not in self._reads
            and name not in (self._context, self.extra)
        )

    def arguments(self, context: StepContext) -> dict[str, Any]:
        """Read the values for one attempt; what is missing is None."""
        arguments = {parameter: read(context) for parameter, read in self._reads.items()}
        if self._context is not None:
            arguments[self._context] = context
        return arguments

    def unmet_message(self) -> str:
        """Say which parameters nothing was declared for, and what to do."""
        return (
            f"{self._where}: nothing gives a value to {', '.join(self.unmet)}; declare it with "
            f"depends_on or inputs, or give it a default"
        )

    def _parameter(self, name: str) -> str | None:
        return next((n for n in (name, f"_{name}") if n in self._by_keyword), None)

    def _add(self, declared: str, read: _Read) -> None:
        parameter = self._parameter(declared)
        if parameter is None:
            if not self._takes_any:
                raise TypeError(f"{self._where}: {declared!r} is declared, but no parameter has it")
            parameter = declared
        if parameter in self._reads:
            raise TypeError(f"{self._where}: {declared!r} is declared twice")
        self._reads[parameter] = read


def _declared_reads(needs: Needs) -> Iterator[tuple[str, _Read]]:
    for parameter, step in needs.dependencies.items():
        model = needs.models.get(parameter)
        yield parameter, _result_of(step, None if model is None else _Model(model))
    for key in needs.inputs:
        yield key, _input(key)
    if needs.input_model is not None:
        yield "inputs", _Model(needs.input_model).from_inputs


def _result_of(step: str, model: _Model | None) -> _Read:
    if model is None:
        return lambda context: context.get_dependency_result(step)

    def read(context: StepContext) -> Any:
        result = context.get_dependency_result(step)
        return model.validate(result) if isinstance(result, Mapping) else result

    return read


def _input(key: str) -> _Read:
    return lambda context: context.get_input(key)


class _Model:
    """A pydantic model or a dataclass, filled from plain data.

    Looked into only when it is first used: until then it may refer to classes that
    its module has yet to define.
    """

    def __init__(self, model: type) -> None:
        self._model = model

    def validate(self, value: Any) -> Any:
        """Make the model. Results are stored by field name, inputs often come by alias."""
        return self._adapter.validate_python(value, by_alias=True, by_name=True)

    def from_inputs(self, context: StepContext) -> Any:
        """Make the model from the task's context; a field with a default may be missing."""
        data = {}
        for name, paths, has_default in self._fields:
            value = next((v for path in paths if (v := _follow(path, context)) is not None), None)
            if value is not None or not has_default:
                data[name] = value
        return self.validate(data)

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        return TypeAdapter(self._model)

    @cached_property
    def _fields(self) -> list[tuple[str, list[list[str | int]], bool]]:
        """Name, the paths where its input may be, whether it has a default."""
        if issubclass(self._model, BaseModel):
            return [
                (name, [*_alias_paths(info.validation_alias), [name]], not info.is_required())
                for name, info in self._model.model_fields.items()
            ]
        return [
            (f.name, [[f.name]], f.default is not _MISSING or f.default_factory is not _MISSING)
            for f in dataclasses.fields(cast(Any, self._model))
            if f.init
        ]


def _alias_paths(alias: str | AliasPath | AliasChoices | None) -> list[list[str | int]]:
    if alias is None:
        return []
    if isinstance(alias, AliasChoices):
        return [path for choice in alias.choices for path in _alias_paths(choice)]
    return [list(alias.path) if isinstance(alias, AliasPath) else [alias]]


def _follow(path: list[str | int], context: StepContext) -> Any:
    value = context.get_input(str(path[0]))
    for key in path[1:]:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _checked_model(where: str, model: object) -> type:
    if isinstance(model, type) and (
        issubclass(model, BaseModel) or dataclasses.is_dataclass(model)
    ):
        return model
    raise TypeError(f"{where} takes a pydantic model or a dataclass, not {model!r}")
