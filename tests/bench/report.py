"""The figures and the page made of them. Pure: numbers in, text out."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OURS, RIVAL, BARE = "keel.proxmox", "community.proxmox", "the API alone"


@dataclass(frozen=True)
class Sample:
    """One run.

    :param seconds: what was measured. :param whole: seconds of the whole command.
    :param connections: TCP connections that were opened, each with a TLS handshake.
    :param memory: the most that a process of the command had at a time, in MiB.
    """

    seconds: float
    whole: float
    requests: int = 0
    writes: int = 0
    connections: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Figure:
    """What several runs of the same came to: the medians."""

    seconds: float
    fastest: float
    slowest: float
    whole: float
    runs: int
    requests: int
    writes: int
    connections: int
    memory: int = 0


def figure(samples: Sequence[Sample]) -> Figure:
    """Return the medians of the samples, of which there is at least one."""
    seconds = [sample.seconds for sample in samples]

    def counted(name: str) -> int:
        return round(statistics.median(getattr(sample, name) for sample in samples))

    return Figure(
        statistics.median(seconds),
        min(seconds),
        max(seconds),
        statistics.median(sample.whole for sample in samples),
        len(samples),
        *(counted(name) for name in ("requests", "writes", "connections", "memory")),
    )


@dataclass(frozen=True)
class Line:
    """One thing that was measured, for everybody who did it.

    :param each: of how many items the seconds are the sum; times are shown for one of them.
    """

    name: str
    figures: Mapping[str, Figure]
    each: int = 1


@dataclass(frozen=True)
class Target:
    """What was aimed at, what came out, and whether that is enough."""

    text: str
    value: str
    met: bool


@dataclass(frozen=True)
class Section:
    """A table with its text.

    :param unit: s or ms.
    :param memory: whether memory is shown.
    """

    title: str
    text: str
    unit: str = "s"
    lines: Sequence[Line] = ()
    targets: Sequence[Target] = ()
    trouble: Sequence[str] = ()
    memory: bool = False


@dataclass(frozen=True)
class Results:
    """Everything that goes into the page, as it is kept between runs."""

    about: Mapping[str, str] = field(default_factory=dict)
    sections: Sequence[Section] = ()


def ratio(line: Line, above: str = RIVAL, below: str = OURS) -> float | None:
    """Return how many times longer the one took than the other; None where that says nothing."""
    one, other = line.figures.get(above), line.figures.get(below)
    if one is None or other is None or other.seconds <= 0:
        return None
    return one.seconds / other.seconds


def number(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def at_most(text: str, value: float, limit: float, unit: str) -> Target:
    """Return a target that is met up to a limit."""
    return Target(f"{text}: at most {limit:g} {unit}", f"{number(value)} {unit}", value <= limit)


def at_least(text: str, value: float | None, limit: float) -> Target:
    """Return a target that is met from so many times on; None is a comparison that there is not."""
    if value is None:
        return Target(f"{text}: at least {limit:g} times", "not to be said", False)
    return Target(f"{text}: at least {limit:g} times", f"{number(value)} times", value >= limit)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown; the columns after the first are flush right."""
    marks = ["---", *("---:" for _column in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, marks, *rows))


def figures_table(section: Section) -> str:
    """Return the section's figures: times, how many times faster, requests and connections."""
    sides = list(dict.fromkeys(side for line in section.lines for side in line.figures))
    factor = 1000.0 if section.unit == "ms" else 1.0
    compared = any(ratio(line) is not None for line in section.lines)
    head = ["", *(f"{side}, {section.unit}" for side in sides), *(["times faster"] if compared else [])]
    counted = {"requests": "requests", "connections": "connections"}
    counted |= {"memory": "memory, MiB"} if section.memory else {}
    counted |= {"runs": "runs"}
    head += counted.values()
    rows = []
    for line in section.lines:
        found = [line.figures.get(side) for side in sides]
        times = [number(one.seconds * factor / line.each) if one else "–" for one in found]
        faster = ratio(line)
        row = [line.name, *times, *([f"**{number(faster)}**" if faster is not None else "–"] if compared else [])]
        for name in counted:
            counts = [f"{getattr(one, name):,}" if one else "–" for one in found]
            row.append(" / ".join(counts) if len(set(counts)) > 1 else counts[0])
        rows.append(row)
    return table(head, rows)


