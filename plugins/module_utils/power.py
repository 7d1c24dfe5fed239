# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Power: which call brings a guest from each observed state to each wanted one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import agent
from .errors import Refused
from .guests import LOOKS_BEFORE_START, RESTING_LOCKS, Guest, GuestRef, reference, wait_for_lock
from .guests import observe as observe_guest
from .hosts import Networks
from .plan import Call, Feature, Pace, Plan, Reader

# Observed states, made of what the server calls status, qmpstatus and lock.
RUNNING = "running"
PAUSED = "paused"
PRELAUNCH = "prelaunch"
BACKED_UP = "backed up while stopped"
CRASHED = "crashed"
STOPPED = "stopped"
HIBERNATED = "hibernated"

# QEMU's run states in which the guest waits for somebody to resume it, and those that only a reset or stop ends
# (qapi/run-state.json).
_QMP = {
    **dict.fromkeys(("paused", "suspended", "io-error", "watchdog", "debug"), PAUSED),
    **dict.fromkeys(("prelaunch", "inmigrate", "postmigrate", "finish-migrate", "restore-vm", "save-vm"), PRELAUNCH),
    **dict.fromkeys(("internal-error", "guest-panicked", "shutdown"), CRASHED),
}

# wanted -> observed -> the verbs that lead there, in order; a text is the reason why nothing can.
# Under `force: now` a shutdown is a stop and a reboot a stop and a start; under `force: after_timeout` the server adds
# the stop, and a reboot, which cannot, is a shutdown and a start.
DECISIONS: Mapping[str, Mapping[str, tuple[str, ...] | str]] = {
    "started": {
        RUNNING: (),
        PAUSED: ("resume",),
        PRELAUNCH: ("resume",),
        BACKED_UP: ("start",),
        CRASHED: "it has crashed; use state=reset, or state=restarted with force=now",
        STOPPED: ("start",),
        HIBERNATED: ("start",),
    },
    "stopped": {
        RUNNING: ("shutdown",),
        PAUSED: ("resume", "shutdown"),
        PRELAUNCH: ("stop",),
        BACKED_UP: (),
        CRASHED: ("stop",),
        STOPPED: (),
        HIBERNATED: (),
    },
    "restarted": {
        RUNNING: ("reboot",),
        PAUSED: ("resume", "reboot"),
        PRELAUNCH: ("stop", "start"),
        BACKED_UP: ("start",),
        CRASHED: ("stop", "start"),
        STOPPED: ("start",),
        HIBERNATED: ("start",),
    },
    "reset": {
        RUNNING: ("reset",),
        PAUSED: ("reset", "resume"),
        PRELAUNCH: ("reset", "resume"),
        BACKED_UP: "it is stopped, and only a running VM can be reset; use state=started",
        CRASHED: ("reset",),
        STOPPED: "it is stopped, and only a running VM can be reset; use state=started",
        HIBERNATED: "it is hibernated, and only a running VM can be reset; use state=started",
    },
    "paused": {
        RUNNING: ("suspend",),
        PAUSED: (),
        PRELAUNCH: (),
        BACKED_UP: "it is stopped, and only a running VM can be paused",
        CRASHED: "it has crashed, and only a running VM can be paused",
        STOPPED: "it is stopped, and only a running VM can be paused",
        HIBERNATED: "it is hibernated, and only a running VM can be paused",
    },
    "hibernated": {
        RUNNING: ("hibernate",),
        PAUSED: ("hibernate",),
        PRELAUNCH: "it is about to start; repeat this when it runs",
        BACKED_UP: "it is stopped, and only a running VM can be hibernated",
        CRASHED: "it has crashed, and only a running VM can be hibernated",
        STOPPED: "it is stopped, and only a running VM can be hibernated",
        HIBERNATED: (),
    },
}

# verb -> path below status/ and the type of its task for VMs and containers (PVE/API2/Qemu.pm, PVE/API2/LXC/Status.pm).
_VERBS: Mapping[str, tuple[str, str, str]] = {
    "start": ("start", "qmstart", "vzstart"),
    "stop": ("stop", "qmstop", "vzstop"),
    "shutdown": ("shutdown", "qmshutdown", "vzshutdown"),
    "reboot": ("reboot", "qmreboot", "vzreboot"),
    "reset": ("reset", "qmreset", ""),
    "suspend": ("suspend", "qmpause", ""),
    "hibernate": ("suspend", "qmsuspend", ""),
    "resume": ("resume", "qmresume", "vzresume"),
}

