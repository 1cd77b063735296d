"""KenLM's programs: lmplz (text → ARPA) and build_binary (ARPA → binary for decoding)."""

import dataclasses
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from w2l_jax.errors import UserError

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclasses.dataclass(frozen=True)
class Resources:
    """Resources for building a language model."""

    memory: str = "1G"
    """Memory for KenLM's programs, as 1G or 40%; the rest uses temporary files."""
    temp_dir: Path | None = None
    """Folder for temporary files, of several times the size of the text (default: beside the result)."""

    def __post_init__(self):
        if not re.fullmatch(r"\d+(\.\d+)?[%bKMGT]", self.memory):
            raise UserError(f"memory is {self.memory!r}; write it as 500M, 4G or 40%")
        if self.temp_dir is not None and not self.temp_dir.is_dir():
            raise UserError(f"temp_dir is {self.temp_dir}, which does not exist")


@dataclasses.dataclass(frozen=True)
class StructureConfig:
    """Options of the binary for decoding."""

    structure: Literal["probing", "trie"] = "probing"
    """KenLM's data structure: `probing` is faster, `trie` smaller."""
    quantize: int = 0
    """Bits to which a trie's probabilities and back-offs are rounded, such as 8 (0: not at all)."""

    def __post_init__(self):
        if self.structure not in ("probing", "trie"):
            raise UserError(f"structure is {self.structure!r}; choose probing or trie")
        if self.quantize and not (self.structure == "trie" and 2 <= self.quantize <= 25):
            raise UserError(f"quantize is {self.quantize}, structure {self.structure}; a trie takes 2 to 25 bits")


def tool(name: str) -> Path:
    """Returns one of KenLM's programs: from $W2L_JAX_KENLM_BIN, the repository's tools folder or PATH.

    Raises UserError with instructions if there is none.
    """
    folder = os.environ.get("W2L_JAX_KENLM_BIN")
    folders = [folder] if folder else [str(_REPOSITORY / "tools" / "kenlm" / "bin"), os.environ.get("PATH", os.defpath)]
    path = shutil.which(name, path=os.pathsep.join(folders))
    if not path:
        raise UserError(f"KenLM's {name} is not in {folder or 'PATH'}; run `make lmplz` in {_REPOSITORY}")
    return Path(path)


def check(*names: str) -> None:
    """Raises UserError if one of KenLM's programs is missing."""
    for name in names:
        tool(name)


def estimate(text: Path, arpa: Path, options: Sequence[Any], scratch: Path, resources: Resources) -> bool:
    """Writes the model `arpa` from `text`, one sentence per line; `options` are more options of lmplz.

    Returns whether the discounts were guessed, as for small texts. Raises UserError with lmplz's error.
    """
    command = [tool("lmplz"), "--memory", resources.memory, "--temp_prefix", f"{scratch}/"]
    command += ["--text", text, "--arpa", arpa, *options]
    if "--discount_fallback" not in _run(command, scratch, may_ask="--discount_fallback"):
        return False
    _run([*command, "--discount_fallback"], scratch)
    return True


def compress(arpa: Path, out: Path, config: StructureConfig, scratch: Path, resources: Resources) -> None:
    """Writes the binary `out` of an ARPA file; raises UserError with build_binary's error."""
    command = [tool("build_binary"), "-T", f"{scratch}/", "-S", resources.memory]
    _run([*command, *(["-q", config.quantize] if config.quantize else []), config.structure, arpa, out], scratch)


def _run(command: list[Any], scratch: Path, may_ask: str = "") -> str:
    """Runs one of KenLM's programs; when it fails, returns messages that hold `may_ask` and raises UserError else."""
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True)
    messages = (done.stderr + done.stdout).decode("utf-8", "replace")
    if not done.returncode:
        return ""
    if may_ask and may_ask in messages:
        return messages
    name = Path(command[0]).name
    if done.returncode == -signal.SIGKILL:
        raise UserError(f"{name} was killed, most likely for lack of memory: give it less (memory=500M)")
    if "No space left on device" in messages:
        raise UserError(f"{name}: no space left in {scratch}; free some, or give another temp_dir")
    tail = "\n".join(line for line in messages.splitlines()[-12:] if line.strip() and set(line) != {"*"})
    raise UserError(f"{name} failed (exit {done.returncode}); its last output:\n{tail}")
