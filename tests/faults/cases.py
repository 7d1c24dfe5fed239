"""One fault at one request of one scenario: run with it, run again without, run a third time, and see what came of it."""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import requests

from tests.promises.scenarios import Scenario
from tests.simulator import Cluster, Fault, Request
from tests.simulator.engine.propstring import format_size
from tests.simulator.engine.qemu_create import make_template
from tests.simulator.engine.tasks import Task

from .kinds import BROKEN, KILLED_AFTER, KILLED_BEFORE, KINDS, TOKEN_REFUSED, WARNING, Kind
from .world import Endless, Killed, Wire, make_cluster, play, secrets

TIMEOUT = 600.0
# What a run may need beyond its timeout: one last read, tried a few times against a silent server.
MARGIN = 4 * 35.0 + 60.0

# Long enough for every task, for pvestatd and for high availability.
SETTLE = 90.0

# Asking for a state that the guest is on its way to, by a task that then finds nothing left to do; writing a file again that an
# earlier run has just sent, to the same end.
HARMLESS = frozenset(
    {
        "hamigrate",
        "hastart",
        "hastop",
        "imgcopy",
        "imgdel",
        "qmreboot",
        "qmshutdown",
        "qmstop",
        "vzreboot",
        "vzshutdown",
        "vzstart",
        "vzstop",
    }
)

# What tells a person what to do.
REMEDIED = (
    "unlock",
    "incomplete",
    "already exists",
    "yet it is not so",
    "Gave up waiting",
    "ha-manager set",
    "has to be named so",
    "rename it back",
)

Deed = tuple[str, str, frozenset[tuple[str, str]]]


@dataclass(frozen=True)
class Asked:
    """A request of an undisturbed run. :param reserves: the kind of guest whose VMID it takes before its task begins.

    :param unnamed: it starts a task whose UPID the server does not tell.
    :param question: what is asked, the same for all looks at one thing. :param dull: neither the first look at it since the last
        write, nor the second, nor the last before the next.
    """

    writes: bool
    starts_task: bool
    login: bool
    reserves: str | None = None
    unnamed: bool = False
    question: str = ""
    dull: bool = False


@dataclass(frozen=True)
class Undisturbed:
    """A run of a scenario that nothing disturbs.

    :param before: the state at first. :param state: at the end. :param tasks: how many of each type and guest succeeded.
    :param running: the guests that run at the end.
    """

    requests: tuple[Asked, ...]
    state: dict[str, Any]
    before: dict[str, Any]
    tasks: Counter[tuple[str, str]]
    deeds: frozenset[Deed]
    running: frozenset[int]


@dataclass(frozen=True)
class Case:
    """A scenario, the number of the request that is struck, and how."""

    scenario: Scenario
    request: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.scenario} | {self.kind} | request {self.request}"


@dataclass(frozen=True)
class Outcome:
    """What came of a case. :param first: of the first run: done, told or killed. :param violations: empty is good."""

    case: Case
    first: str
    violations: tuple[str, ...]


def unique(scenarios: list[Scenario]) -> list[Scenario]:
    """Return them without those that are there twice."""
    return list({(str(scenario), str(scenario.options)): scenario for scenario in scenarios}.values())


def undisturbed(scenario: Scenario, *, password: bool) -> Undisturbed:
    """Run a scenario on its own."""
    random.seed(f"{scenario}")
    cluster = make_cluster(scenario.setup)
    before = cluster.snapshot()
    wire = Wire(cluster)
    options = dict(scenario.options)
    result = play(cluster, scenario.module, options, wire, password=password)
    if result["failed"]:
        raise AssertionError(f"{scenario}: {result['msg']}")
    requests = without_dull(
        [
            Asked(
                request.method != "GET" and not login,
                number in wire.started,
                login,
                reserved(request),
                unnamed(request),
                f"{request.method} {urlsplit(str(request.url)).path}",
            )
            for number, request in enumerate(wire.sent, start=1)
            for login in ["/access/ticket" in str(request.url)]
        ]
    )
    cluster.clock.advance(SETTLE)
    return Undisturbed(
        requests,
        cluster.state(),
        before,
        succeeded(cluster),
        frozenset(deeds(wire, cluster, before)),
        frozenset(vmid for vmid, guest in cluster.guests.items() if guest.running),
    )