# What high availability takes over: these calls only queue a request (PVE/API2/Qemu.pm).
_QUEUED = {"start": "hastart", "stop": "hastop", "shutdown": "hastop"}

# States of high availability in which a stopped guest stays stopped (PVE/HA/Manager.pm); None is for guests that it leaves alone.
HA_HALTED = frozenset({None, "stopped", "request_stop", "disabled", "ignored", "error"})

# State that a verb leads to, as it is foretold.
_LEADS_TO = {"started": RUNNING, "stopped": STOPPED, "restarted": RUNNING, "reset": RUNNING, "paused": PAUSED}

VM_ONLY = frozenset({"reset", "paused", "hibernated"})
# States in which a guest runs, so that it can be waited for until it answers.
AWAKE = frozenset({"started", "restarted", "reset"})


@dataclass(frozen=True)
class Wanted:
    """:param force: never, after_timeout or now. :param shutdown_timeout: seconds, None for the server's own.

    :param wait_for: none, agent or ip. :param liked: which addresses are.
    """

    guest: GuestRef
    state: str
    force: str = "never"
    shutdown_timeout: int | None = None
    statestorage: str | None = None
    wait_for: str = agent.NOTHING
    liked: Networks = field(default_factory=Networks)


@dataclass(frozen=True)
class Observed:
    """:param stopped_looks: looks in a row at which it was stopped, this one included.

    :param reached: what the guest tells of itself; None where it was not asked.
    """

    guest: Guest
    stopped_looks: int = 0
    reached: agent.Reached | None = None


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    shutdown_timeout = options.get("shutdown_timeout")
    if shutdown_timeout is not None and shutdown_timeout >= options["timeout"]:
        raise Refused(
            f"shutdown_timeout ({shutdown_timeout} s) must be shorter than timeout ({options['timeout']} s), or the outcome of "
            "the shutdown would never be seen."
        )
    state, wait_for, liked = options["state"], options.get("wait_for") or agent.NOTHING, agent.networks(options)
    if wait_for != agent.NOTHING and state not in AWAKE:
        raise Refused(f"wait_for={wait_for} is for guests that are to run, not for state={state}.")
    return Wanted(
        reference(options), state, options["force"], shutdown_timeout, options.get("statestorage"), wait_for, liked
    )


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the guest's live state."""
    guest = observe_guest(reader, want.guest, previous.guest if previous is not None else None)
    looks = previous.stopped_looks if previous is not None else 0
    now = Observed(guest, looks + 1 if guest.status == STOPPED else 0)
    if want.wait_for == agent.NOTHING:
        return now
    config = agent.config_in_force(reader, guest, restarting=want.state == "restarted")
    agent.check_enabled(guest, config)
    # Before it is restarted it need not answer, and while others work on it there is time.
    early = want.state != "started" and (previous is None or guest.lock is not None)
    if early or state_of(guest) != RUNNING:
        return now
    return replace(now, reached=agent.reach(reader, guest, config, want.liked))


def state_of(guest: Guest) -> str:
    """Return the observed state of the table above."""
    if guest.status == STOPPED:
        return HIBERNATED if guest.lock in RESTING_LOCKS else STOPPED
    state = _QMP.get(guest.qmpstatus or "", RUNNING)
    return BACKED_UP if state == PRELAUNCH and guest.lock == "backup" else state


def decide(want: Wanted, observed: Observed, done: Sequence[Call]) -> Plan:
    """Return the calls that are left."""
    guest, state = observed.guest, state_of(observed.guest)
    if guest.kind == "lxc" and want.state in VM_ONLY:
        raise Refused(f"{guest} is a container, and state={want.state} exists for VMs only.")
    if guest.template and want.state != "stopped":
        raise Refused(f"{guest} is a template; it cannot be {want.state}. Clone it first.")
    if want.state == STOPPED and state == STOPPED and guest.ha_state not in HA_HALTED:
        # High availability is about to start it again, here or elsewhere, unless it is told to stop it.
        state = RUNNING
    verbs = _left(want, observed, state, done)
    if isinstance(verbs, str):
        if guest.lock is not None and guest.lock not in RESTING_LOCKS and state != BACKED_UP:
            # Somebody's work is just leading through this state, as on the way to hibernation.
            return Plan({"state": state}, {"state": state}, (), wait_for_lock(guest))
        raise Refused(f"{guest} on node {guest.node} cannot be brought to state={want.state}: {verbs}.")
    calls = tuple(_call(want, guest, verb) for verb in verbs)
    before = {"state": state}
    after = {"state": _LEADS_TO.get(want.state, want.state) if verbs else state}
    waiting, pause = _waiting(want, observed, verbs, calls, done), 0.0
    if not verbs and state == RUNNING:
        waiting, pause = agent.missing(guest, observed.reached, want.wait_for)
    return Plan(before, after, () if waiting is not None and done else calls, waiting, pause=pause)


