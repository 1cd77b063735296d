"""Options from three places, defaults < TOML < command line, composed into one checked value.

The modules own their options as frozen dataclasses; this one only reads them. It is also where a script's errors
become messages for people.
"""

import dataclasses
import difflib
import errno
import os
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from w2l_jax.errors import UserError

T = TypeVar("T")

_OUT_OF_MEMORY = (
    "out of device memory: lower --memory.max_microbatch_frames (the update stays the same, cut into smaller pieces) "
    "or give --memory.remat, then lower --batch_size or --model.top_width; --compute_dtype=bfloat16 halves the "
    "activations, and frozen layers need none"
)


def parse(cls: type[T], argv: Sequence[str] | None = None, *, description: str = "", fallback: str | Path = "") -> T:
    """Returns options of dataclass `cls` from the command line `argv` (default: this process's).

    Where `cls` has a field `config`, `--config=file.toml` is read first and the command line overrides it;
    `fallback` is the file used when none is given. Exits with tyro's message (code 2) for an unknown or malformed
    option; raises UserError for a bad TOML file.
    """
    import tyro

    argv = list(sys.argv[1:] if argv is None else argv)
    former = renamed(cls)
    for name in given(argv):
        if now := former.get(name.removeprefix("no_")):
            raise UserError(f"--{name} is called --{now}")
    default = None
    if any(field.name == "config" for field in dataclasses.fields(cls)):
        path = given(argv).get("config") or str(fallback)
        if path:
            default = dataclasses.replace(load(cls, path), config=path)
    if default is None:
        return tyro.cli(cls, args=argv, description=description, use_underscores=True)
    # Lists of tables, such as the corpora of configs/german.toml, belong to files: on the command line each would give
    # nine options more.
    shown = _map_tables(default, default, lambda tables: ())
    chosen = tyro.cli(cls, args=argv, default=shown, description=description, use_underscores=True)
    return _map_tables(chosen, default, lambda tables: tables)


def _map_tables(options: T, original: T, change: Callable[[tuple], tuple]) -> T:
    """Returns `options` with `change` of each list of tables in `original`, at whatever depth, in its place."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(original):
        there = getattr(original, field.name)
        if dataclasses.is_dataclass(there):
            values[field.name] = _map_tables(getattr(options, field.name), there, change)
        elif isinstance(there, tuple) and there and all(map(dataclasses.is_dataclass, there)):
            values[field.name] = change(there)
    return dataclasses.replace(options, **values)


def given(argv: Sequence[str]) -> dict[str, str]:
    """Returns the options that stand on a command line, without values checked: {"config": "a.toml", "resume": ""}."""
    found: dict[str, str] = {}
    for i, argument in enumerate(argv):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            following = argv[i + 1] if i + 1 < len(argv) and not argv[i + 1].startswith("--") else ""
            found[name.replace("-", "_")] = value if equals else following
    return found


def changed(options: T, values: Mapping[str, Any]) -> T:
    """Returns a dataclass with some options, by dotted name such as `log.every`, changed."""
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
    """Reads a TOML file into `cls`, every key checked; raises UserError naming file, key and the nearest right name."""
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such configuration; those that come along are in configs/") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, IsADirectoryError) as error:
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


def renamed(cls: type, prefix: str = "") -> dict[str, str]:
    """Former names of options: what the metadata of a field, `was`, says, and plain names of those in groups now."""
    found: dict[str, str] = {}
    hints = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(hints[field.name]):
            found |= renamed(hints[field.name], f"{name}.")
        elif prefix or "was" in field.metadata:
            found[field.metadata.get("was", field.name)] = name
    return found


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
    if type(value) is not hint:
        raise UserError(f"{where} must be of type {hint.__name__}, not {value!r}")
    return value


def run(main: Callable[[], Any]) -> None:
    """Runs a script's `main`; what a user can put right ends as one message on standard error and exit code 1."""
    try:
        main()
    except UserError as error:
        _stop(str(error))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it can (training: with --resume)", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # who reads the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _stop(f"no space left on the device while writing {error.filename or 'a file'}; free some and run it again")
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            _stop(f"{_OUT_OF_MEMORY}\n({str(error).splitlines()[0] if str(error) else 'MemoryError'})")
        if "No space left on device" in str(error):
            _stop(f"no space left on the device: {str(error).splitlines()[0]}; free some and run it again")
        raise


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, so that the next process of the same shapes starts at once.

    JAX_COMPILATION_CACHE_DIR names another folder; an empty one switches this off.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "w2l_jax" / "xla"))


def _stop(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
