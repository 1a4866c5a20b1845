"""Writes the report of a comparison as one page of HTML, which needs no other files."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape as escaped

from pyroberta.oracle.report import Finding, Report

WIDTH, HEIGHT = 1000, 220  # of a picture
RED, BLUE = "#c0392b", "#2c6fbb"

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1040px; color: #222; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: 3px 8px; vertical-align: top; }
tr { border-bottom: 1px solid #ddd; } .departs { background: #fdecea; } code { font-size: 13px; }
figure { margin: 1em 0; } figcaption { color: #555; } .number { text-align: right; font-variant-numeric: tabular-nums; }
"""


def escape(text: str) -> str:
    """Returns a text for the page. Characters that can't be printed become U+FFFD."""
    return escaped("".join(c if c.isprintable() else "\ufffd" for c in text))


def page(report: Report, notes: Mapping[str, str], name: str) -> str:
    """Returns the page.

    Args:
        report: the report of `compare`.
        notes: the trace's name of a tensor -> what was done to align it.
        name: the name of the compared file.

    >>> print(page(Report([], [], []), {}, "theirs.npz")[:15])
    <!doctype html>
    """
    departing = report.departures
    rows = "\n".join(_row(finding, notes.get(finding.name, "")) for finding in report.findings)
    found = "".join(f"<li>{_found(finding)}</li>" for finding in departing) or "<li>Nothing is beyond rounding.</li>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(name)} and the trace</title><style>{STYLE}</style></head>
<body><h1>{escape(name)} and the trace</h1>
<p>{len(report.findings)} of the trace's {report.count} tensors were compared as {escape(report.precision)}, in the
order of the computation. The expected value of each was computed in float64 from the nearest earlier tensors.</p>
<figure>{_picture(report.findings, lambda one: one.ratio, (-3, 9), 1.0)}
<figcaption>The error of each tensor, divided by the error that rounding allows. Above the line it departs.</figcaption>
</figure>
<figure>{_picture(report.findings, lambda one: one.from_trace, (-9, 3), 0.0)}
<figcaption>The relative difference of each tensor from the trace's own tensor. It contains the effect of earlier
differences.</figcaption></figure>
<h2>Departures</h2><ul>{found}</ul>
<h2>Every tensor</h2><table>
<tr><th>tensor</th><th>error / bound</th><th>ulp</th><th>relative</th><th>from the trace</th><th>computed from</th>
<th>aligned</th></tr>
{rows}</table></body></html>
"""


def _found(finding: Finding) -> str:
    return f"<code>{escape(finding.name)}</code>: <b>{escape(finding.why)}</b>"


def _row(finding: Finding, note: str) -> str:
    kind = ' class="departs"' if finding.departs else ""
    few = ", ".join(finding.computed_from[:3]) + (" …" if len(finding.computed_from) > 3 else "")
    return (
        f'<tr{kind}><td><code>{escape(finding.name)}</code></td><td class="number">{finding.ratio:.2e}</td>'
        f'<td class="number">{finding.ulps:.1e}</td><td class="number">{finding.relative:.1e}</td>'
        f'<td class="number">{finding.from_trace:.1e}</td><td><small>{escape(few)}</small></td>'
        f"<td><small>{escape(note)}</small></td></tr>"
    )


def _picture(findings: Sequence[Finding], of: Callable[[Finding], float], powers: tuple[int, int], line: float) -> str:
    """A point for each tensor: from left to right as they arise, its number on a logarithmic scale.

    Args:
        findings: the tensors.
        of: the number.
        powers: of ten, from the lowest to the highest that is shown; what is beyond stands at the edge.
        line: the number that is marked; 0 for none.
    """
    low, high = powers
    step = WIDTH / max(1, len(findings))

    def height(number: float) -> float:
        power = math.log10(number) if 0.0 < number < math.inf else low if not number else high
        return HEIGHT - 10.0 - (min(max(power, low), high) - low) / (high - low) * (HEIGHT - 30.0)

    parts = []
    for power in range(low, high + 1, 3):
        y, color = height(10.0**power), RED if 10.0**power == line else "#ddd"
        parts.append(f'<line x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{color}"/>')
        parts.append(f'<text x="2" y="{y - 3:.1f}" font-size="11" fill="#888">1e{power}</text>')
    for i, finding in enumerate(findings):
        x, y, color = (i + 0.5) * step, height(of(finding)), RED if finding.departs else BLUE
        title = f"{escape(finding.name)}: {of(finding):.2e}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{color}"><title>{title}</title></circle>')
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'
