"""Take names apart into words, and put them together in the way of each place.

>>> snake_case("ValidateCart"), pascal_case("validate-cart"), kebab_case("XMLHttpRequest")
('validate_cart', 'ValidateCart', 'xml-http-request')
"""

from __future__ import annotations

import keyword
import re
import sys

MAX_NAME = 60  # so that file names and lines keep a length that people can read

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 _-]*")


def words(text: str) -> list[str]:
    """Split a name into its words, as they are written.

    A word ends at every character that is no letter and no digit, where a capital
    follows a small letter, and before the last capital of several if a small letter
    follows. A digit begins no word.

    >>> words("OAuth2Client"), words("FIELD_NAME11"), words("abc123DEF456")
    (['O', 'Auth2', 'Client'], ['FIELD', 'NAME11'], ['abc123', 'DEF456'])
    """
    found: list[str] = []
    for chunk in re.split(r"[\W_]+", text):
        start, case = 0, ""
        for at, char in enumerate(chunk[:-1]):
            after = chunk[at + 1]
            here = "lower" if char.islower() else "upper" if char.isupper() else case
            if here == "lower" and after.isupper():
                found.append(chunk[start : at + 1])
                start, case = at + 1, ""
            elif case == "upper" and char.isupper() and after.islower():
                found.append(chunk[start:at])
                start, case = at, ""
            else:
                case = here
        found.append(chunk[start:])
    return [word for word in found if word]


def snake_case(text: str) -> str:
    """Join the words of a name like `validate_cart`."""
    return "_".join(word.lower() for word in words(text))


def kebab_case(text: str) -> str:
    """Join the words of a name like `validate-cart`."""
    return "-".join(word.lower() for word in words(text))


def pascal_case(text: str) -> str:
    """Join the words of a name like `ValidateCart`."""
    return "".join(word[0].upper() + word[1:].lower() for word in words(text))


def camel_case(text: str) -> str:
    """Join the words of a name like `validateCart`."""
    first, *rest = words(text) or [""]
    return first.lower() + pascal_case(" ".join(rest))


def without_suffix(text: str, suffix: str) -> str:
    """Take a last word away, if there is one before it.

    >>> without_suffix("ValidateCartHandler", "handler"), without_suffix("cart_handler", "handler")
    ('ValidateCart', 'cart')
    """
    parts = words(text)
    if len(parts) < 2 or parts[-1].lower() != suffix.lower():
        return text
    return text[: text.rindex(parts[-1])].rstrip(" _-")


def name_problem(text: str) -> str | None:
    """Say why something cannot be the name of generated code; None if it can."""
    if not _NAME.fullmatch(text):
        return "must be letters a-z and digits, beginning with a letter, like ValidateCart"
    if len(text) > MAX_NAME:
        return f"has {len(text)} characters, but may have {MAX_NAME}"
    if keyword.iskeyword(snake_case(text)) or keyword.iskeyword(pascal_case(text)):
        return "is a word of Python itself"
    return None


def module_problem(text: str) -> str | None:
    """Say why something cannot be the dotted name of a new package; None if it can."""
    parts = text.split(".")
    for part in parts:
        if not (part.isascii() and part.isidentifier()):
            return "must be a dotted module name, like handlers.ecommerce"
        if keyword.iskeyword(part):
            return f"has {part}, which is a word of Python itself"
    if parts[0] in sys.stdlib_module_names or parts[0] == "tasker_core":
        return f"would hide the package {parts[0]}, which is installed"
    if parts[0] == "tests":
        return "would put handlers among the tests"
    return None
