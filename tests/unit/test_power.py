"""The power table: each observed state against each wanted one, and what force and high availability make of it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Refused
from ansible_collections.keel.proxmox.plugins.module_utils.guests import LOOKS_BEFORE_START, Guest, GuestRef
from ansible_collections.keel.proxmox.plugins.module_utils.power import (
    DECISIONS,
    Observed,
    Wanted,
    decide,
    state_of,
    wanted,
)

REF = GuestRef(vmid=100)

GUESTS = {
    "running": Guest(100, "qemu", "pve1", "web", "running", "running"),
    "paused": Guest(100, "qemu", "pve1", "web", "running", "paused"),
    "prelaunch": Guest(100, "qemu", "pve1", "web", "running", "prelaunch"),
    "backed up while stopped": Guest(100, "qemu", "pve1", "web", "running", "prelaunch", lock="backup"),
    "crashed": Guest(100, "qemu", "pve1", "web", "running", "guest-panicked"),
    "stopped": Guest(100, "qemu", "pve1", "web", "stopped", "stopped"),
    "hibernated": Guest(100, "qemu", "pve1", "web", "stopped", "stopped", lock="suspended"),
}

# wanted, observed, force -> verbs sent; None where it is refused.
TABLE = {
    ("started", "running", "never"): [],
    ("started", "paused", "never"): ["resume"],
    ("started", "prelaunch", "never"): ["resume"],
    ("started", "backed up while stopped", "never"): ["start"],
    ("started", "crashed", "never"): None,
    ("started", "stopped", "never"): ["start"],
    ("started", "hibernated", "never"): ["start"],
    ("stopped", "running", "never"): ["shutdown"],
    ("stopped", "running", "after_timeout"): ["shutdown"],
    ("stopped", "running", "now"): ["stop"],
    ("stopped", "paused", "never"): ["resume", "shutdown"],
    ("stopped", "paused", "now"): ["stop"],
    ("stopped", "prelaunch", "never"): ["stop"],
    ("stopped", "backed up while stopped", "never"): [],
    ("stopped", "crashed", "never"): ["stop"],
    ("stopped", "stopped", "never"): [],
    ("stopped", "hibernated", "never"): [],
    ("restarted", "running", "never"): ["reboot"],
    ("restarted", "running", "after_timeout"): ["shutdown", "start"],
    ("restarted", "running", "now"): ["stop", "start"],
    ("restarted", "paused", "never"): ["resume", "reboot"],
    ("restarted", "prelaunch", "never"): ["stop", "start"],
    ("restarted", "backed up while stopped", "never"): ["start"],
    ("restarted", "crashed", "never"): ["stop", "start"],
    ("restarted", "stopped", "never"): ["start"],
    ("restarted", "hibernated", "never"): ["start"],
    ("reset", "running", "never"): ["reset"],
    ("reset", "paused", "never"): ["reset", "resume"],
    ("reset", "prelaunch", "never"): ["reset", "resume"],
    ("reset", "backed up while stopped", "never"): None,
    ("reset", "crashed", "never"): ["reset"],
    ("reset", "stopped", "never"): None,
    ("reset", "hibernated", "never"): None,
    ("paused", "running", "never"): ["suspend"],
    ("paused", "paused", "never"): [],
    ("paused", "prelaunch", "never"): [],
    ("paused", "backed up while stopped", "never"): None,
    ("paused", "crashed", "never"): None,
    ("paused", "stopped", "never"): None,
    ("paused", "hibernated", "never"): None,
    ("hibernated", "running", "never"): ["suspend"],
    ("hibernated", "paused", "never"): ["suspend"],
    ("hibernated", "prelaunch", "never"): None,
    ("hibernated", "backed up while stopped", "never"): None,
    ("hibernated", "crashed", "never"): None,
    ("hibernated", "stopped", "never"): None,
    ("hibernated", "hibernated", "never"): [],
}


def sent(want: Wanted, guest: Guest, **seen: int) -> list[str]:
    return [call.path.rpartition("/")[2] for call in decide(want, Observed(guest, **seen), ()).calls]


def test_every_pair_is_in_both_tables() -> None:
    pairs = set(product(DECISIONS, GUESTS))
    assert {(state, observed) for state, row in DECISIONS.items() for observed in row} == pairs
    assert {(state, observed) for state, observed, _force in TABLE} == pairs


@pytest.mark.parametrize("state", GUESTS)
def test_states_are_told_apart(state: str) -> None:
    assert state_of(GUESTS[state]) == state


@pytest.mark.parametrize(("state", "observed", "force"), TABLE)
def test_pair(state: str, observed: str, force: str) -> None:
    want = Wanted(REF, state, force)
    verbs = TABLE[state, observed, force]
    if verbs is None:
        with pytest.raises(Refused, match=rf"VM 100 on node pve1 cannot be brought to state={state}"):
            decide(want, Observed(GUESTS[observed]), ())
    else:
        assert sent(want, GUESTS[observed]) == verbs


def test_a_deed_without_a_trace_is_done_once() -> None:
    for state, verb in (("restarted", "reboot"), ("reset", "reset")):
        want, running = Wanted(REF, state), Observed(GUESTS["running"])
        first = decide(want, running, ())
        assert first.calls[0].path.endswith(verb)
        assert not decide(want, running, first.calls).calls


def test_a_guest_that_does_not_come_back_after_a_reboot_is_started() -> None:
    want = Wanted(REF, "restarted")
    done = decide(want, Observed(GUESTS["running"]), ()).calls
    early = decide(want, Observed(GUESTS["stopped"], stopped_looks=1), done)
    assert early.waiting == "VM 100 to come back after its reboot"
    late = decide(want, Observed(GUESTS["stopped"], stopped_looks=LOOKS_BEFORE_START), done)
    assert late.waiting is None
    assert [call.path.rpartition("/")[2] for call in late.calls] == ["start"]


def test_high_availability_is_asked_once_and_then_waited_for() -> None:
    want = Wanted(REF, "started")
    managed = replace(GUESTS["stopped"], ha_state="stopped")
    first = decide(want, Observed(managed), ())
    assert first.calls[0].task == ("hastart", "100")
    assert first.waiting is None
    then = decide(want, Observed(managed), first.calls)
    assert not then.calls
    assert then.waiting is not None
    assert "high availability" in then.waiting


@pytest.mark.parametrize(
    ("ha_state", "verbs"),
    [("started", ["shutdown"]), ("recovery", ["shutdown"]), ("stopped", []), ("request_stop", [])],
)
def test_a_stopped_guest_that_high_availability_will_start_is_told_to_stop(ha_state: str, verbs: list[str]) -> None:
    guest = replace(GUESTS["stopped"], ha_state=ha_state)
    assert sent(Wanted(REF, "stopped"), guest) == verbs


def test_a_restart_under_high_availability_stops_first_then_starts() -> None:
    want = Wanted(REF, "restarted", "now")
    up = replace(GUESTS["running"], ha_state="started")
    down = replace(GUESTS["stopped"], ha_state="stopped")
    stop, start = decide(want, Observed(up), ()).calls
    assert "overrule-shutdown" not in stop.params, "the server refuses it for guests under high availability"
    assert decide(want, Observed(up), (stop,)).waiting
    assert decide(want, Observed(down), (stop,)).calls == (start,)
    assert decide(want, Observed(down), (stop, start)).waiting
    assert not decide(want, Observed(up), (stop, start)).calls


def test_error_state_is_reported_with_the_remedy() -> None:
    broken = replace(GUESTS["stopped"], ha_state="error")
    with pytest.raises(Refused, match="ha-manager set vm:100"):
        decide(Wanted(REF, "started"), Observed(broken), ())


def test_a_lock_is_waited_for_and_the_deed_foretold() -> None:
    plan = decide(Wanted(REF, "stopped"), Observed(replace(GUESTS["running"], lock="snapshot")), ())
    assert plan.waiting == "the lock 'snapshot' of VM 100"
    assert len(plan.calls) == 1


def test_a_lock_that_nobody_holds_is_reported_with_the_remedy() -> None:
    with pytest.raises(Refused, match="qm unlock 100"):
        decide(Wanted(REF, "stopped"), Observed(replace(GUESTS["running"], lock="snapshot", unheld=2)), ())


def test_a_guest_on_its_way_to_hibernation_is_waited_for() -> None:
    plan = decide(Wanted(REF, "hibernated"), Observed(replace(GUESTS["stopped"], lock="suspending")), ())
    assert plan.calls == ()
    assert "suspending" in str(plan.waiting)


def test_containers_have_no_reset() -> None:
    with pytest.raises(Refused, match="CT 100 is a container"):
        decide(Wanted(REF, "reset"), Observed(replace(GUESTS["running"], kind="lxc")), ())


def test_templates_cannot_be_started() -> None:
    with pytest.raises(Refused, match="VM 100 is a template"):
        decide(Wanted(REF, "started"), Observed(replace(GUESTS["stopped"], template=True)), ())


def test_the_parameters_say_what_was_asked() -> None:
    (shutdown,) = decide(Wanted(REF, "stopped", "after_timeout", 90), Observed(GUESTS["running"]), ()).calls
    assert shutdown.params == {"timeout": 90, "forceStop": True}
    (stop,) = decide(Wanted(REF, "stopped", "now"), Observed(GUESTS["running"]), ()).calls
    assert stop.params == {"overrule-shutdown": True}
    (suspend,) = decide(Wanted(REF, "hibernated", statestorage="fast"), Observed(GUESTS["running"]), ()).calls
    assert suspend.params == {"todisk": True, "statestorage": "fast"}


def test_a_shutdown_longer_than_the_wait_is_refused() -> None:
    with pytest.raises(Refused, match="shutdown_timeout"):
        wanted({"vmid": 100, "state": "stopped", "force": "never", "shutdown_timeout": 600, "timeout": 600})
