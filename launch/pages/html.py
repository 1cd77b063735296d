"""Self-contained HTML pages: tables that sort, figures, sound. Nothing is loaded from elsewhere.

Pages follow the reader's light or dark mode; figures take the page's text colour. Plain text is escaped; functions
return HTML.
"""

import base64
import csv
import io
import re
import types
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from w2l_jax.files import write_atomically

_ASSETS = Path(__file__).parent
_INK = "#010203"  # placeholder in figures for the page's text colour


def page(title: str, sections: Iterable[tuple[str, str]]) -> str:
    """A page of sections, each with a heading (text) and its content (HTML), and links to them at the top."""
    sections = [(f"section-{i}", heading, content) for i, (heading, content) in enumerate(sections)]
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in sections)
    body = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{escape(heading)}</h2>{content}</section>\n'
        for name, heading, content in sections
    )
    style, script = ((_ASSETS / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>\n{style}</style></head>\n<body><header><h1>{escape(title)}</h1><nav><ul>{links}</ul></nav></header>\n"
        f"<main>\n{body}</main><script>\n{script}</script></body></html>\n"
    )


def paragraph(text: str) -> str:
    """A paragraph of text."""
    return f"<p>{escape(text)}</p>"


def facts(named: Mapping[str, str]) -> str:
    """Names and values, one per line."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in named.items()) + "</dl>"


def folded(summary: str, content: str) -> str:
    """Content (HTML) behind a summary (text) to click on."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>\n"


def lines(texts: Iterable[str]) -> str:
    """Preformatted lines of text, such as commands."""
    return f"<pre>{escape(chr(10).join(texts))}</pre>"


def table(rows: Sequence[Mapping[str, Any]], caption: str) -> str:
    """A table with a column for each key of the first row; click on a column's head to sort.

    Cells are text or numbers; those that begin with a number are sorted by it and right-aligned.
    """
    if not rows:
        return paragraph(f"{caption}: none.")
    head = "".join(f'<th scope="col"><button type="button">{escape(str(key))}</button></th>' for key in rows[0])
    body = "".join("<tr>" + "".join(map(_cell, row.values())) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(value: Any) -> str:
    text = str(value)
    number = ' class="number"' if re.fullmatch(r"[+-]?\d[\d.,]*%?( \[.*\])?", text) else ""
    return f"<td{number}{direction(text)}>{escape(text)}</td>"


def direction(text: str) -> str:
    """The `dir` attribute of an element with `text`, if its first letter is of a right-to-left script."""
    first = next((kind for kind in map(unicodedata.bidirectional, text) if kind in ("L", "R", "AL")), "L")
    return "" if first == "L" else ' dir="rtl"'


def comma_separated(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a CSV file with a column for each key that any row has."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    return as_csv([heads, *([row.get(head, "") for head in heads] for row in rows)])


def as_csv(table: Iterable[Sequence[Any]]) -> str:
    """A table as a CSV file. Text that a spreadsheet would evaluate, such as `=A1`, gets an apostrophe."""
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows([[_inert(cell) for cell in row] for row in table])
    return content.getvalue()


def _inert(cell: Any) -> Any:
    if not isinstance(cell, str) or re.fullmatch(r"[+-][\d.]+(e[+-]?\d+)?%?", cell):
        return cell
    return re.sub(r"^(?=[=+@\t\n-].)", "'", cell.replace("\r", "\n"), flags=re.DOTALL)


def figure(draw: Callable[[Any], None], description: str, size: tuple[float, float] = (6.0, 4.0)) -> str:
    """An SVG figure of `size` (inches) that `draw` fills (a matplotlib Figure); `description` is caption and label."""
    content = io.StringIO()
    # `hashsalt` makes ids inside the SVG reproducible and distinct between figures.
    style = {"svg.fonttype": "none", "svg.hashsalt": description}
    metadata = {"Date": None, "Creator": None}
    save(content, size, draw, _INK, style, format="svg", transparent=True, metadata=metadata)
    svg = content.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids of groups are unused and repeated in every figure
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
    return f"<figure>{svg}<figcaption>{escape(description)}</figcaption></figure>\n"


def save(
    file: Any,
    size: tuple[float, float],
    draw: Callable[[Any], None],
    ink: str = "black",
    style: Mapping[str, Any] = types.MappingProxyType({}),
    **options: Any,
) -> None:
    """Writes a figure of `size` (inches) that `draw` fills (a matplotlib Figure), in the style of all figures.

    `style` adds rcParams, `options` are savefig's.
    """
    import matplotlib
    from matplotlib.figure import Figure

    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "legend.labelcolor")
    common = {
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
        "image.interpolation": "none",
    }
    with matplotlib.rc_context(dict.fromkeys(names, ink) | common | dict(style)):
        drawn = Figure(figsize=size, layout="constrained")
        draw(drawn)
        content = io.BytesIO() if isinstance(file, Path) else file
        drawn.savefig(content, **{"dpi": 110} | options)
    if isinstance(file, Path):
        write_atomically(file, content.getvalue())


def audio(waveform_N: np.ndarray, rate: int) -> str:
    """A player for a waveform (−1…1, mono, 8, 12, 16, 24 or 48 kHz), embedded as Ogg Opus."""
    import soundfile

    content = io.BytesIO()
    soundfile.write(content, waveform_N, rate, format="OGG", subtype="OPUS")
    return f'<audio controls preload="metadata" src="data:audio/ogg;base64,{_base64(content.getvalue())}"></audio>'


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