def reserved(request: requests.PreparedRequest) -> str | None:
    """Return the kind of guest that a request makes, None for every other request."""
    found = re.search(r"/nodes/[^/]+/(qemu|lxc)$", str(request.url))
    return found[1] if found is not None and request.method == "POST" else None


def unnamed(request: requests.PreparedRequest) -> bool:
    """Tell whether the request makes a template of a container, which the server does without a word about its task."""
    return re.search(r"/lxc/\d+/template$", str(request.url)) is not None


def as_met(kind: Kind, asked: Asked) -> Kind:
    """Return the kind as this request meets it.

    The VMID of a guest that is to be made is taken before there is a task, and stays taken where none comes of it, until a person
    clears that up (PVE/API2/Qemu.pm, create_vm); a container's also where its task does not get the lock (PVE/API2/LXC.pm,
    create_vm). A task without a name that failed is told, and only the next run begins another one.
    """
    if asked.unnamed and kind.fault == "task_lock":
        return replace(kind, survived=False)
    left = asked.reserves is not None and kind.fault == "no_worker_upid"
    left = left or (asked.reserves == "lxc" and kind.fault == "task_lock")
    return replace(kind, survived=False, wrecks=True) if left else kind


def succeeded(cluster: Cluster) -> Counter[tuple[str, str]]:
    """Count the tasks that did their work, by type and guest, whoever started them, and the programs that agents have started."""
    programs = Counter({("guest-exec", str(vmid)): len(guest.inside.ran) for vmid, guest in cluster.guests.items()})
    return Counter((task.type, task.id) for task in cluster.tasks.all.values() if did_its_work(task)) + programs


def did_its_work(task: Task) -> bool:
    """Tell how a task ended."""
    return task.status == "OK" or (task.status or "").startswith("WARNINGS: ")


def deeds(wire: Wire, cluster: Cluster, before: Mapping[str, Any]) -> Iterator[Deed]:
    """Yield what was asked for, without nodes, digests and the numbers of new guests."""
    for method, path, params in wire.writes():
        vmid = re.search(r"/(?:qemu|lxc)/(\d+)", path)
        if vmid is not None and int(vmid[1]) not in before["guests"]:
            path = path.replace(f"/{vmid[1]}/", "/new/")
        path = re.sub(r"^/nodes/[^/]+", "/nodes/*", path)
        kept = {key: value for key, value in params.items() if key not in ("digest", "newid", "vmid")}
        yield method, path, frozenset(kept.items())


def without_dull(requests: Sequence[Asked]) -> tuple[Asked, ...]:
    """Return the requests with those marked that ask what was asked twice since the last write, and will be once more."""
    looks: dict[tuple[int, str], list[int]] = defaultdict(list)
    writes = 0
    for at, asked in enumerate(requests):
        writes += asked.writes
        if not asked.writes:
            looks[writes, asked.question].append(at)
    dull = {at for places in looks.values() for at in places[2:-1]}
    return tuple(replace(asked, dull=at in dull) for at, asked in enumerate(requests))


def cases(scenario: Scenario, kinds: tuple[Kind, ...] = KINDS, *, dull: bool = False) -> Iterator[Case]:
    """Yield every fault at every request at which it can strike.

    :param dull: also at every further look while something is waited for.
    """
    for password in sorted({kind.password for kind in kinds}):
        requests = reference(scenario, password).requests
        for kind in kinds:
            if kind.password is not password:
                continue
            for number, asked in enumerate(requests, start=1):
                # A login that is refused is a wrong password, which no run survives.
                can_strike = not (
                    (kind.tasks and not asked.starts_task)
                    or (kind.writes and not asked.writes)
                    or (kind.password and asked.login)
                    or (asked.dull and not dull)
                )
                if can_strike:
                    yield Case(scenario, number, as_met(kind, asked))


_references: dict[tuple[str, str, bool], Undisturbed] = {}


