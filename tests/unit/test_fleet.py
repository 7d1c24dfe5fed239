"""Several guests at a time: who is worked on beside whom, what the whole result is, and what an interrupt leaves."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError
from ansible_collections.keel.proxmox.plugins.module_utils.fleet import TOLD, FleetReport, work
from ansible_collections.keel.proxmox.plugins.module_utils.guests import Guest
from ansible_collections.keel.proxmox.plugins.module_utils.module import Report
from ansible_collections.keel.proxmox.plugins.module_utils.plan import MASK, Call

GUESTS = [Guest(100 + number, "qemu", f"pve{number % 3}", name=f"web{number}") for number in range(24)]


@dataclass
class Crowd:
    """Who is worked on at the same time; each stays until as many are there as there can be, or nobody else comes."""

    together: int
    here: list[Guest] = field(default_factory=list)
    most: int = 0
    most_on_node: int = 0
    change: threading.Condition = field(default_factory=threading.Condition)

    def bring(self, guest: Guest) -> Report:
        with self.change:
            self.here.append(guest)
            nodes = [one.node for one in self.here]
            self.most = max(self.most, len(nodes))
            self.most_on_node = max(self.most_on_node, *(nodes.count(node) for node in nodes))
            self.change.notify_all()
            self.change.wait_for(lambda: len(self.here) >= self.together or self.most >= self.together, timeout=10)
            self.here.remove(guest)
        return Report(details={"guest": guest.shown()})


@pytest.mark.parametrize(
    ("parallel", "per_node", "nodes", "most", "on_node"),
    [
        (8, None, (), 8, 8),
        (24, None, (), 24, 8),
        (24, 2, (), 6, 2),
        (4, 3, (), 4, 3),
        (8, 2, ("pve0",), 2, 2),
        (8, 1, (), 3, 1),
        (1, None, (), 1, 1),
    ],
)
def test_so_many_at_a_time(parallel: int, per_node: int | None, nodes: Sequence[str], most: int, on_node: int) -> None:
    crowd = Crowd(most)
    reports = work(
        GUESTS, crowd.bring, parallel=parallel, per_node=per_node, nodes=nodes, halt=lambda: pytest.fail("halted")
    )
    assert crowd.most == most
    assert crowd.most_on_node <= on_node
    assert [(report.details or {})["guest"] for report in reports] == [guest.shown() for guest in GUESTS]


class Place(str):
    """A node that counts how often it is looked up."""

    looked_up = 0

    def __hash__(self) -> int:
        Place.looked_up += 1
        return super().__hash__()


def test_who_waits_is_not_looked_at_for_each_that_ends() -> None:
    node = Place("pve1")
    guests = [Guest(vmid, "qemu", node) for vmid in range(100, 500)]
    work(guests, lambda guest: Report(), parallel=8, per_node=4, nodes=(), halt=lambda: None)
    assert Place.looked_up < 20 * len(guests)


def test_the_first_whose_node_can_bear_it_is_next() -> None:
    """While somebody is on pve0, those behind who are elsewhere come first; of each node they keep their order."""
    held, begun = threading.Event(), list[int]()

    def bring(guest: Guest) -> Report:
        begun.append(guest.vmid)
        if guest.vmid == 100:
            assert held.wait(5)
        elif guest.vmid == 123:
            # The last of those who can come while the first is there.
            held.set()
        return Report()

    guests = [guest for guest in GUESTS if guest.node != "pve1"]
    work(guests, bring, parallel=2, per_node=1, nodes=(), halt=lambda: None)
    assert begun[:9] == [100, *range(102, 124, 3)]
    assert begun[9:] == list(range(103, 122, 3))


def test_nobody_at_all() -> None:
    assert work([], Crowd(1).bring, parallel=8, per_node=2, nodes=(), halt=lambda: None) == []


def test_what_has_not_begun_when_the_user_interrupts_does_not_begin() -> None:
    begun: list[int] = []
    halted, both = threading.Event(), threading.Barrier(2)

    def bring(guest: Guest) -> Report:
        begun.append(guest.vmid)
        if both.wait(5) == 0:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        assert halted.wait(5), "what is under way is told to end"
        return Report()

    # A shell lets what it starts in the background ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            work(GUESTS, bring, parallel=2, per_node=None, nodes=(), halt=halted.set)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(begun) == [100, 101]


def test_a_bug_is_no_failure_of_a_guest() -> None:
    halted = threading.Event()

    def bring(guest: Guest) -> Report:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work(GUESTS, bring, parallel=2, per_node=None, nodes=(), halt=halted.set)
    assert halted.is_set()


def start(guest: Guest) -> Call:
    return Call("POST", f"{guest.path}/status/start", {}, f"start {guest}")


def started(guest: Guest, **more: Any) -> Report:
    before, after = {"state": "stopped"}, {"state": "running"}
    details = {"guest": {**guest.shown(), "status": "running"}}
    return Report((start(guest),), (f"UPID:{guest.vmid}",), (), before, after, details, **more)


def failed(guest: Guest, message: str = "No such luck.", **more: Any) -> Report:
    return Report(error=ProxmoxError(message, effect=Effect.PERMANENT, request=f"GET {guest.path}", **more))


def test_the_whole_is_made_of_its_parts() -> None:
    one, two, three = GUESTS[:3]
    unchanged = Report(before={"state": "running"}, after={"state": "running"}, details={"guest": two.shown()})
    report = FleetReport((one, two, three), (started(one), unchanged, started(three)), ("A node is down.",))
    result = report.presented()
    assert report.error is None
    assert "msg" not in result
    assert result["changed"] is True
    assert [entry["changed"] for entry in result["results"]] == [True, False, True]
    assert [entry["failed"] for entry in result["results"]] == [False, False, False]
    assert [call["summary"] for call in result["calls"]] == ["start VM 100", "start VM 102"]
    assert result["tasks"] == ["UPID:100", "UPID:102"]
    assert result["warnings"] == ["A node is down."]
    assert result["diff"][0] == {
        "before": {"state": "stopped"},
        "after": {"state": "running"},
        "before_header": "VM 100 (web0)",
        "after_header": "VM 100 (web0)",
    }
    assert [one["before_header"] for one in result["diff"]] == ["VM 100 (web0)", "VM 101 (web1)", "VM 102 (web2)"]


def test_no_guest_is_no_change() -> None:
    result = FleetReport((), ()).presented()
    assert result == {"changed": False, "calls": [], "tasks": [], "diff": [], "results": [], "warnings": []}


def test_one_that_fails_does_not_hide_the_others() -> None:
    one, two, three = GUESTS[:3]
    result = FleetReport(
        (one, two, three), (started(one), failed(two, status=403), failed(three, "Not that either", status=500))
    ).presented()
    assert result["msg"] == ("2 of 3 guests failed. VM 101 (web1): No such luck. VM 102 (web2): Not that either.")
    assert result["changed"] is True
    assert (result["status"], result["request"]) == (403, f"GET {two.path}")
    assert [entry["failed"] for entry in result["results"]] == [False, True, True]
    assert result["results"][1]["guest"]["vmid"] == 101, "as the cluster knows it"
    assert result["results"][1]["msg"] == "No such luck."


def test_what_was_done_before_a_failure_is_told() -> None:
    guest = GUESTS[0]
    result = FleetReport((guest,), (started(guest, error=ProxmoxError("Then it crashed.")),)).presented()
    assert result["changed"] is True
    assert result["msg"] == "1 of 1 guest failed. VM 100 (web0): Then it crashed. Done before that: start VM 100."


def test_many_failures_are_counted() -> None:
    result = FleetReport(GUESTS, [failed(guest) for guest in GUESTS]).presented()
    assert result["msg"].startswith("24 of 24 guests failed. VM 100 (web0): No such luck.")
    assert result["msg"].count("No such luck") == TOLD
    assert result["msg"].endswith(", VM 123 (web23); see results.")


def test_warnings_say_whose_they_are() -> None:
    guest = GUESTS[0]
    result = FleetReport((guest,), (Report(warnings=("Look out.",), details={"guest": guest.shown()}),)).presented()
    assert result["warnings"] == ["VM 100 (web0): Look out."]
    assert result["results"][0]["warnings"] == ["Look out."]


def test_names_from_the_server_are_harmless_and_secrets_masked() -> None:
    guest = Guest(100, "qemu", "pve1", name="w\x1b[31m", pool="s3cret")
    result = FleetReport((guest,), (failed(guest, "It said s3cret."),), ("s3cret is down.",)).presented(["s3cret"])
    assert "\x1b" not in str(result)
    assert "s3cret" not in str(result)
    assert result["results"][0]["guest"]["pool"] == MASK
    assert result["warnings"] == [f"{MASK} is down."]