def _left(want: Wanted, observed: Observed, state: str, done: Sequence[Call]) -> tuple[str, ...] | str:
    """Return the verbs that are left, or the reason why none can be."""
    verbs = DECISIONS[want.state][state]
    if isinstance(verbs, str):
        return verbs
    sent = [call.path.rpartition("/")[2] for call in done]
    if (want.state == "reset" and "reset" in sent) or (want.state == "restarted" and {"reboot", "start"} & set(sent)):
        # The deed is done; what is left is to see it run.
        return DECISIONS["started"][state]
    return tuple(step for verb in verbs for step in _forced(want, observed.guest, verb))


def _forced(want: Wanted, guest: Guest, verb: str) -> tuple[str, ...]:
    """Return the verbs that a verb becomes under the wanted force."""
    if want.force == "now":
        return {"shutdown": ("stop",), "reboot": ("stop", "start"), "resume": ()}.get(verb, (verb,))
    if want.force == "after_timeout":
        # The server's reboot knows no force.
        return {"reboot": ("shutdown", "start")}.get(verb, (verb,))
    return (verb,)


def _call(want: Wanted, guest: Guest, verb: str) -> Call:
    name, vm_task, ct_task = _VERBS[verb]
    task = vm_task if guest.kind == "qemu" else ct_task
    managed = guest.ha_state is not None
    params: dict[str, object] = {}
    if verb in ("shutdown", "reboot") and want.shutdown_timeout is not None:
        params["timeout"] = want.shutdown_timeout
    if verb == "shutdown" and want.force == "after_timeout":
        params["forceStop"] = True
    if verb == "stop" and not managed:
        # A shutdown that still waits for the guest holds its lock for as long.
        params["overrule-shutdown"] = True
    if verb == "hibernate":
        params["todisk"] = True
        if want.statestorage is not None:
            params["statestorage"] = want.statestorage
    if managed:
        task = _QUEUED.get(verb, task)
    return Call("POST", f"{guest.path}/status/{name}", params, f"{verb} {guest}", (task, str(guest.vmid)))


def _waiting(
    want: Wanted, observed: Observed, verbs: tuple[str, ...], calls: Sequence[Call], done: Sequence[Call]
) -> str | None:
    """Return what must happen before the next call, None where it can be sent at once."""
    guest = observed.guest
    if not verbs:
        return None
    if guest.ha_state == "error":
        raise Refused(
            f"{guest} is in error state in high availability, which does nothing with it until it is disabled and enabled again "
            f"('ha-manager set {_sid(guest)} --state disabled', mend it, then '--state started')."
        )
    if guest.ha_state is not None and any(calls[0].same_deed(call) for call in done):
        return f"high availability to {verbs[0]} {guest} (its state there: {guest.ha_state})"
    rebooted = any(call.path.endswith("/reboot") for call in done)
    if rebooted and verbs == ("start",) and observed.stopped_looks < LOOKS_BEFORE_START:
        return f"{guest} to come back after its reboot"
    if guest.lock is not None and guest.lock not in RESTING_LOCKS and state_of(guest) != BACKED_UP:
        return wait_for_lock(guest)
    return None


def _sid(guest: Guest) -> str:
    return f"{'vm' if guest.kind == 'qemu' else 'ct'}:{guest.vmid}"


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guest as observed, and its addresses where they were waited for."""
    shown: dict[str, object] = {"guest": observed.guest.shown()}
    if want.wait_for != agent.NOTHING:
        reached = observed.reached or agent.Reached()
        shown.update(ip=reached.ip, addresses=list(reached.addresses))
    return shown


# The server starts a task for each and is free again; what takes time is the guests' own doing.
FEATURE = Feature(wanted, observe, decide, result, Pace())