def reference(scenario: Scenario, password: bool) -> Undisturbed:
    """Return the undisturbed run of a scenario, made once."""
    key = (str(scenario), str(scenario.options), password)
    if key not in _references:
        _references[key] = undisturbed(scenario, password=password)
    return _references[key]


def run(case: Case) -> Outcome:
    """Run a case and return what is wrong with what came of it."""
    random.seed(f"{case.scenario}")  # so that it comes to the same requests
    good = reference(case.scenario, case.kind.password)
    cluster = make_cluster(case.scenario.setup)
    trial = _Trial(case, good, cluster)
    violations = tuple(dict.fromkeys(trial.violations()))
    return Outcome(case, trial.first, violations)


class _Trial:
    """One case under way."""

    def __init__(self, case: Case, good: Undisturbed, cluster: Cluster) -> None:
        self.case, self.good, self.cluster = case, good, cluster
        self.scenario, self.kind = case.scenario, case.kind
        self.running = {vmid for vmid, guest in cluster.guests.items() if guest.running}
        self.first = "killed"
        self.wires: list[Wire] = []

    def play(self, wire: Wire) -> dict[str, Any]:
        self.wires.append(wire)
        options = dict(self.scenario.options)
        return play(self.cluster, self.scenario.module, options, wire, password=self.kind.password)

    def violations(self) -> Iterator[str]:
        try:
            yield from self._struck()
            yield from self._repeated()
        except Endless:
            yield "a run does not end"

    def _struck(self) -> Iterator[str]:
        """The run that meets the fault."""
        began = self.cluster.now
        try:
            result = self.play(self._wire())
        except Killed:
            result = None
        if any(secret in self.wires[0].said for secret in secrets(self.cluster)):
            yield "a secret was printed or logged"
        if self.cluster.now - began > TIMEOUT + MARGIN:
            yield f"the run took {self.cluster.now - began:.0f} s of {TIMEOUT:.0f}"
        if result is not None and not self._has_struck():
            yield "the fault did not strike"
        self.cluster.faults.clear()
        done = succeeded(self.cluster)
        # A deed that leaves no trace and whose task was killed is begun again.
        if not self.kind.power and not (self.kind.kills_task and self.scenario.again):
            twice = {task: count for task, count in done.items() if count > self.good.tasks[task]}
            if twice:
                yield f"done twice in one run: {sorted(twice)}"
        if result is None:
            return
        self.first = "told" if result["failed"] else "done"
        yield from self._told(result)

    def _has_struck(self) -> bool:
        """Whether the case is one at all; a play that was to be killed and was not is none."""
        return any(fault.kind is not None and fault.seen >= fault.nth for fault in self.cluster.faults)

    def _wire(self) -> Wire:
        number = self.case.request

        def kill(at: int) -> None:
            if at == number:
                raise Killed

        if self.kind == KILLED_BEFORE:
            return Wire(self.cluster, before=kill)
        if self.kind == KILLED_AFTER:
            return Wire(self.cluster, after=kill)
        self.cluster.add_fault(Fault(nth=number, when=self.kind.when, kind=self.kind.fault))
        return Wire(self.cluster)

    def _told(self, result: dict[str, Any]) -> Iterator[str]:
        """What the result must tell."""
        shown = json.dumps(result, default=str)
        if any(secret in shown for secret in secrets(self.cluster)):
            yield "a secret is in the result"
        failed = result["failed"]
        # What can only be done once and leaves no trace is told instead.
        excused = self.scenario.once and "not known" in result.get("msg", "")
        if failed and self.kind.survived and not excused:
            yield f"not survived: {result['msg'][:300]}"
        if not failed and self.kind == BROKEN:
            yield "a refusal of unknown meaning was taken for one that passes"
        # The log of a task is looked at on the side, and done without where it cannot be had.
        aside = self.good.requests[self.case.request - 1].question.endswith("/log")
        if not failed and self.kind == TOKEN_REFUSED and not aside:
            yield "a token that was refused was used again"
        if failed and not ("request" in result or "upid" in result or self.kind.wrecks):
            yield f"a failure without its request: {result['msg'][:300]}"
        if self.kind == WARNING and not any("not as it should be" in text for text in result["warnings"]):
            yield "the task's warning was not passed on"
        # A task that failed may have done a part of its work; it is named, with the end of its log.
        left = self.kind.wrecks and "is locked (create)" in result.get("msg", "")
        if not result["changed"] and "upid" not in result and not self.kind.power and not left:
            self.cluster.clock.advance(SETTLE)
            if self.cluster.state() != self.good.before:
                yield f"changed without saying so: {difference(self.good.before, self.cluster.state())}"
        if failed:
            told, calls = result["msg"], result.get("calls", ())
            for one in result.get("results", [result]):
                for call in one.get("calls", ()) if one.get("failed", True) else ():
                    if call["summary"] not in told:
                        yield f"the failure does not tell that this was done: {call['summary']}"
            answered = self._acknowledged()
            if answered > len(calls) and "upid" not in result and "not known" not in told:
                yield f"{answered} writes took effect, {len(calls)} are told: {told[:300]}"

    def _acknowledged(self) -> int:
        """How many of the tasks that this run began have done their work."""
        return sum(did_its_work(self.cluster.tasks.all[upid]) for upid in self.wires[0].started.values())

    def _repeated(self) -> Iterator[str]:
        """The second run, and the third."""
        if self.kind.wrecks:
            self._power_back()
        self.cluster.quorate = True
        began = self.cluster.now
        second = self.play(Wire(self.cluster))
        if second["failed"] and self.kind.wrecks:
            second = yield from self._cleared_up(second)
        for text in second["warnings"]:
            self._remedy(text)
        if second["failed"]:
            yield f"the second run failed: {second['msg'][:400]}"
            return
        if self.first == "done" and second["changed"] and not self.scenario.again and not self.kind.wrecks:
            yield f"the first run reported success, and yet the second did {[call['summary'] for call in second['calls']]}"
        if self.cluster.now - began > TIMEOUT + MARGIN:
            yield f"the second run took {self.cluster.now - began:.0f} s"
        self.cluster.clock.advance(SETTLE)
        yield from self._as_wanted()
        writes = len(self.cluster.log.writes())
        third = self.play(Wire(self.cluster))
        if third["failed"]:
            yield f"the third run failed: {third['msg'][:300]}"
        elif not self.scenario.again and (
            third["changed"] or len(self.cluster.log.writes()) != writes + self.kind.password
        ):
            yield f"the third run did {[call['summary'] for call in third['calls']]}"

    def _as_wanted(self) -> Iterator[str]:
        good, state = self._comparable(self.good.state), self._comparable(self.cluster.state())
        if state != good:
            yield f"another end: {difference(good, state)}"
        if not self.scenario.again and not self.kind.wrecks:
            done = succeeded(self.cluster)
            twice = {task: n for task, n in done.items() if n > self.good.tasks[task] and task[0] not in HARMLESS}
            if twice:
                yield f"done twice: {sorted(twice)}"
        # After a loss of power there is more to do than there was.
        for wire in [] if self.kind.power else self.wires:
            for deed in deeds(wire, self.cluster, self.good.before):
                if not asked_for(deed, self.good.deeds):
                    yield f"nobody asked for {deed[0]} {deed[1]} {dict(deed[2])}"
        if not self.kind.wrecks:
            yield from strays(self.cluster)

    def _comparable(self, state: dict[str, Any]) -> dict[str, Any]:
        """Return the state as it is compared: new guests numbered from 1, and after wrecks only what a person looks at."""
        new = sorted(vmid for vmid in state["guests"] if vmid not in self.good.before["guests"])
        names = {rf"\b{vmid}\b": f"new{number}" for number, vmid in enumerate(new, start=1)}
        if self.scenario.again:
            # Run again, it makes another one; and a container's new volumes are made before its old ones are removed.
            state = {**state, "backups": sorted(set(state["backups"]))}
        # What was cut off may leave volumes behind, so that the next one gets another number.
        loaded: dict[str, Any] = renamed(
            state, {**names, r"-(disk-\d+|cloudinit)\b": "-disk"} if self.kind.wrecks or self.scenario.again else names
        )
        if self.kind.wrecks:
            del loaded["volumes"]
        for guest in loaded["guests"].values() if self.kind.power else ():
            config = {key: value for key, value in guest["config"].items() if key not in guest["pending_delete"]}
            guest.update(config=config | guest["pending"], pending={}, pending_delete={})
            if self.cluster.ha.resources:
                # High availability starts the guests of a dead node on another one.
                guest.update(node="", power="")
        return loaded

    def _power_back(self) -> None:
        """The node is back, and so are the guests that ran."""
        for name, node in self.cluster.nodes.items():
            if not node.online:
                self.cluster.node_up(name)
        wanted = self.running if self.first != "done" else self.good.running
        for vmid in sorted(wanted):
            guest = self.cluster.guests.get(vmid)
            if (
                guest is not None
                and not guest.running
                and not self.cluster.ha_managed(vmid)
                and not guest.config.get("lock")
            ):
                self.cluster.start_now(vmid)

    def _cleared_up(self, told: dict[str, Any]) -> Any:
        """Do what the message says, then run again."""
        message = told["msg"]
        if not any(word in message for word in REMEDIED):
            yield f"the second run failed without a remedy: {message[:400]}"
        for _attempt in range(3):
            self._remedy(message)
            self._power_back()
            told = self.play(Wire(self.cluster))
            if not told["failed"]:
                break
            message = told["msg"]
        return told

    def _remedy(self, message: str) -> None:
        for pattern, repair in REMEDIES.items():
            for match in re.finditer(pattern, message):
                repair(self.cluster, match[1])
        incomplete = re.search(r"Snapshot '(\w+)' of (?:VM|CT) (\d+)", message)
        if incomplete:
            options = {"vmid": int(incomplete[2]), "snapname": incomplete[1], "state": "absent", "force": True}
            play(self.cluster, "proxmox_snapshot", options, Wire(self.cluster), password=self.kind.password)


