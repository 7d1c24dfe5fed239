"""The comparison sees what it is there to see."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from .compare import differences
from .replay import FILES, exchanges

RECORDED = [exchange for file in FILES for exchange in exchanges(file)]
BY_KEY = {exchange.key: exchange.response for exchange in RECORDED}


def compare(response: dict[str, Any], **changes: Any) -> list[str]:
    """A recorded answer against itself with changes."""
    body = changes.get("body", response.get("json"))
    plain = response["headers"].get("Content-Type") == "text/plain"
    raw = b"text" if plain else json.dumps(body).encode() if body is not None else b""
    status, reason = changes.get("status", response["status"]), changes.get("reason", response["reason"])
    return differences(response, status, reason, body, raw, changes.get("seconds", response["elapsed_s"]))


def test_every_answer_agrees_with_itself() -> None:
    assert [exchange.key for exchange in RECORDED if compare(dict(exchange.response))] == []


@pytest.mark.parametrize(
    ("key", "path", "value"),
    [
        ("single-node/032-nextid-taken", ["errors", "vmid"], "VM 9000 is taken"),
        ("single-node/075-config", ["data", "memory"], 160),
        ("single-node/075-config", ["data", "cores"], 2),
        ("single-node/075-config", ["data", "scsi0"], "local:100/vm-100-disk-0.qcow2,size=51M"),
        ("single-node/075-config", ["data", "vmgenid"], "not a uuid"),
        ("single-node/064-start-bad-bridge.task-status", ["data", "exitstatus"], "bridge 'vmbr78' does not exist"),
        ("single-node/065-start-bad-bridge.task-log", ["data", 0, "t"], "TASK ERROR: no bridge"),
        ("single-node/248-clone-full.task-log", ["data", 1, "t"], "create linked clone of drive scsi0"),
        ("single-node/130-resources-running", ["data", 0, "status"], "stopped"),
        ("single-node/130-resources-running", ["data", 0, "template"], False),
        ("single-node/366-permissions-vm", ["data", "/vms/100", "VM.Allocate"], 1),
        ("cluster/060-ha-resources", ["data", 0, "state"], "stopped"),
    ],
)
def test_another_value_is_a_difference(key: str, path: list[Any], value: Any) -> None:
    body = copy.deepcopy(BY_KEY[key]["json"])
    place = body
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert compare(dict(BY_KEY[key]), body=body)


@pytest.mark.parametrize(
    "changes",
    [{"status": 404}, {"reason": "Bad Request"}, {"seconds": 3.0}, {"body": None}, {"body": {"data": None}}],
    ids=str,
)
def test_another_answer_is_a_difference(changes: dict[str, Any]) -> None:
    assert compare(dict(BY_KEY["single-node/034-nextid-invalid"]), **changes)


def test_what_is_never_the_same_is_no_difference() -> None:
    key = "single-node/075-config"
    body = copy.deepcopy(BY_KEY[key]["json"])
    body["data"]["digest"] = "0" * 40
    body["data"]["vmgenid"] = "00000000-0000-4000-8000-000000000000"
    body["data"]["net0"] = "virtio=BC:24:11:00:00:00,bridge=vmbr0"
    assert compare(dict(BY_KEY[key]), body=body) == []
