"""Parameters get what was declared for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pydantic
import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field

from tasker_core import errors
from tasker_core.handlers.context import StepContext
from tasker_core.handlers.injection import Injection, Needs


class Cart(BaseModel):
    total: float
    currency: str = "EUR"


class Aliased(BaseModel):
    order_id: str = Field(alias="orderId")


@dataclass
class Line:
    sku: str


@dataclass
class Order:
    customer: str
    lines: list[Line] = field(default_factory=list)
    priority: int = 5


def needs(*inputs: Any, **dependencies: Any) -> Needs:
    made = Needs()
    for parameter, source in dependencies.items():
        made.add_dependency(parameter, source)
    if inputs:
        made.add_inputs(inputs)
    return made


def arguments(function: Callable[..., Any], what: Needs, **given: Any) -> dict[str, Any]:
    context = StepContext.for_testing(**given)
    values = Injection("test", function, what).arguments(context)
    return {name: "CONTEXT" if value is context else value for name, value in values.items()}


# --- which parameter ----------------------------------------------------------------


def test_context_goes_where_it_is_asked_for():
    """To a parameter of that name, with or without underscore, and never into `**kwargs`."""
    assert arguments(lambda context: 0, needs()) == {"context": "CONTEXT"}
    assert arguments(lambda _context: 0, needs()) == {"_context": "CONTEXT"}
    assert arguments(lambda **anything: 0, needs()) == {}
    assert arguments(lambda: 0, needs()) == {}


def test_a_name_may_be_spelled_with_an_underscore():
    """A parameter that is not used may say so by its name."""
    assert arguments(lambda _email: 0, needs("email"), input_data={"email": "a"}) == {"_email": "a"}
    assert arguments(lambda _cart: 0, needs(cart="c"), dependency_results={"c": 1}) == {"_cart": 1}


def test_keyword_arguments_take_what_no_parameter_has():
    """`**kwargs` receives declared names under their own name."""
    given = {"input_data": {"email": "a", "phone": "1"}}

    assert arguments(lambda email, **rest: 0, needs("email", "phone"), **given) == {
        "email": "a",
        "phone": "1",
    }


@pytest.mark.parametrize(
    ("function", "what", "message"),
    [
        (lambda: 0, needs("email"), "no parameter has it"),
        (lambda email, /: 0, needs("email"), "no parameter has it"),
        (lambda *email: 0, needs("email"), "no parameter has it"),
        (lambda cart: 0, needs("cart", cart="c"), "declared twice"),
        (lambda context: 0, needs("context"), "always is the step's context"),
        (lambda order: 0, needs(Cart), "'inputs' is declared, but no parameter has it"),
    ],
)
def test_what_does_not_fit_is_refused(function: Callable[..., Any], what: Needs, message: str):
    """A declaration that no parameter can take is a mistake, and is named."""
    with pytest.raises(TypeError, match=message):
        Injection("test", function, what)


def test_parameters_without_a_value_are_listed():
    """Those without a default that nothing was declared for."""

    def function(a: int, b: int, context: Any, c: int = 1, *args: int, **kwargs: int) -> None: ...

    assert Injection("test", function, needs("a")).unmet == ("b",)


# --- results of earlier steps -------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("cart", {"total": 3}),
        (("cart", dict), {"total": 3}),
        (dict, {"total": 3}),
        (Cart, Cart(total=3)),
        (("cart", Cart), Cart(total=3)),
    ],
)
def test_results_come_plain_or_as_models(source: Any, value: Any):
    """By step name, by model if the names agree, or by both; `dict` is no model."""
    results = {"dependency_results": {"cart": {"total": 3}}}

    assert arguments(lambda cart: 0, needs(cart=source), **results) == {"cart": value}


@pytest.mark.parametrize("result", [None, 3, "text", [1]])
def test_only_objects_become_models(result: Any):
    """A result that is no object, or not there, is given as it is."""
    values = arguments(lambda cart: 0, needs(cart=("c", Cart)), dependency_results={"c": result})

    assert values == {"cart": result}


def test_a_result_model_reads_what_it_wrote():
    """Results are stored by field name, so an aliased model must read both spellings."""
    for stored in ({"order_id": "a"}, {"orderId": "a"}):
        values = arguments(
            lambda order: 0, needs(order=("o", Aliased)), dependency_results={"o": stored}
        )
        assert values["order"].order_id == "a"


def test_results_may_be_dataclasses():
    """A dataclass is filled and checked like a model, down to its parts."""
    stored = {"customer": "Ada", "lines": [{"sku": "a"}], "unknown": 1}

    values = arguments(lambda order: 0, needs(order=("o", Order)), dependency_results={"o": stored})

    assert values == {"order": Order("Ada", [Line("a")])}


def test_a_result_that_does_not_fit_its_model_is_an_error():
    """The model's own error says what is wrong."""
    with pytest.raises(pydantic.ValidationError):
        arguments(lambda cart: 0, needs(cart=("c", Cart)), dependency_results={"c": {}})


