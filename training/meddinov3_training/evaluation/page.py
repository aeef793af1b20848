"""A self-contained HTML page: style, figures as data, tables that sort; no file beside it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from meddinov3.atomic import whole_file

STYLE = """
:root { --ink:#1c2530; --soft:#5b6775; --line:#dde3ea; --page:#f4f6f9; --card:#fff;
  --accent:#0072b2; --bar:#d6e8f5; --warn:#fff4d6; --warn-ink:#6b4e00; }
@media (prefers-color-scheme: dark) { :root { --ink:#e6ebf1; --soft:#9aa7b5; --line:#303a46;
  --page:#12171d; --card:#1b222b; --accent:#56b4e9; --bar:#1f425c; --warn:#40351a;
  --warn-ink:#f3dc9b; } }
* { box-sizing:border-box }
body { margin:0; background:var(--page); color:var(--ink); line-height:1.5;
  font:15px/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif }
main { max-width:1120px; margin:0 auto; padding:32px 24px 64px }
h1 { font-size:28px; line-height:1.2; margin:0 0 4px; overflow-wrap:anywhere }
h2 { font-size:19px; margin:0 0 6px }
p { margin:0 0 12px } .soft { color:var(--soft) } .lead { color:var(--soft); margin-bottom:20px }
section { background:var(--card); border:1px solid var(--line); border-radius:10px;
  padding:20px 22px; margin:18px 0 }
.tiles { display:grid; grid-template-columns:repeat(auto-fit,minmax(170px,1fr)); gap:14px }
.tile { background:var(--card); border:1px solid var(--line); border-radius:10px;
  padding:14px 18px }
.tile b { display:block; font-size:27px; line-height:1.25; font-weight:650;
  font-variant-numeric:tabular-nums; overflow-wrap:anywhere }
.tile span { color:var(--soft); font-size:13px }
.warn { background:var(--warn); color:var(--warn-ink); border-radius:8px; padding:10px 14px;
  margin:14px 0 }
.wide { overflow-x:auto }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; font-size:14px }
th,td { padding:6px 10px; text-align:right; border-bottom:1px solid var(--line);
  white-space:nowrap }
th:first-child,td:first-child { text-align:left; white-space:normal; overflow-wrap:anywhere;
  min-width:9em }
th { color:var(--soft); font-weight:600; vertical-align:bottom; white-space:normal }
tr.total td { font-weight:650; border-top:2px solid var(--line) }
td small { color:var(--soft); font-weight:400; display:block; line-height:1.2 }
table.sortable th { cursor:pointer } table.sortable th:hover { color:var(--accent) }
th[aria-sort=ascending]::after { content:" \\25B2"; font-size:10px }
th[aria-sort=descending]::after { content:" \\25BC"; font-size:10px }
td.bar { background:linear-gradient(90deg,var(--accent) var(--share),var(--bar) var(--share))
  left 10px bottom 2px / calc(100% - 20px) 3px no-repeat }
td.left { text-align:left; white-space:normal }
figure { margin:14px 0 0 } figcaption { color:var(--soft); font-size:13px; margin-top:6px }
figure img { width:100%; height:auto; border-radius:6px; background:#fff; display:block }
.cases { display:grid; grid-template-columns:repeat(auto-fit,minmax(440px,1fr)); gap:18px }
.cases figure img { background:#000 }
.key { display:inline-block; width:22px; height:0; border-top:3px solid; vertical-align:middle;
  margin:0 6px 0 14px } .key.dashed { border-top-style:dashed }
dl { display:grid; grid-template-columns:max-content 1fr; gap:6px 18px; margin:0 }
dt { font-weight:600 } dd { margin:0; overflow-wrap:anywhere }
details summary { cursor:pointer; color:var(--accent); margin:10px 0 }
code { font:13px/1.5 ui-monospace,Consolas,Menlo,monospace; overflow-wrap:anywhere }
@media (max-width:600px) { main { padding:18px 10px } section { padding:14px 12px }
  .cases { grid-template-columns:1fr } dl { grid-template-columns:1fr; gap:0 }
  dd { margin-bottom:8px } }
@media print { :root { --ink:#000; --soft:#444; --line:#bbb; --page:#fff; --card:#fff;
    --accent:#4a7fa8; --bar:#dbe7f0; --warn:#fff; --warn-ink:#000 }
  body { font-size:11px; -webkit-print-color-adjust:exact; print-color-adjust:exact }
  main { max-width:none; padding:0 } section { border:0; padding:8px 0; margin:6px 0 }
  figure,tr,.tile { break-inside:avoid } h2,h2 + p { break-after:avoid }
  table { font-size:10px } th,td { padding:3px 6px }
  .cases { grid-template-columns:1fr 1fr } details:not([open]) { display:none } }
"""

# Sorts by data-v (numbers; cells without a value go last) or by text.
SCRIPT = """
document.querySelectorAll('table.sortable').forEach(function (table) {
  table.querySelectorAll('th').forEach(function (head, column) {
    head.tabIndex = 0;
    head.onkeydown = function (e) { if (e.key === 'Enter') head.onclick(); };
    head.onclick = function () {
      var up = head.getAttribute('aria-sort') !== 'ascending', body = table.tBodies[0];
      table.querySelectorAll('th').forEach(function (h) { h.removeAttribute('aria-sort'); });
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      Array.from(body.rows).sort(function (a, b) {
        var x = a.cells[column], y = b.cells[column], s = up ? 1 : -1;
        if (x.dataset.v === undefined) return s * x.innerText.localeCompare(y.innerText);
        if (!x.dataset.v || !y.dataset.v) return !x.dataset.v - !y.dataset.v;
        return s * (x.dataset.v - y.dataset.v);
      }).forEach(function (row) { body.appendChild(row); });
    };
  });
});
"""

# A drive or a slash at the start of a word, and everything up to the last separator.
ABSOLUTE = re.compile(r"(?<![\w./\\:-])(?:[A-Za-z]:[\\/]|\\\\|~?/)(?:[^\\/\s'\"<>|]+[\\/])*")


def without_paths(text: str) -> str:
    """Text in which absolute paths are cut to their last part: they name people and machines."""
    return ABSOLUTE.sub("", text)


def write_page(path: Path, title: str, lead: str, *parts: str) -> None:
    """Write a page.

    Args:
        path: of the HTML file.
        title, lead: plain text.
        parts: HTML.

    Raises:
        MedDINOv3Error: the file cannot be written.
    """
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
        + "\n".join(filter(None, parts))
        + f"</main><script>{SCRIPT}</script></body></html>\n"
    )
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def section(heading: str, intro: str, *parts: str) -> str:
    """A card with a heading; `heading` and `intro` are plain text, `parts` HTML."""
    told = f'<p class="soft">{escape(intro)}</p>' if intro else ""
    return f"<section><h2>{escape(heading)}</h2>{told}{''.join(parts)}</section>"


def tiles(facts: Sequence[tuple[str, str, str]]) -> str:
    """Figures at a glance: (what, value, remark), plain text."""
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><span>{escape(what)}</span><b>{escape(value)}</b>'
            f"<span>{escape(remark)}</span></div>"
            for what, value, remark in facts
        )
        + "</div>"
    )


def warning(text: str) -> str:
    """A remark that must not be overlooked; "" for none."""
    return f'<div class="warn">{escape(text)}</div>' if text else ""


def cell(text: str, value: float | None = None, small: str = "", bar: bool = False) -> str:
    """A table cell.

    Args:
        text: shown.
        value: what it sorts by.
        small: a second line.
        bar: fill it by `value`, 0 to 1.
    """
    sorts = "" if value is None else f"{value:.6g}"
    look = ""
    if bar and value is not None:
        look = f' class="bar" style="--share:{100 * min(max(value, 0), 1):.1f}%"'
    more = f"<small>{escape(small)}</small>" if small else ""
    return f'<td data-v="{sorts}"{look}>{escape(text)}{more}</td>'


def words(text: str) -> str:
    """A table cell that holds and sorts by text."""
    return f'<td class="left">{escape(text)}</td>'


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, total: bool = False, sorts: bool = False
) -> str:
    """A table of cells from :func:`cell` and :func:`words`; with `total` the last row stands out.

    Args:
        heads: plain text.
        rows: cells.
        total: whether the last row sums up.
        sorts: by a click on a heading.
    """
    head = "".join(f"<th>{escape(text)}</th>" for text in heads)
    last = len(rows) - 1
    body = "".join(_row(row, total and n == last) for n, row in enumerate(rows))
    kind = ' class="sortable"' if sorts else ""
    return (
        f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(cells: Sequence[str], total: bool) -> str:
    return f"<tr{' class=total' if total else ''}>{''.join(cells)}</tr>"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Terms and what they mean, plain text."""
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in pairs)
    return f"<dl>{rows}</dl>"


def picture(content: bytes, kind: str, description: str, caption: str = "") -> str:
    """A figure with its image inside.

    Args:
        content: of the image file.
        kind: ``png`` or ``svg+xml``.
        description: for those who cannot see it.
        caption: plain text below.
    """
    encoded = base64.b64encode(content).decode("ascii")
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure><img alt="{escape(description)}" src="data:image/{kind};base64,{encoded}">'
        f"{below}</figure>"
    )