def targets_table(targets: Iterable[Target]) -> str:
    """Return what was aimed at and what came out."""
    rows = [[target.text, target.value, "yes" if target.met else "**no**"] for target in targets]
    return table(["target", "measured", "met"], rows)


def section_text(section: Section) -> str:
    """Return a section of the page."""
    parts = [f"## {section.title}", section.text]
    if section.lines:
        parts.append(figures_table(section))
    if section.targets:
        parts.append(targets_table(section.targets))
    parts += [f"**Not measured:** {trouble}" for trouble in section.trouble]
    return "\n\n".join(part for part in parts if part)


def page(results: Results, introduction: str) -> str:
    """Return the whole page."""
    targets = [target for section in results.sections for target in section.targets]
    met = sum(target.met for target in targets)
    about = table(["", ""], [[key, value] for key, value in results.about.items()]).replace("---:", "---")
    parts = [
        "# Performance",
        introduction.strip(),
        "![Milliseconds an item, on a logarithmic scale](performance.svg)",
        f"{met} of {len(targets)} targets were met in this run. Times are medians.",
        *(section_text(section) for section in results.sections),
        "## Where this was measured",
        about,
    ]
    return "\n\n".join(parts) + "\n"


# Colours that are told apart on white and on black, and by people who see few.
COLOURS = {OURS: "#1b7f5c", RIVAL: "#c2571a", BARE: "#7a8794"}
LEFT, WIDTH, BAR, GAP = 330, 960, 15, 16


def plot(bars: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Return an SVG of horizontal bars on a logarithmic scale.

    :param bars: what was measured, and the milliseconds of each side.
    """
    values = [value for _name, sides in bars for value in sides.values() if value > 0]
    low = math.floor(math.log10(min(values))) if values else 0
    high = math.ceil(math.log10(max(values))) if values else 1
    high = max(high, low + 1)
    scale = (WIDTH - LEFT - 90) / (high - low)

    def across(value: float) -> float:
        return LEFT + (max(math.log10(value), low) - low) * scale if value > 0 else LEFT

    shapes: list[str] = []
    top = 56
    for name, sides in bars:
        middle = top + len(sides) * BAR / 2 + 5
        shapes.append(f'<text x="{LEFT - 10}" y="{middle:.0f}" text-anchor="end">{escaped(name)}</text>')
        for side, value in sides.items():
            width = max(across(value) - LEFT, 1.5)
            shapes.append(
                f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR - 2}" fill="{COLOURS[side]}"/>'
                f'<text x="{LEFT + width + 5:.1f}" y="{top + 11}" class="n">{duration(value)}</text>'
            )
            top += BAR
        top += GAP
    grid = []
    for power in range(low, high + 1):
        x = across(10.0**power)
        grid.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="48" y2="{top - 8}"/>'
            f'<text x="{x:.1f}" y="{top + 8}" text-anchor="middle" class="n">{duration(10.0**power)}</text>'
        )
    legend, x = [], float(LEFT)
    for side, colour in COLOURS.items():
        legend.append(
            f'<rect x="{x:.0f}" y="18" width="12" height="12" fill="{colour}"/>'
            f'<text x="{x + 18:.0f}" y="29">{escaped(side)}</text>'
        )
        x += 160
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 20}" width="{WIDTH}" height="{top + 20}">\n'
        "<style>text{font:13px sans-serif;fill:#222}.n{font-size:11px;fill:#555}line{stroke:#ddd}</style>\n"
        f'<rect width="{WIDTH}" height="{top + 20}" fill="#fff"/>\n'
        + "\n".join([*grid, *shapes, *legend])
        + "\n</svg>\n"
    )


def duration(milliseconds: float) -> str:
    """Return a time as people say it."""
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"


def escaped(text: str) -> str:
    """Return the text as XML has it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def as_json(results: Results) -> dict[str, Any]:
    """Return the results as JSON can hold them."""
    return dataclasses.asdict(results)


def from_json(data: Mapping[str, Any]) -> Results:
    """Return the results that were kept."""

    def line(one: Mapping[str, Any]) -> Line:
        return Line(**{**one, "figures": {side: Figure(**found) for side, found in one["figures"].items()}})

    sections = [
        Section(
            **{
                **one,
                "lines": [line(found) for found in one["lines"]],
                "targets": [Target(**found) for found in one["targets"]],
            }
        )
        for one in data["sections"]
    ]
    return Results(data["about"], sections)