@pytest.mark.parametrize("source", [3, None, "", ("cart",), ("cart", "Cart"), (Cart, "cart"), list])
def test_wrong_dependencies_are_refused(source: Any):
    """Neither a step name nor a model."""
    with pytest.raises(TypeError, match=r"depends_on\(cart=…\)"):
        needs(cart=source)


# --- inputs -------------------------------------------------------------------------


class Request(BaseModel):
    email: str | None
    amount: int = 5
    nickname: str | None = None
    phone: str = Field("", alias="phoneNumber")
    city: str = Field("", validation_alias=AliasChoices("town", AliasPath("address", 0, "city")))


def test_a_model_is_filled_from_the_inputs_it_names():
    """Aliases go before names, of several the first that has a value."""
    values = arguments(
        lambda inputs: 0,
        needs(Request),
        input_data={
            "email": "a@b",
            "amount": "7",
            "phoneNumber": "1",
            "address": [{"city": "Turin"}],
            "unknown": 1,
        },
    )

    made = values["inputs"]
    assert (made.email, made.amount, made.phone, made.city) == ("a@b", 7, "1", "Turin")


def test_missing_inputs_leave_defaults_alone():
    """A field with a default keeps it; one without gets None, if its type allows."""
    made = arguments(lambda inputs: 0, needs(Request), input_data={"amount": None})["inputs"]

    assert (made.email, made.amount, made.nickname) == (None, 5, None)
    assert "amount" not in made.model_fields_set
    with pytest.raises(pydantic.ValidationError):
        arguments(lambda inputs: 0, needs(Cart))


@pytest.mark.parametrize("key", ["phone", "phoneNumber"])
def test_an_aliased_field_is_found_by_its_name_too(key: str):
    """Both spellings are understood."""
    assert arguments(lambda inputs: 0, needs(Request), input_data={key: "1"})["inputs"].phone == "1"


@pytest.mark.parametrize("address", [None, 3, [], [{}], {"city": "x"}])
def test_a_path_that_leads_nowhere_is_a_missing_input(address: Any):
    """The default holds."""
    given = {"address": address}
    assert arguments(lambda inputs: 0, needs(Request), input_data=given)["inputs"].city == ""


def test_inputs_may_be_a_dataclass():
    """Defaults, factories and nested dataclasses work as in a model."""
    given = {"customer": "Ada", "lines": [{"sku": "a"}]}

    assert arguments(lambda inputs: 0, needs(Order), input_data=given) == {
        "inputs": Order("Ada", [Line("a")], 5)
    }


def test_a_models_own_permanent_error_passes_through():
    """A validator may say that the step must not be tried again."""

    class Strict(BaseModel):
        amount: int | None = None

        @pydantic.model_validator(mode="after")
        def _check(self) -> Strict:
            raise errors.PermanentError("no amount")

    with pytest.raises(errors.PermanentError, match="no amount"):
        arguments(lambda inputs: 0, needs(Strict))


@pytest.mark.parametrize(
    "wrong", [(Cart, "email"), (Cart, Order), (3,), (None,), (dict,), ("email", Cart)]
)
def test_names_and_models_do_not_mix(wrong: tuple[Any, ...]):
    """Names, or one pydantic model or dataclass."""
    with pytest.raises(TypeError, match=r"inputs\(…\)"):
        needs(*wrong)


def test_a_second_model_is_refused():
    """Stacked decorators merge their names, but there is one parameter `inputs`."""
    what = needs("email")
    what.add_inputs(("email", "phone"))
    what.add_inputs((Cart,))
    what.add_inputs((Cart,))

    assert (what.inputs, what.input_model) == (["email", "phone"], Cart)
    with pytest.raises(TypeError, match="takes one model"):
        what.add_inputs((Order,))