# What a person does whom a message tells to.


def unlock(cluster: Cluster, vmid: str) -> None:
    """`qm unlock VMID`."""
    cluster.set_lock(int(vmid), None)


def pull_the_plug(cluster: Cluster, vmid: str) -> None:
    """`qm stop VMID`."""
    cluster.guests[int(vmid)].power = None


def destroy(cluster: Cluster, vmid: str) -> None:
    """`qm destroy VMID`."""
    cluster.guests.pop(int(vmid), None)
    cluster.access.forget_guest(int(vmid))
    volumes = cluster.storages.volumes
    for key in [key for key, one in volumes.items() if one.vmid == int(vmid) and one.content != "backup"]:
        del volumes[key]


def end_template(cluster: Cluster, vmid: str) -> None:
    """`qm template VMID --disk DISK`."""
    make_template(cluster, cluster.guests[int(vmid)])


def name_bases(cluster: Cluster, vmid: str) -> None:
    """Write the names that the volumes of a template have into its configuration."""
    bases = [volid for _place, volid in cluster.storages.volumes if f":base-{vmid}-" in volid]
    config = cluster.guests[int(vmid)].config
    for key, text in config.items():
        if any(text.startswith(volid.replace(":base-", ":vm-")) for volid in bases):
            config[key] = text.replace(f":vm-{vmid}-", f":base-{vmid}-")


