"""The shapes of answers: nothing that a real node was recorded to say is refused, and what has another shape is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.shapes import ANY, SHAPES, flaw, shape_of

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"


def recorded() -> dict[str, tuple[str, Any]]:
    """Return path and data of every recorded answer to a GET."""
    found = {}
    for file in sorted(RECORDINGS.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            exchange = json.loads(line)
            request, answer = exchange["request"], exchange["response"]
            if request["method"] == "GET" and answer["status"] == 200 and "json" in answer:
                path = unquote(request["url"].removeprefix("/api2/json").partition("?")[0])
                found[f"{file.stem}/{exchange['name']}"] = (path, answer["json"]["data"])
    return found


RECORDED = recorded()


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_node_said_has_its_shape(name: str) -> None:
    path, data = RECORDED[name]
    assert flaw(shape_of(path), data) is None


def test_enough_was_recorded() -> None:
    judged = {shape_of(path) is not ANY for path, _data in RECORDED.values()}
    assert judged == {True, False}
    assert sum(shape_of(path) is not ANY for path, _data in RECORDED.values()) > 100


@pytest.mark.parametrize("data", [None, "text", 7, {}, [None], [[]], [{}], [{"type": "qemu", "vmid": [], "node": "a"}]])
def test_a_list_of_the_cluster_that_is_none(data: Any) -> None:
    assert flaw(shape_of("/cluster/resources"), data) is not None


def test_every_shape_belongs_to_a_path() -> None:
    assert len({pattern for pattern, _shape in SHAPES}) == len(SHAPES)
