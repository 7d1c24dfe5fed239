"""Facts of many guests: what is asked, what is not, and that one guest or node costs only its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError
from ansible_collections.keel.proxmox.plugins.module_utils.facts import AGENTS_AT_ONCE, Gathered, gather


class Server:
    """Answers each path by a function; keeps what was asked and how much of it at the same time."""

    def __init__(self, answer: Callable[[str], Any]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.busy: dict[str, int] = {}
        self.busiest: dict[str, int] = {}
        self._lock = threading.Lock()

    def get(self, path: str, /, **query: object) -> Any:
        node = path.split("/")[2]
        path += "".join(f"?{key}={value}" for key, value in query.items())
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
    settings: dict[str, Any] = {
        "guests": rows,
        "ask_agent": lambda _row, _facts: True,
        "concurrency": 4,
        "agent_seconds": 60.0,
    }
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
    """The time counts from when nothing else is to be learnt."""
    others = threading.Event()
    lanes = threading.Semaphore(0)

    def answer(path: str) -> Any:
        if path.endswith("get-interfaces"):
            lanes.acquire(timeout=10)
        return plain(path)

    def now() -> float:
        # The first to ask for the time is the one that sets the limit; then the agents in the lanes go on.
        if not others.is_set() and threading.current_thread() is threading.main_thread():
            others.set()
            for _agent in range(100):
                lanes.release()
            return 0.0
        return 11.0 if others.is_set() else 0.0

    server = Server(answer)
    rows = [row(vmid) for vmid in range(100, 110)]
    gathered = ask(server, rows, "config", "agent", agent_seconds=10.0, now=now)
    asked = [int(path.split("/")[4]) for path in server.asked if "agent/" in path]
    assert len(asked) == AGENTS_AT_ONCE
    assert len(gathered.unasked) == 10 - AGENTS_AT_ONCE
    assert sorted(gathered.unasked + asked) == list(range(100, 110))


def test_agents_are_asked_while_others_are_still_asked_for_their_facts() -> None:
    """An agent that was asked is needed for the last configuration, or this never ends."""
    answered = threading.Event()

    def answer(path: str) -> Any:
        if path.endswith("100/agent/network-get-interfaces"):
            answered.set()
        if path.endswith("109/config"):
            assert answered.wait(10)
        return plain(path)

    gathered = ask(Server(answer), [row(vmid) for vmid in range(100, 110)], "config", "agent", concurrency=1)
    assert all("agent" in facts for facts in gathered.facts.values())


def listing(path: str) -> Any:
    """What a node tells of all its guests, and plain answers to all else."""
    if path.endswith(("/qemu?full=1", "/lxc")):
        first = 100 if "qemu" in path else 200
        return [{"vmid": first + number, "status": "running", "of": path} for number in range(9)]
    return plain(path)


def test_the_status_of_many_is_one_request_a_node_and_kind() -> None:
    server = Server(listing)
    rows = [row(vmid) for vmid in range(100, 105)] + [row(vmid, kind="lxc") for vmid in range(200, 205)]
    gathered = ask(server, rows, "status")
    assert sorted(server.asked) == ["/nodes/pve1/lxc", "/nodes/pve1/qemu?full=1"]
    assert gathered.facts["104"]["status"] == {"vmid": 104, "status": "running", "of": "/nodes/pve1/qemu?full=1"}
    assert gathered.facts["200"]["status"]["of"] == "/nodes/pve1/lxc"


def test_the_status_of_few_among_many_is_asked_for_one_by_one() -> None:
    everybody = [row(vmid) for vmid in range(100, 200)]
    server = Server(listing)
    ask(server, everybody[:5], "status", guests=everybody)
    assert sorted(server.asked) == [f"/nodes/pve1/qemu/{vmid}/status/current" for vmid in range(100, 105)]
    server = Server(listing)
    ask(server, everybody[:2], "status", guests=everybody[:2])
    assert sorted(server.asked) == [f"/nodes/pve1/qemu/{vmid}/status/current" for vmid in (100, 101)]


def test_a_guest_that_its_node_does_not_list_is_asked_itself() -> None:
    """It moved away, or it was destroyed: its own answer tells."""
    server = Server(listing)
    gathered = ask(server, [row(vmid) for vmid in range(105, 110)], "status")
    assert "/nodes/pve1/qemu/109/status/current" in server.asked
    assert len(server.asked) == 2
    assert gathered.facts["109"]["status"] == {"of": "/nodes/pve1/qemu/109/status/current"}


def test_where_a_node_will_not_list_each_guest_is_asked() -> None:
    def answer(path: str) -> Any:
        if path.endswith("/qemu?full=1"):
            raise ProxmoxError("got timeout", status=500)
        return plain(path)

    server = Server(answer)
    gathered = ask(server, [row(vmid) for vmid in range(100, 105)], "status")
    assert len(server.asked) == 6
    assert (gathered.failed, gathered.skipped) == ({}, {})


def test_a_node_that_cannot_be_reached_for_its_list_is_asked_no_more() -> None:
    def answer(path: str) -> Any:
        if "pve3" in path:
            raise ProxmoxError("no route", status=595)
        return listing(path)

    server = Server(answer)
    rows = [row(vmid, "pve3") for vmid in range(200, 250)] + [row(vmid) for vmid in range(100, 105)]
    gathered = ask(server, rows, "status", concurrency=1)
    assert [path for path in server.asked if "pve3" in path] == ["/nodes/pve3/qemu?full=1"]
    assert gathered.skipped == {"pve3": 50}


def test_refused_credentials_end_it_wherever_they_are_refused() -> None:
    for what in ("/qemu?full=1", "/config", "get-interfaces"):

        def answer(path: str, what: str = what) -> Any:
            if path.endswith(what):
                raise ProxmoxError("refused", status=401)
            return plain(path) if "full" not in path else []

        server = Server(answer)
        rows = [row(vmid) for vmid in range(100, 150)]
        with pytest.raises(ProxmoxError, match="refused"):
            ask(server, rows, "status", "config", "agent", concurrency=2)
        assert len([path for path in server.asked if path.endswith(what)]) <= 4


def test_others_are_asked_while_a_node_takes_its_time_to_list() -> None:
    """The list ends when the last configuration has been asked for, or this never ends."""
    others = threading.Event()
    configs: list[str] = []

    def answer(path: str) -> Any:
        if path.endswith("/qemu?full=1"):
            assert others.wait(10)
        elif path.endswith("/config"):
            configs.append(path)
            if len(configs) == 9:
                others.set()
        return listing(path)

    gathered = ask(Server(answer), [row(vmid) for vmid in range(100, 109)], "config", "status", "agent", concurrency=2)
    assert {facts["status"]["status"] for facts in gathered.facts.values()} == {"running"}
    assert all("agent" in facts for facts in gathered.facts.values())


def moved(places: dict[int, str], path: str) -> Any:
    """Answers of a cluster where the guests are elsewhere by now, as Proxmox VE words them."""
    if path == "/cluster/resources?type=vm":
        return [row(vmid, node) for vmid, node in places.items()]
    node, vmid = path.split("/")[2], path.split("/")[4]
    if places.get(int(vmid)) != node:
        text = f"Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist"
        raise ProxmoxError(text, status=500, effect=Effect.ABSENT)
    return plain(path)


def test_guests_that_moved_meanwhile_are_found_again() -> None:
    """One request for all of them; a node that had no guest before and one whose guest is gone are among it."""
    places = {100: "pve1", 101: "pve3", 102: "pve2"}
    server = Server(lambda path: moved(places, path))
    rows = [row(vmid) for vmid in (100, 101, 102, 103)]
    gathered = ask(server, rows, "config", "agent")
    assert server.asked.count("/cluster/resources?type=vm") == 1
    assert gathered.facts["101"] == {"config": {"of": "/nodes/pve3/qemu/101/config"}, "agent": [{"name": "lo"}]}
    assert gathered.facts["102"]["config"] == {"of": "/nodes/pve2/qemu/102/config"}
    assert gathered.failed.keys() == {103}
    assert "does not exist" in gathered.facts["103"]["error"]
    assert gathered.silent.keys() <= {103}


def test_a_guest_that_moves_before_its_agent_is_asked_is_found_again() -> None:
    places = {100: "pve1"}

    def answer(path: str) -> Any:
        if path.endswith("get-interfaces"):
            places[100] = "pve2"
        return moved(places, path)

    gathered = ask(Server(answer), [row(100)], "config", "agent")
    assert gathered.facts["100"]["agent"] == [{"name": "lo"}]
    assert (gathered.failed, gathered.silent, gathered.passing) == ({}, {}, set())


def test_guests_that_are_where_they_were_are_not_looked_for() -> None:
    server = Server(lambda path: moved({100: "pve1"}, path))
    ask(server, [row(100)], "config", "agent")
    assert "/cluster/resources?type=vm" not in server.asked


def test_where_nobody_tells_who_moved_the_others_keep_their_facts() -> None:
    def answer(path: str) -> Any:
        if path.startswith("/cluster"):
            raise ProxmoxError("no quorum", status=500)
        return moved({100: "pve1"}, path)

    gathered = ask(Server(answer), [row(100), row(101)], "config")
    assert gathered.failed.keys() == {101}
    assert "config" in gathered.facts["100"]


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (ProxmoxError("no route", status=595, effect=Effect.NOT_EXECUTED), {101}),
        (ProxmoxError("got timeout", status=500, effect=Effect.CONTENDED), {101}),
        (ProxmoxError("gone", status=500, effect=Effect.ABSENT), {101}),
        (ProxmoxError("Permission check failed", status=403), set()),
    ],
)
def test_what_is_missing_for_now_only_is_told_apart(error: ProxmoxError, passing: set[int]) -> None:
    def answer(path: str) -> Any:
        if "/101/" in path:
            raise error
        return [] if path.startswith("/cluster") else plain(path)

    rows = [row(100), row(101, "pve2"), row(102, "pve3")]
    gathered = ask(Server(answer), rows, "config", "agent", down=["pve3"])
    assert gathered.passing == passing
    assert "error" in gathered.facts["101"]


def test_an_agent_that_answers_nothing_is_not_expected_to_the_next_time() -> None:
    def answer(path: str) -> Any:
        if path.endswith("get-interfaces"):
            raise ProxmoxError("qga command failed - got timeout", status=500, effect=Effect.AMBIGUOUS)
        return plain(path)

    gathered = ask(Server(answer), [row(100)], "agent")
    assert gathered.silent.keys() == {100}
    assert gathered.passing == set()