def rename_back(cluster: Cluster, volid: str) -> None:
    """Give the volume that no configuration knows the name that one asks for."""
    known = str([guest.config for guest in cluster.guests.values()])
    (stray,) = (key for key, volume in cluster.storages.volumes.items() if volume.vmid and key[1] not in known)
    cluster.storages.rename(stray[0], stray[1], volid)
    cluster.storages.volumes[stray[0], volid].vmid = int(volid.split("-")[-3])


def mend_service(cluster: Cluster, sid: str) -> None:
    """Take a guest out of its error state."""
    request_state(cluster, sid, "disabled")
    unlock(cluster, sid.partition(":")[2])
    request_state(cluster, sid, "started")


def remove_image(cluster: Cluster, name: str) -> None:
    """Remove a file that is in the way."""
    for key in [key for key in cluster.storages.volumes if key[1].endswith(name)]:
        del cluster.storages.volumes[key]


REMEDIES: dict[str, Callable[[Cluster, str], None]] = {
    r"(?:(?:qm|pct) unlock|the lock 'migrate' of (?:VM|CT)) (\d+)": unlock,
    r"qm stop (\d+)": pull_the_plug,
    r"(?:qm|pct) destroy (\d+)": destroy,
    r"'qm template (\d+) --disk \w+'": end_template,
    r"has to be named so in /etc/pve/lxc/(\d+)\.conf": name_bases,
    r"no such volume '([^']+)'.*rename it back": rename_back,
    r"ha-manager set (\S+) --state disabled": mend_service,
    r"disk image '[^']*/(vm-\d+-state-[^'/]+)' already exists": remove_image,
    r"yet it is not so: grow \w+ of VM (\d+)": lambda cluster, vmid: rescan(cluster, int(vmid)),
}


