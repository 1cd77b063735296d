"""Options as frozen dataclasses, read from and written to TOML, every name and value checked.

The modules own their options; this one only reads them.
"""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import tomli_w

from w2l_jax.errors import UserError

T = TypeVar("T")


def changed(options: T, values: Mapping[str, Any]) -> T:
    """Returns a dataclass with some options changed, by dotted name such as `log.every`."""
    own: dict[str, Any] = {}
    for name, value in values.items():
        group, _, rest = name.partition(".")
        own[group] = changed(own.get(group, getattr(options, group)), {rest: value}) if rest else value
    return dataclasses.replace(options, **own)


def differences(before: Any, after: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any, Mapping[str, Any]]]:
    """Yields dotted name, both values and the field's metadata of every option that differs."""
    for field in dataclasses.fields(after):
        was, now, name = getattr(before, field.name), getattr(after, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(now):
            yield from differences(was, now, f"{name}.")
        elif was != now:
            yield name, was, now, field.metadata


def load(cls: type[T], path: str | Path) -> T:
    """Reads a TOML file into `cls`, every key checked; raises UserError naming file, key and the nearest known name."""
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        path = Path(path)
        near = sorted(str(other) for other in path.parent.glob(f"*{path.stem}*.toml"))
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UserError(f"{path}: no such configuration{hint}") from None
    except (OSError, ValueError, RecursionError) as error:  # ValueError: of TOML, UTF-8, or a number of 5,000 digits
        raise UserError(f"{path}: not valid TOML: {error}") from None
    return from_table(cls, table, str(path))


def from_table(cls: type[T], table: dict[str, Any], where: str) -> T:
    """Builds dataclass `cls` from nested dictionaries; `where` names their origin in messages (UserError)."""
    hints = typing.get_type_hints(cls)
    former = renamed(cls)
    for key, value in table.items():
        if key in former and not (key in hints and isinstance(value, dict)):
            raise UserError(f"{where}: {key!r} is called {former[key]!r}")
    unknown = [key for key in table if key not in hints]
    if unknown:
        near = difflib.get_close_matches(unknown[0], hints, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(hints)}"
        raise UserError(f"{where}: unknown option {unknown[0]!r}; {hint}")
    return cls(**{key: _value(hints[key], value, f"{where}: {key}") for key, value in table.items()})


def to_toml(options: Any) -> str:
    """Returns a dataclass's options as TOML text that `load` reads back to an equal value; None is omitted."""
    return tomli_w.dumps(_table(options))


def _table(options: Any) -> dict[str, Any]:
    values = ((field.name, getattr(options, field.name)) for field in dataclasses.fields(options))
    return {name: _plain(value) for name, value in values if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return _table(value) if dataclasses.is_dataclass(value) else value


def names(cls: type, prefix: str = "") -> Iterator[str]:
    """Yields the dotted names of all options."""
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from names(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def renamed(cls: type, prefix: str = "") -> dict[str, str]:
    """Former names of options: the field metadata `was`, and plain names of options that are now in groups."""
    former: dict[str, str] = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(hints[field.name]):
            former |= renamed(hints[field.name], f"{name}.")
        elif prefix or "was" in field.metadata:
            former[field.metadata.get("was", field.name)] = name
    return former


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where} is a table of options, not {value!r}")
        return from_table(hint, value, where)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        return value if value is None else _value(arms[0], value, where)
    if origin is typing.Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise UserError(f"{where} must be one of {', '.join(map(str, choices))}, not {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} is a list, not {value!r}")
        return tuple(_value(typing.get_args(hint)[0], item, where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if type(value) is not hint:
        raise UserError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return value
