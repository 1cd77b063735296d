"""Common to all scripts: options from defaults < TOML < command line, and errors as messages for users."""

import contextlib
import dataclasses
import difflib
import errno
import functools
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from w2l_jax import config
from w2l_jax.errors import UserError

T = TypeVar("T")
_formatwarning = warnings.formatwarning

_NAMES: set[str] = set()  # of all options that this process has parsed
_GROUPED: dict[str, str] = {}
"""Options in groups by their last names, as the library calls them, of the script that was parsed last."""

_OUT_OF_MEMORY = (
    "out of device memory: lower --memory.max_microbatch_frames (the same update, in smaller pieces) "
    "or give --memory.remat, then lower --batch_size or --model.top_width; --compute_dtype=bfloat16 halves the "
    "activations, and frozen layers need none; --memory.resident=off leaves the training features in their files"
)

_CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def parse(
    cls: type[T],
    argv: Sequence[str] | None = None,
    *,
    description: str = "",
    fallback: Callable[[T], str] = lambda options: "",
) -> T:
    """Returns options of dataclass `cls` from the command line `argv` (default: this process's).

    If `cls` has a field `config`, that TOML file is read first and the command line overrides it; `fallback` may name a
    default file for the given options. Exits with tyro's message (code 2) for an unknown or malformed option; raises
    UserError for a former name, for a bad TOML file and for what a dataclass refuses.
    """
    import tyro

    argv = list(sys.argv[1:] if argv is None else argv)
    _NAMES.update(config.names(cls))
    former, known = config.renamed(cls), {*config.names(cls), "as", "help"}
    _GROUPED.clear()
    _GROUPED.update({name: now for name, now in former.items() if "_" in name and now.endswith(f".{name}")})
    for name in given(argv):
        if now := former.get(name.removeprefix("no_")):
            raise UserError(f"--{name} was renamed to --{now}")
        group, _, last = name.rpartition(".")
        plain = ".".join(filter(None, (group, last.removeprefix("no_"))))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        if near and not known & {name, plain} and not any(other.startswith(f"{name}.") for other in known):
            raise UserError(f"unknown option --{name}; did you mean --{near[0]}?")

    def read(**default: T) -> T:
        ask = functools.partial(tyro.cli, cls, args=argv, description=description, use_underscores=True, **default)
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                return ask()
        except SystemExit as stopped:
            for error in _chain(stopped):
                if isinstance(error, UserError):  # of a group of options, which tyro would put into a frame
                    raise error from None
            if not stopped.code:
                raise
        return ask()  # in the terminal's width and colours

    options = read()  # before any file: help always shows the defaults
    path = getattr(options, "config", "") or fallback(options)
    if not path:
        return options
    shipped = _CONFIGS / Path(path).name
    if not Path(path).exists() and shipped.exists():
        raise UserError(f"{path}: no such configuration; did you mean {os.path.relpath(shipped)}?")
    default = dataclasses.replace(config.load(cls, path), config=str(path))
    # Lists of tables are for files only: on the command line each table would add several options.
    parsed = read(default=_map_tables(default, default, lambda tables: ()))
    return _map_tables(parsed, default, lambda tables: tables)


def _map_tables(options: T, original: T, change: Callable[[tuple], tuple]) -> T:
    """Returns `options` with each list of tables in `original`, at any depth, replaced by its `change`."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(original):
        value = getattr(original, field.name)
        if dataclasses.is_dataclass(value):
            values[field.name] = _map_tables(getattr(options, field.name), value, change)
        elif isinstance(value, tuple) and value and all(map(dataclasses.is_dataclass, value)):
            values[field.name] = change(value)
    return dataclasses.replace(options, **values)


def as_options(message: str) -> str:
    """Turns the argument names of a library message into options: `init=x` becomes `--init=x`.

    One-word names only before a `=` or in `backticks`.
    """
    elsewhere = re.compile(r"\b(spell_numbers|alphabet_from_data|max_skipped)\b(?!=)")  # options of preparation only
    message = elsewhere.sub(lambda name: name[0] if name[0] in _NAMES else f"prepare.py --{name[0]}", message)
    message = re.sub(r"`([a-z_.]+)`", lambda found: f"--{found[1]}" if found[1] in _NAMES else found[0], message)
    message = re.sub(r"(?<![\w./-])[a-z]+_[a-z_]+\b(?!\.)", lambda word: _GROUPED.get(word[0], word[0]), message)
    own = [f"{name}=" if name.isalpha() else rf"{re.escape(name)}\b(?!\.)" for name in _NAMES]
    return re.sub(rf"(?<![\w./-])(?={'|'.join(own)})", "--", message) if own else message


def given(argv: Sequence[str]) -> dict[str, str]:
    """Returns the options of a command line, values unchecked: {"config": "a.toml", "resume": ""}."""
    options: dict[str, str] = {}
    for i, argument in enumerate(argv):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            following = argv[i + 1] if i + 1 < len(argv) and not argv[i + 1].startswith("--") else ""
            options[name.replace("-", "_")] = value if equals else following
    return options


def run(main: Callable[[], Any]) -> None:
    """Runs a script's `main`; errors that a user can solve end as one message on standard error with exit code 1."""
    _prepare_streams()
    warnings.formatwarning = _note
    sys.unraisablehook = _unraisable
    try:
        main()
    except UserError as error:
        _stop(as_options(str(error)))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on (train.py with --resume)", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(130)  # without waiting for threads, which may be compiling for minutes
    except BrokenPipeError:  # the reader of the output, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if full := next(filter(_is_full, _chain(error)), None):  # before memory: TensorStore calls both exhausted
            where = getattr(full, "filename", None) or "a file"
            _stop(f"no space left on the device while writing {where}; free some and run it again")
        if isinstance(error, OSError):
            _stop(f"{error.filename}: {error.strerror}" if error.filename else str(error))
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            _stop(f"{_OUT_OF_MEMORY}\n({str(error).splitlines()[0] if str(error) else 'MemoryError'})")
        platforms = os.environ.get("JAX_PLATFORMS")
        if platforms and "jax" in sys.modules and not _has_device():  # whatever failed without a device
            _stop(
                f"JAX finds no device for JAX_PLATFORMS={platforms}: unset it to use the available devices, or install "
                "JAX for this one, e.g. pip install 'jax[cuda12]'"
            )
        raise


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an exception and its causes."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _is_full(error: BaseException) -> bool:
    known = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return known or any(os.strerror(code) in str(error) for code in (errno.ENOSPC, errno.EDQUOT))


def _has_device() -> bool:
    import jax

    try:
        return bool(jax.devices())
    except Exception:  # RuntimeError at first, then AssertionError
        return False


def _prepare_streams() -> None:
    """Opens closed standard streams on /dev/null, and replaces characters that a terminal cannot show.

    A daemon may have none, and the next opened file would become standard output.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _note(message: Warning | str, category: type[Warning], *place: object) -> str:
    """A warning as one line for users; those for programmers with their place in the code."""
    return f"note: {message}\n" if issubclass(category, UserWarning) else _formatwarning(message, category, *place)


def _unraisable(hook: Any) -> None:
    # TensorStore says so for each array that was still being written when another one failed, and TensorBoard's writer
    # again when the process ends.
    if str(hook.exc_value) != "Event loop is closed" and not _is_full(hook.exc_value):
        sys.__unraisablehook__(hook)


def use_compilation_cache() -> None:
    """Caches compiled programs in the user's cache folder, so that the next process with the same shapes starts at
    once.

    JAX_COMPILATION_CACHE_DIR names another folder; an empty value disables this.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(base / "w2l_jax" / "xla"))


def _stop(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)