def request_state(cluster: Cluster, sid: str, state: str) -> None:
    """`ha-manager set SID --state STATE`, and time for it."""
    headers = {**cluster.token_header(), "Content-Type": "application/x-www-form-urlencoded"}
    cluster.handle(Request("PUT", f"/api2/json/cluster/ha/resources/{sid}", headers, f"state={state}".encode()))
    cluster.clock.advance(SETTLE)


def rescan(cluster: Cluster, vmid: int) -> None:
    """Write the sizes of a guest's volumes into its configuration, as `qm disk rescan` does."""
    config = cluster.guests[vmid].config
    for (_place, volid), volume in cluster.storages.volumes.items():
        for key, text in config.items():
            if text.startswith(f"{volid},") or text == volid:
                config[key] = re.sub(r"size=\w+", f"size={format_size(volume.size)}", text)


def asked_for(deed: Deed, allowed: frozenset[Deed]) -> bool:
    """Tell whether the undisturbed run did the same, or more of the same at once.

    A guest that does not come back from a restart, or does not run yet after it was made, is started.
    """
    method, path, params = deed
    if path.endswith(("/qemu", "/lxc")):
        # What a failed restore has left is restored over.
        params -= {("force", "1")}
    if path.endswith("/status/start") and any(
        other.endswith(("/reboot", "/rollback")) or ("start", "1") in rest for _method, other, rest in allowed
    ):
        return True
    return any((method, path) == other[:2] and params <= other[2] for other in allowed)


def strays(cluster: Cluster) -> Iterator[str]:
    """Yield volumes of guests that do not exist, and those that their guest does not know."""
    for (_place, volid), volume in cluster.storages.volumes.items():
        guest = cluster.guests.get(volume.vmid) if volume.vmid is not None else None
        if volume.content == "backup":
            continue
        if volume.vmid is not None and guest is None:
            yield f"volume {volid} belongs to nobody"
        elif guest is not None:
            texts = [guest.config, guest.pending, *guest.snapshots.values()]
            if not any(volid in value for text in texts for value in text.values()):
                yield f"volume {volid} is not known to its guest"


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """Return a plain value with patterns replaced in its texts and keys; numbers become texts."""
    if isinstance(value, Mapping):
        return {renamed(key, names): renamed(item, names) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [renamed(item, names) for item in value]
    text = str(value)
    for pattern, name in names.items():
        text = re.sub(pattern, name, text)
    return text


def difference(good: Any, bad: Any, path: str = "") -> str:
    """Return the first few places where two states differ."""
    return "; ".join(list(_differences(good, bad, path))[:4])


def _differences(good: Any, bad: Any, path: str) -> Iterator[str]:
    if isinstance(good, Mapping) and isinstance(bad, Mapping):
        for key in sorted({*good, *bad}, key=str):
            if good.get(key) != bad.get(key):
                yield from _differences(good.get(key), bad.get(key), f"{path}/{key}")
    else:
        yield f"{path}: {str(bad)[:120]} instead of {str(good)[:120]}"
