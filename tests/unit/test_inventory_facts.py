"""Facts of many guests: what is asked, what is not, and that one guest or node costs only its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ansible_collections.keel.proxmox.plugins.module_utils.errors import ProxmoxError
from ansible_collections.keel.proxmox.plugins.module_utils.facts import AGENTS_AT_ONCE, Gathered, gather


class Server:
    """Answers each path by a function; keeps what was asked and how much of it at the same time."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.busy: dict[str, int] = {}
        self.busiest: dict[str, int] = {}
        self._lock = threading.Lock()

    def get(self, path: str, /, **_query: object) -> Any:
        node = path.split("/")[2]
        with self._lock:
            self.asked.append(path)
            self.busy[node] = self.busy.get(node, 0) + 1
            self.busiest[node] = max(self.busiest.get(node, 0), self.busy[node])
        try:
            return self.answer(path)
        finally:
            with self._lock:
                self.busy[node] -= 1


def row(vmid: int, node: str = "pve1", kind: str = "qemu", status: str = "running") -> dict[str, Any]:
    return {"vmid": vmid, "node": node, "type": kind, "status": status, "name": f"g{vmid}"}


def ask(server: Server, rows: list[dict[str, Any]], *subsets: str, **given: Any) -> Gathered:
    settings: dict[str, Any] = {"ask_agent": lambda _row, _facts: True, "concurrency": 4, "agent_seconds": 60.0}
    return gather(server, rows, subsets, **{**settings, **given})


def plain(path: str) -> Any:
    return {"result": [{"name": "lo"}]} if path.endswith("get-interfaces") else {"of": path}


def test_each_subset_is_one_request() -> None:
    server = Server(plain)
    gathered = ask(server, [row(100), row(101, kind="lxc")], "config", "status", "snapshots", "interfaces", "agent")
    assert sorted(server.asked) == [
        "/nodes/pve1/lxc/101/config",
        "/nodes/pve1/lxc/101/interfaces",
        "/nodes/pve1/lxc/101/snapshot",
        "/nodes/pve1/lxc/101/status/current",
        "/nodes/pve1/qemu/100/agent/network-get-interfaces",
        "/nodes/pve1/qemu/100/config",
        "/nodes/pve1/qemu/100/snapshot",
        "/nodes/pve1/qemu/100/status/current",
    ]
    assert gathered.facts["100"]["agent"] == [{"name": "lo"}]
    assert gathered.facts["101"]["config"] == {"of": "/nodes/pve1/lxc/101/config"}
    assert (gathered.failed, gathered.silent, gathered.unasked, gathered.skipped) == ({}, {}, [], {})


def test_only_running_guests_are_asked_for_addresses() -> None:
    server = Server(plain)
    ask(server, [row(100, status="stopped"), row(101, kind="lxc", status="unknown")], "interfaces", "agent")
    assert server.asked == []


def test_the_live_status_decides_who_runs() -> None:
    live = {100: {"status": "running", "qmpstatus": "paused"}, 101: {"status": "running"}}

    def answer(path: str) -> Any:
        return live[int(path.split("/")[4])] if path.endswith("current") else plain(path)

    server = Server(answer)
    gathered = ask(server, [row(100), row(101, status="unknown")], "status", "agent")
    assert [path for path in server.asked if "agent" in path] == ["/nodes/pve1/qemu/101/agent/network-get-interfaces"]
    assert "agent" not in gathered.facts["100"]


def test_agents_are_asked_after_the_config_and_only_if_agreed_to() -> None:
    server = Server(lambda path: {"agent": "1"} if path.endswith("100/config") else plain(path))
    rows = [row(100), row(101)]
    ask(server, rows, "config", "agent", ask_agent=lambda _row, facts: facts["config"].get("agent") == "1")
    assert [path for path in server.asked if "agent/" in path] == ["/nodes/pve1/qemu/100/agent/network-get-interfaces"]


def test_one_bad_guest_costs_its_own_facts() -> None:
    def answer(path: str) -> Any:
        if path.endswith("100/config"):
            raise ProxmoxError("no such config", status=500)
        return plain(path)

    gathered = ask(Server(answer), [row(100), row(101)], "config", "snapshots")
    assert gathered.failed == {100: "no such config"}
    assert gathered.facts["100"] == {
        "error": "no such config",
        "snapshots": {"of": "/nodes/pve1/qemu/100/snapshot"},
    }
    assert gathered.facts["101"].keys() == {"config", "snapshots"}


def test_a_node_that_is_down_is_not_asked() -> None:
    server = Server(plain)
    gathered = ask(server, [row(100, "pve3"), row(101)], "config", "agent", down=["pve3"])
    assert [path for path in server.asked if "pve3" in path] == []
    assert gathered.skipped == {"pve3": 1}
    assert "pve3 cannot be reached" in gathered.facts["100"]["error"]
    assert "error" not in gathered.facts["101"]


def test_a_node_that_turns_out_to_be_down_is_asked_once() -> None:
    def answer(path: str) -> Any:
        if "pve3" in path:
            raise ProxmoxError("no route", status=595)
        return plain(path)

    server = Server(answer)
    gathered = ask(server, [row(vmid, "pve3") for vmid in range(100, 150)] + [row(1)], "config", concurrency=1)
    assert len([path for path in server.asked if "pve3" in path]) == 1
    assert gathered.skipped == {"pve3": 50}
    assert gathered.facts["1"].keys() == {"config"}


def test_a_dead_agent_costs_nothing_but_its_addresses() -> None:
    def answer(path: str) -> Any:
        if path.endswith("100/agent/network-get-interfaces"):
            raise ProxmoxError("QEMU guest agent is not running", status=500)
        if path.endswith("101/agent/network-get-interfaces"):
            return {"result": {"error": {"class": "CommandDisabled", "desc": "the command is disabled"}}}
        return plain(path)

    gathered = ask(Server(answer), [row(100), row(101), row(102)], "config", "agent")
    assert gathered.silent == {100: "QEMU guest agent is not running", 101: "the command is disabled"}
    assert gathered.failed == {}
    assert "agent" in gathered.facts["102"]
    assert "error" not in gathered.facts["100"]


def test_few_agents_of_a_node_at_once() -> None:
    together = threading.Barrier(AGENTS_AT_ONCE, timeout=10)

    def answer(path: str) -> Any:
        if "pve2" in path:
            together.wait()  # fails unless that many are asked side by side
        return plain(path)

    server = Server(answer)
    rows = [row(vmid, "pve2") for vmid in range(100, 100 + 3 * AGENTS_AT_ONCE)] + [row(vmid) for vmid in range(20)]
    gathered = ask(server, rows, "agent", concurrency=16)
    assert server.busiest["pve2"] == AGENTS_AT_ONCE
    assert server.busiest["pve1"] <= AGENTS_AT_ONCE
    assert all("agent" in facts for facts in gathered.facts.values())


def test_agents_are_asked_for_a_limited_time() -> None:
    times = iter(range(0, 1000, 3))
    server = Server(plain)
    rows = [row(vmid) for vmid in range(100, 110)]
    gathered = ask(server, rows, "agent", concurrency=1, agent_seconds=10.0, now=lambda: float(next(times)))
    assert len(server.asked) == 3
    assert len(gathered.unasked) == 7
    assert sorted(gathered.unasked + [int(path.split("/")[4]) for path in server.asked]) == list(range(100, 110))
