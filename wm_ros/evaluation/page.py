"""The HTML around the pictures of a report: one self-contained page, tiles of figures, a table.

In: text and numbers. Out: HTML. No measures, no pictures of its own.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

STYLE = """
body{font:15px/1.45 system-ui,sans-serif;color:#212529;max-width:1330px;
margin:24px auto;padding:0 16px}
h1{font-size:24px;margin:0 0 12px}h2{font-size:17px;margin:26px 0 6px}
h3{font-size:15px;margin:18px 0 4px}
img,video{max-width:100%;display:block}img{image-rendering:pixelated}video{width:768px}
.tiles{display:flex;flex-wrap:wrap;gap:10px}
.tile{border:1px solid #dee2e6;border-radius:6px;padding:8px 14px}
.tile b{display:block;font-size:18px}.tile span{color:#6c757d;font-size:13px}
table{border-collapse:collapse}
td,th{border-bottom:1px solid #e9ecef;padding:3px 14px 3px 0;text-align:left}
td.number{font-variant-numeric:tabular-nums}
p{max-width:80ch}
"""


def page(title: str, parts: Iterable[str]) -> str:
    """Return a whole HTML page; `parts` are HTML and go in as they are."""
    name = html.escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{name}</title>'
        f'<style>{STYLE}</style></head><body><h1>{name}</h1>{"".join(parts)}</body></html>\n'
    )


def tiles(figures: Mapping[str, str]) -> str:
    """Return one box per figure: the value large, what it is below."""
    boxes = (
        f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(name)}</span></div>'
        for name, value in figures.items()
    )
    return f'<div class="tiles">{"".join(boxes)}</div>'


def flatten(values: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Yield (dotted name, leaf) of nested dictionaries."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f'{prefix}{name}.')
        else:
            yield f'{prefix}{name}', value


def table(values: Mapping[str, Any]) -> str:
    """Return nested dictionaries as a table of dotted name and value."""
    rows = ''.join(
        f'<tr><td>{html.escape(name)}</td><td class="number">{html.escape(_text(value))}</td></tr>'
        for name, value in flatten(values)
    )
    return f'<table>{rows}</table>'


def grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table with a head; the first column names the row."""
    top = ''.join(f'<th>{html.escape(name)}</th>' for name in head)
    lines = ''.join(
        '<tr>'
        + ''.join(
            f'<td{" class=number" if place else ""}>{html.escape(cell)}</td>'
            for place, cell in enumerate(row)
        )
        + '</tr>'
        for row in rows
    )
    return f'<table><tr>{top}</tr>{lines}</table>'


def _text(value: Any) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
