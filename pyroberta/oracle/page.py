"""A report of the comparison as one page of HTML, which needs nothing but itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape

from pyroberta.oracle.compare import Finding, Report

WIDTH, HEIGHT, LOW, HIGH = 1000, 260, -3.0, 9.0  # of the picture; the powers of ten that it shows

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 1040px; color: #222; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: 3px 8px; vertical-align: top; }
tr { border-bottom: 1px solid #ddd; } .departs { background: #fdecea; } code { font-size: 13px; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
"""


def page(report: Report, notes: Mapping[str, str], name: str) -> str:
    """The page.

    Args:
        report: of `compare`.
        notes: the trace's name of a tensor -> what was done to align it.
        name: of what was compared.

    >>> print(page(Report([], [], []), {}, "theirs.npz")[:15])
    <!doctype html>
    """
    departing = report.departures
    rows = "\n".join(_row(finding, notes.get(finding.name, "")) for finding in report.findings)
    found = "".join(f"<li>{_found(finding)}</li>" for finding in departing) or "<li>Nothing is beyond rounding.</li>"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(name)} beside the trace</title><style>{STYLE}</style></head>
<body><h1>{escape(name)} beside the trace</h1>
<p>{len(report.findings)} tensors were compared, in the order in which they arise. Each was computed in float64 from the
nearest tensors before it; its error is a multiple of what rounding may do to it. Above 1 it departs.</p>
{_picture(report)}
<h2>Where it departs</h2><ul>{found}</ul>
<h2>Every tensor</h2><table><tr><th>tensor</th><th>error / bound</th><th>relative</th><th>from</th><th>aligned</th></tr>
{rows}</table></body></html>
"""


def _found(finding: Finding) -> str:
    cause = finding.cause or "cause unknown"
    share = f" (explains {finding.share:.2%} of the difference)" if finding.cause and finding.share < 1.0 else ""
    looks = f"; {escape(finding.looks)}" if finding.looks else ""
    return f"<code>{escape(finding.name)}</code>: <b>{escape(cause)}</b>{share}{looks}"


def _row(finding: Finding, note: str) -> str:
    kind = ' class="departs"' if finding.departs else ""
    few = ", ".join(finding.computed_from[:3]) + (" …" if len(finding.computed_from) > 3 else "")
    return (
        f'<tr{kind}><td><code>{escape(finding.name)}</code></td><td class="number">{finding.ratio:.2e}</td>'
        f'<td class="number">{finding.relative:.1e}</td><td><small>{escape(few)}</small></td>'
        f"<td><small>{escape(note)}</small></td></tr>"
    )


def _picture(report: Report) -> str:
    """A point for each tensor: from left to right as they arise, its error on a logarithmic scale."""
    step = WIDTH / max(1, len(report.findings))
    lines = []
    for tens in range(int(LOW), int(HIGH) + 1, 3):
        y, color = _height(float(tens)), "#c0392b" if tens == 0 else "#ddd"
        lines.append(f'<line x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="{color}"/>')
        lines.append(f'<text x="2" y="{y - 3:.1f}" font-size="11" fill="#888">1e{tens}</text>')
    for i, finding in enumerate(report.findings):
        power = math.log10(finding.ratio) if 0.0 < finding.ratio < math.inf else LOW if not finding.ratio else HIGH
        color = "#c0392b" if finding.departs else "#2c6fbb"
        lines.append(
            f'<circle cx="{(i + 0.5) * step:.1f}" cy="{_height(power):.1f}" r="2.5" fill="{color}">'
            f"<title>{escape(finding.name)}: {finding.ratio:.2e}</title></circle>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="errors">{"".join(lines)}</svg>'


def _height(power: float) -> float:
    clipped = min(max(power, LOW), HIGH)
    return HEIGHT - 10.0 - (clipped - LOW) / (HIGH - LOW) * (HEIGHT - 30.0)
