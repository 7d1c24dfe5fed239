"""The arithmetic and the tables of the benchmark's page; what it measures is not tested here."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from tests.bench.report import (
    BARE,
    OURS,
    RIVAL,
    Line,
    Results,
    Sample,
    Section,
    Target,
    as_json,
    at_least,
    at_most,
    figure,
    figures_table,
    from_json,
    number,
    page,
    plot,
    ratio,
)


def line(ours: float, other: float | None, **more: int) -> Line:
    figures = {OURS: figure([Sample(ours, ours + 1, requests=2, connections=1)])}
    if other is not None:
        figures[RIVAL] = figure([Sample(other, other + 1, requests=3, connections=50)])
    return Line("a loop", figures, **more)


def test_figures_are_medians() -> None:
    found = figure([Sample(3.0, 4.0, 10, 1, 2), Sample(1.0, 2.0, 12, 0, 2), Sample(2.0, 9.0, 11, 0, 3)])
    assert (found.seconds, found.fastest, found.slowest, found.whole) == (2.0, 1.0, 3.0, 4.0)
    assert (found.runs, found.requests, found.writes, found.connections) == (3, 11, 0, 2)


def test_ratios() -> None:
    assert ratio(line(0.5, 10.0)) == 20.0
    assert ratio(line(0.5, None)) is None
    assert ratio(line(-0.001, 10.0)) is None  # less than the floor: noise, not speed


def test_targets() -> None:
    assert at_most("x", 10.0, 10, "ms") == Target("x: at most 10 ms", "10.0 ms", True)
    assert not at_most("x", 10.1, 10, "ms").met
    assert at_least("x", 25.0, 25).met
    assert not at_least("x", 24.9, 25).met
    assert not at_least("x", None, 25).met


def test_numbers() -> None:
    assert [number(value) for value in (0.1234, 9.876, 12.34, 1234.5)] == ["0.12", "9.88", "12.3", "1,234"]


def test_times_are_shown_for_one_item() -> None:
    text = figures_table(Section("t", "", "ms", [line(0.5, 10.0, each=50)]))
    assert text.splitlines()[2] == "| a loop | 10.0 | 200 | **20.0** | 2 / 3 | 1 / 50 | 1 |"


def test_who_did_not_take_part() -> None:
    alone = Line("b loop", {BARE: figure([Sample(2.0, 3.0)])})
    rows = figures_table(Section("t", "", "s", [line(0.5, 1.0), alone])).splitlines()
    assert rows[3] == "| b loop | – | – | 2.00 | – | – / – / 0 | – / – / 0 | – / – / 1 |"


def test_what_is_kept_makes_the_same_page() -> None:
    sections = [
        Section("One", "Text.", "ms", [line(0.5, 10.0)], [at_most("x", 1.0, 2, "ms")]),
        Section("Two", "", trouble=["it broke"]),
    ]
    results = Results({"date": "today"}, sections)
    text = page(results, "Words.")
    assert page(from_json(json.loads(json.dumps(as_json(results)))), "Words.") == text
    assert "1 of 1 targets were met" in text
    assert "**Not measured:** it broke" in text
    assert "| date | today |" in text


def test_longer_bars_take_longer() -> None:
    root = ElementTree.fromstring(plot([("a < b", {OURS: 7.0, RIVAL: 270.0, BARE: 0.0})]))
    widths = {
        shape.get("fill"): float(shape.get("width", "0"))
        for shape in root.iter("{http://www.w3.org/2000/svg}rect")
        if shape.get("height") == "13"
    }
    ours, other, bare = widths.values()
    assert bare < ours < other < 900
    assert "a < b" in [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
