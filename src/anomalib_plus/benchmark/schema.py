"""Convert YAML to dataclasses, with errors that name the key and the values it takes."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Dataclass = TypeVar("Dataclass")


class PlanError(ValueError):
    """Error in a configuration; the message names the key and the reason."""


def read(kind: type[Dataclass], value: Any, place: str) -> Dataclass:
    """Convert a mapping from YAML, and mappings nested in it, to a dataclass.

    ``place`` is the path of the value for messages, e.g. ``models[0].budget``. A PlanError if a key is unknown or
    missing, or a value has the wrong type.
    """
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if not isinstance(value, Mapping):
        msg = f"{place} must be a mapping with the keys {', '.join(known)}, got {value!r}."
        raise PlanError(msg)
    for key in value:
        if key not in known:
            similar = difflib.get_close_matches(str(key), known, n=1)
            guess = f" Did you mean {similar[0]}?" if similar else ""
            msg = f"{place} has no key {key!r}.{guess} Its keys are {', '.join(known)}."
            raise PlanError(msg)
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            msg = f"{place} needs the key {name!r}."
            raise PlanError(msg)
    hints = get_type_hints(kind)
    try:
        return kind(**{key: _convert(hints[key], item, f"{place}.{key}") for key, item in value.items()})
    except PlanError:
        raise
    except ValueError as error:
        msg = f"{place}: {error}"
        raise PlanError(msg) from error


def _convert(hint: Any, value: Any, place: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, UnionType):
        return _convert_union(arguments, value, place)
    if origin is Literal:
        if value not in arguments:
            msg = f"{place} must be one of {', '.join(map(repr, arguments))}, got {value!r}."
            raise PlanError(msg)
        return value
    if is_dataclass(hint):
        return read(hint, value, place)  # type: ignore[arg-type]
    if origin is tuple and isinstance(value, Sequence) and not isinstance(value, str):
        items = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else list(arguments)
        if len(items) == len(value):
            return tuple(_convert(item, part, f"{place}[{i}]") for i, (item, part) in enumerate(zip(items, value)))  # noqa: B905 -- equal
    plain = origin or hint
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, plain) and not (isinstance(value, bool) and plain is not bool):
        return value
    msg = f"{place} must be {_describe(hint)}, got {value!r}."
    raise PlanError(msg)


def _convert_union(members: Sequence[Any], value: Any, place: str) -> Any:
    if value is None and type(None) in members:
        return None
    real = [member for member in members if member is not type(None)]
    if len(real) == 1:
        return _convert(real[0], value, place)
    if isinstance(value, tuple(real)) and not isinstance(value, bool):
        return value
    msg = f"{place} must be {' or '.join(map(_describe, real))}, got {value!r}."
    raise PlanError(msg)


def _describe(hint: Any) -> str:
    names = {int: "an integer", float: "a number", str: "a string", bool: "true or false", dict: "a mapping"}
    plain = get_origin(hint) or hint
    if plain is tuple:
        arguments = get_args(hint)
        return "a list" if arguments[-1] is Ellipsis else f"a list of {len(arguments)}"
    return names.get(plain, getattr(plain, "__name__", str(plain)))
