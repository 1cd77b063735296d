"""Show what adaptation changed in a network: distributions of weights and changes, and the input filters."""

import dataclasses
from pathlib import Path

import cli
from introspection import weight_changes as comparison
from introspection import weight_claims as claims
from introspection import weight_page as page
from latest import LATEST
from w2l_jax.errors import UserError
from w2l_jax.files import one_at_a_time
from w2l_jax.run import Run

DESCRIPTION = """Compare the weights of an adapted run with those of its base, as Figures 7 and 8 of the paper do.

Writes a self-contained page, index.html, its figures as PNG, its tables as CSV, and all numbers in full precision,
introspection.json:

  python launch/introspect.py --run=runs/german_k0
  python launch/introspect.py --run=runs/german_k0 --base=english --filters=3,17 --out=german

For the changes early in training, train with --log.keep_steps=100 or so.
"""


@dataclasses.dataclass(frozen=True)
class Options:
    run: str = LATEST
    """Run folder (default: the last trained run)."""
    base: str = ""
    """Run folder to compare with (default: the run's base)."""
    out: str = ""
    """Folder to write (default: <run>/introspection)."""
    checkpoint: str = "best"
    """Checkpoint: best, last or a stored step."""
    base_checkpoint: str = ""
    """Checkpoint of the base (default: the one the run was adapted from; with --base, best)."""
    early: str = ""
    """Stored steps that count as early, such as 100,1000, or none (default: the earliest, if in the first half)."""
    filters: str = ""
    """Input filters to show besides the most and least changed, such as 3,17 (from 1)."""


def main(argv: list[str] | None = None) -> None:
    options = cli.parse(Options, argv, description=DESCRIPTION)
    run = Run.open(options.run)
    filters = page.parse_filters(options.filters, run.model.width)
    out = Path(options.out or run.folder / "introspection")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out={out}: a file; name a folder")
    adaptation = comparison.read(options.run, options.base, options.checkpoint, options.base_checkpoint, options.early)
    findings = comparison.measure(adaptation)
    with one_at_a_time(out):
        page.write(findings, out, filters)
    print(f"{findings.stages[-1]}, against {findings.base}")
    for claim in claims.claims(findings):
        print(f"{claim.verdict}: {claim.claim}\n    {claim.found}")
    print(f"page: {out / 'index.html'}; figures, tables and numbers are beside it")


if __name__ == "__main__":
    cli.run(main)
