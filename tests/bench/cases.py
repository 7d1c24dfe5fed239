"""What is measured: each case is one section of the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import yaml

from tests.simulator import Cluster, Durations
from tests.simulator.populate import populate

from . import rival
from .report import BARE, OURS, RIVAL, Line, Sample, Section, at_least, at_most, figure, ratio
from .world import Failed, Run, Site, Way, above, interleaved, served

Task = dict[str, Any]
DEBUG = "debug"
FLEET = f"{OURS}, one task"
THREADS = 16
IN_WORKER, ORDINARY = "in the worker", "ordinary module"
POWER, CONFIG, CLONE, SNAPSHOT = (
    f"keel.proxmox.proxmox_{name}" for name in ("vm_power", "vm_config", "vm_clone", "snapshot")
)


@dataclass(frozen=True)
class Effort:
    """How much is done: everything, or a look within a minute or two."""

    quick: bool = False

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    def rounds(self, full: int, rival_full: int | None = None) -> dict[str, int]:
        """Return how often each side is run."""
        ours = self.of(full, 2)
        slow = self.of(full if rival_full is None else rival_full, 1)
        return {OURS: ours, RIVAL: slow, BARE: ours, DEBUG: ours}


def running_vms(cluster: Cluster) -> list[int]:
    return [vmid for vmid, guest in cluster.guests.items() if guest.kind == "qemu" and guest.running]


def unchanged(run: Run) -> Run:
    """Return the run; what was to change nothing and did is no comparison."""
    if run.changed:
        raise Failed(f"changed where nothing was to do: {[task for task in run.tasks if task.changed][:1]}")
    return run


# ----------------------------------------------------------------------------------------------------------------------
# Nothing to do

Action = Callable[[str], Task]


def play_in_shape(site: Site, shape: str, action: Action, values: Sequence[Any], **rest: str) -> Run:
    """Run an action for all values: in one task's loop, in tasks of their own, or on hosts of their own."""
    if shape == "loop":
        return site.play([{**action("{{ item }}"), "loop": list(values)}], **rest)
    if shape == "tasks":
        return site.play([action(value) for value in values], **rest)
    hosts = {f"host{at:03}": {"guest": value} for at, value in enumerate(values)}
    return site.play([action("{{ guest }}")], hosts=hosts, **rest)


SHAPES = {"loop": "a loop of {}", "tasks": "{} tasks", "hosts": "{} hosts, 5 forks"}


def no_change_line(
    shape: str, by: str, milliseconds: int, items: int, rounds: Mapping[str, int], **environment: str
) -> Line:
    """Return what it costs to see that a VM runs, above debug in the same shape.

    :param environment: settings of Ansible that count for all.
    """
    with served(lambda cluster: populate(cluster, 120), Durations(request=milliseconds / 1000)) as site:
        vmids = running_vms(site.cluster)[:items]
        if len(vmids) < items:
            raise Failed(f"only {len(vmids)} VMs run")
        values = vmids if by == "vmid" else [site.cluster.guests[vmid].config["name"] for vmid in vmids]
        actions: dict[str, Action] = {
            OURS: lambda value: {POWER: {by: value, "state": "started"}},
            RIVAL: lambda value: rival.started(**{by: value}),
            DEBUG: lambda value: {"ansible.builtin.debug": {"msg": value}},
        }
        ways: dict[str, Way] = {
            side: lambda action=action: unchanged(play_in_shape(site, shape, action, values, **environment)).sample()  # type: ignore[misc]
            for side, action in actions.items()
        }
        ways[BARE] = lambda: site.bare("no_change", by=by, guests=values).worked
        # Ansible and the script compile and cache what they need in runs over one guest.
        for action in actions.values():
            play_in_shape(site, "loop", action, values[:1])
        samples = interleaved(ways, rounds, warm=False)
    figures = above(samples, DEBUG) | {BARE: figure(samples[BARE])}
    name = f"{SHAPES[shape].format(items)}, by {by}, {milliseconds} ms" + (", pipelining" if environment else "")
    return Line(name, {side: figures[side] for side in (OURS, RIVAL, BARE)}, each=items)


def no_change(effort: Effort) -> Section:
    """Measure tasks that find nothing to do."""
    items = effort.of(50, 10)
    lines = [
        no_change_line("loop", "vmid", 0, items, effort.rounds(7, 3)),
        no_change_line("loop", "name", 0, items, effort.rounds(5, 1)),
        no_change_line("tasks", "vmid", 0, items, effort.rounds(5, 2)),
        no_change_line("hosts", "vmid", 0, items, effort.rounds(5, 2)),
    ]
    if not effort.quick:
        lines += [
            no_change_line("loop", "vmid", 0, 10, effort.rounds(5, 3), ANSIBLE_PIPELINING="1"),
            no_change_line("loop", "vmid", 5, 10, effort.rounds(5, 2)),
            no_change_line("loop", "vmid", 50, 10, effort.rounds(5, 2)),
        ]
    loop, _named, tasks, *_rest = lines
    targets = [
        at_most(f"{loop.name}: an item above debug", loop.figures[OURS].seconds * 1000 / items, 10, "ms"),
        at_least(f"{loop.name}, faster than proxmox_kvm", ratio(loop), 25),
        at_least(f"{tasks.name}, faster than proxmox_kvm", ratio(tasks), 8),
    ]
    return Section(
        "A task that finds nothing to do",
        "Does this VM run? Asked of `proxmox_vm_power`, of `proxmox_kvm` and by a script, in a cluster of 120 guests "
        "and three nodes, with a server that takes 0, 5 or 50 ms for each request. Times are milliseconds for one "
        "item, after taking away what `ansible.builtin.debug` takes in the same shape, so that the start of Ansible "
        "and of its workers does not count. The script's time is its requests alone.",
        "ms",
        lines,
        targets,
    )


# ----------------------------------------------------------------------------------------------------------------------
# One guest, from the template to running


def make_ours(vmid: int) -> list[Task]:
    """Clone, configure, grow, give a network interface and start."""
    return [
        {
            "name": "clone",
            CLONE: {"source": "debian-13", "vmid": vmid, "name": f"bench{vmid}", "full": True, "storage": "shared"},
        },
        {
            "name": "configure, grow, network",
            CONFIG: {
                "vmid": vmid,
                "cores": 4,
                "memory": 1024,
                "tags": ["bench"],
                "disks": {"scsi0": {"size": 8}},
                "net": {"net0": {"bridge": "vmbr1", "model": "virtio"}},
            },
        },
        {"name": "start", POWER: {"vmid": vmid, "state": "started"}},
    ]


# Three GiB are copied in 0.3 s, and a VM takes as long to start.
THREE_TENTHS = Durations(request=0.005, clone_seconds_per_gib=0.1, start=0.3)


def one_guest(effort: Effort) -> Section:
    """Measure a guest made from a template, and the same play again."""
    with served(lambda cluster: populate(cluster, 30), THREE_TENTHS) as site:
        plays = {OURS: make_ours, RIVAL: rival.make}
        vmids = iter(range(1000, 2000))
        last: dict[str, int] = {}

        def first(side: str) -> Sample:
            vmid = last[side] = next(vmids)
            run = site.play(plays[side](vmid))
            guest = site.cluster.guests[vmid]
            if not (guest.running and guest.config["cores"] == "4" and "size=8G" in guest.config["scsi0"]):
                raise Failed(f"{side} did not make the guest: {guest.config}")
            return run.sample()

        def second(side: str) -> Sample:
            return site.play(plays[side](last[side])).sample()

        def bare_first() -> Sample:
            last[BARE] = next(vmids)
            return site.bare("make", vmid=last[BARE]).worked

        ways: dict[str, Way] = {}
        for side in plays:
            ways[f"{side} 1"] = lambda side=side: first(side)  # type: ignore[misc]
            ways[f"{side} 2"] = lambda side=side: second(side)  # type: ignore[misc]
        ways[f"{BARE} 1"] = bare_first
        ways[f"{BARE} 2"] = lambda: site.bare("look", vmid=last[BARE]).worked
        ways["empty"] = lambda: site.play([]).sample()
        rounds = {name: effort.of(5, 2) for name in ways}
        rounds |= {f"{RIVAL} {at}": effort.of(2, 1) for at in (1, 2)}
        samples = interleaved(ways, rounds)
    figures = above(samples, "empty") | {name: figure(samples[name]) for name in samples if name.startswith(BARE)}
    lines = [
        Line(f"one guest, {word} run", {side: figures[f"{side} {at}"] for side in (OURS, RIVAL, BARE)})
        for at, word in enumerate(("first", "second"), 1)
    ]
    whole = {
        side: figure([replace(one, seconds=one.whole) for one in samples[f"{side} 1"]]) for side in (OURS, RIVAL, BARE)
    }
    lines.append(Line("one guest, first run, the whole command", whole))
    once, again = lines[0].figures, lines[1].figures
    return Section(
        "One guest from a template",
        "Cloned (0.3 s of copying), configured, its disk grown, given a network interface, started (0.3 s), with 5 "
        "ms a request; then the same play again. Three tasks with this collection, five with the other. Times are "
        "seconds above an empty play; the script's are its requests. The second run of this collection sent "
        f"{again[OURS].writes} writing requests, that of the other {again[RIVAL].writes}: its `update: true` writes "
        "and reports a change each time.",
        "s",
        lines,
        [
            at_most("first run, more than the bare API", once[OURS].seconds - once[BARE].seconds, 1.0, "s"),
            at_least("first run, faster than community.proxmox", ratio(lines[0]), 3),
            at_most("second run, more than an empty play", again[OURS].seconds, 1.0, "s"),
            at_most("second run, writing requests", again[OURS].writes, 0, "requests"),
        ],
    )


# ----------------------------------------------------------------------------------------------------------------------
# Waiting


BROKEN = "start failed: QEMU exited with code 1"
VMIDS = range(1000, 1100)


def stopped_vms(cluster: Cluster) -> None:
    """A hundred VMs that do not run; every second one cannot be started."""
    for vmid in VMIDS:
        guest = cluster.add_vm(vmid, f"vm{vmid}", disk=f"local-lvm:vm-{vmid}-disk-0,size=8G")
        guest.behaviour.start_error = BROKEN if vmid % 2 else None


def started(site: Site, side: str, vmid: int, *, fails: bool = False, timeout: int | None = None) -> Run:
    """Start a guest."""
    if side == BARE:
        return site.bare("start", vmid=vmid, exit_status=BROKEN if fails else "OK")
    task = rival.started(timeout, vmid=vmid) if side == RIVAL else {POWER: {"vmid": vmid, "state": "started"}}
    return site.play([task], code=2 if fails else 0)


def server_task(site: Site, vmid: int) -> tuple[float, float]:
    """Return when the server's task that started a guest began and ended."""
    task = [task for task in site.cluster.tasks.all.values() if (task.type, task.id) == ("qmstart", str(vmid))][-1]
    if task.end is None:
        raise Failed(f"the start of {vmid} has not ended")
    return task.start, task.end


def late(site: Site, run: Run, vmid: int) -> Sample:
    """Return how much later than the end of the server's task the play's task ended."""
    return run.sample(run.tasks[-1].ended - server_task(site, vmid)[1])


def beside(site: Site, run: Run, vmid: int) -> Sample:
    """Return how much longer the play's task took than the server's."""
    began, ended = server_task(site, vmid)
    return run.sample(run.tasks[-1].ended - run.tasks[-1].began - (ended - began))


def alone(side: str, seconds: float, **how: Any) -> Sample:
    """Return how late the end of a start is known that takes so long, on a cluster that nobody else uses."""
    vmid = VMIDS[1 if how.get("fails") else 0]
    with served(stopped_vms, Durations(request=0.005, start=seconds)) as site:
        return late(site, started(site, side, vmid, **how), vmid)


def waiting(effort: Effort) -> Section:
    """Measure how soon the end of a server's task is known."""
    sides = (OURS, RIVAL, BARE)
    good, bad = iter(VMIDS[::2]), iter(VMIDS[1::2])
    with served(stopped_vms, Durations(request=0.005, start=0.3)) as site:

        def short(side: str) -> Sample:
            vmid = next(good)
            return beside(site, started(site, side, vmid), vmid)

        def failing(side: str) -> Sample:
            vmid = next(bad)
            return late(site, started(site, side, vmid, fails=True), vmid)

        quick = interleaved({side: lambda side=side: short(side) for side in sides}, effort.rounds(7, 3))  # type: ignore[misc]
        failed = interleaved({side: lambda side=side: failing(side) for side in (OURS, BARE)}, effort.rounds(7))  # type: ignore[misc]
    # These wait nearly all the time, so they do it side by side, each on a cluster of its own.
    long = effort.of(30, 5)
    with ThreadPoolExecutor(8) as pool:
        broken = [pool.submit(alone, RIVAL, 0.3, fails=True) for _run in range(effort.of(2, 1))]
        slow = {side: [pool.submit(alone, side, long, timeout=60) for _run in range(effort.of(2, 1))] for side in sides}
        failed[RIVAL] = [one.result() for one in broken]
        slowly = {side: [one.result() for one in runs] for side, runs in slow.items()}
    lines = [
        Line("a start that fails at once: later than its end", {side: figure(failed[side]) for side in sides}),
        Line("a start of 0.3 s: longer than that", {side: figure(quick[side]) for side in sides}),
        Line(f"a start of {long} s: later than its end", {side: figure(slowly[side]) for side in sides}),
    ]
    return Section(
        "Waiting for the server",
        "Seconds between the end of the server's task, by the simulator's clock, and the end of the play's task, by "
        "a callback; for the start of 0.3 s the whole time of the play's task beyond those 0.3 s. 5 ms a request. "
        "`proxmox_kvm` looks once a second, waits one second more when it has seen a success, and takes a failure "
        "for something that is not over until its `timeout` (30 s) has run out.",
        "s",
        lines,
        [
            at_most("a start that fails, reported after its end", lines[0].figures[OURS].seconds, 0.5, "s"),
            at_most("a start of 0.3 s, more than that", lines[1].figures[OURS].seconds, 0.15, "s"),
        ],
    )


def snapshots(effort: Effort) -> Section:
    """Measure fifty snapshots one after another."""
    items = effort.of(50, 6)
    with served(lambda cluster: populate(cluster, 120), Durations(request=0.005)) as site:
        vmids = running_vms(site.cluster)[:items]
        names = (f"snap{number}" for number in range(1000))

        def play(action: Callable[[Any, str], Task]) -> Sample:
            name = next(names)
            run = site.play([{**action("{{ item }}", name), "loop": vmids}])
            if run.changed != items:
                raise Failed(f"{run.changed} snapshots of {items}")
            return run.sample()

        def at_once() -> Sample:
            options = {"vmids": vmids, "snapname": next(names), "parallel": THREADS}
            return site.play([{SNAPSHOT: options}]).sample()

        ways: dict[str, Way] = {
            OURS: lambda: play(lambda vmid, name: {SNAPSHOT: {"vmid": vmid, "snapname": name}}),
            FLEET: at_once,
            RIVAL: lambda: play(rival.snapshot),
            BARE: lambda: site.bare("snapshots", vmids=vmids, name=next(names)).worked,
            DEBUG: lambda: site.play([{"ansible.builtin.debug": {"msg": "{{ item }}"}, "loop": vmids}]).sample(),
        }
        samples = interleaved(ways, {OURS: 1, FLEET: 1, RIVAL: 1, BARE: 1, DEBUG: 1}, warm=False)
        if any(len(site.cluster.guests[vmid].snapshots) != 4 for vmid in vmids):
            raise Failed("some snapshots are missing")
    figures = above(samples, DEBUG)
    figures[BARE] = figure(samples[BARE])
    line = Line(f"{items} snapshots", {side: figures[side] for side in (OURS, FLEET, RIVAL, BARE)})
    return Section(
        "Snapshots",
        "One snapshot of each guest; each takes the server 0.2 s, a request 5 ms. Seconds for all of them above a "
        f"loop of `debug`, one after another in a loop, and by one task with `vmids` and `parallel: {THREADS}`.",
        "s",
        [line],
    )


# ----------------------------------------------------------------------------------------------------------------------
# Many guests at once


def fleet(effort: Effort) -> Section:
    """Measure many guests started by one play's task."""
    guests = effort.of(200, 32)
    vmids = list(range(1000, 1000 + guests))

    def setup(cluster: Cluster) -> None:
        for at, vmid in enumerate(vmids):
            disk = f"local-lvm:vm-{vmid}-disk-0,size=8G"
            cluster.add_vm(
                vmid, f"vm{vmid}", node=f"pve{at % 3 + 1}", disk=disk, config={"tags": "bench", "memory": 256}
            )

    def fresh(way: Callable[[Site], Sample]) -> Sample:
        with served(setup, Durations(request=0.005, start=0.3)) as site:
            sample = way(site)
            if not all(site.cluster.guests[vmid].running for vmid in vmids):
                raise Failed("not all guests run")
            return sample

    def ours(site: Site) -> Sample:
        return site.play([{POWER: {"with_tags": ["bench"], "state": "started", "parallel": THREADS}}]).sample()

    def bare(site: Site) -> Sample:
        return site.bare("start_all", vmids=vmids, threads=THREADS).worked

    with served(setup) as idle:
        ways: dict[str, Way] = {
            OURS: lambda: fresh(ours),
            BARE: lambda: fresh(bare),
            DEBUG: lambda: idle.play([]).sample(),
        }
        samples = interleaved(ways, effort.rounds(3))
    figures = above(samples, DEBUG) | {BARE: figure(samples[BARE])}
    line = Line(f"{guests} VMs started", {side: figures[side] for side in (OURS, BARE)})
    share = figures[OURS].seconds / figures[BARE].seconds
    return Section(
        "Many guests at once",
        f"One play's task that starts all guests with a tag, `parallel: {THREADS}`, and a script with {THREADS} "
        "threads. A start takes the server 0.3 s, a request 5 ms. Seconds for all guests, above an empty play. The "
        "other collection has no task for more than one guest.",
        "s",
        [line],
        [at_most(f"{guests} VMs, times the bare API's time", share, 1.5, "times")],
    )


# ----------------------------------------------------------------------------------------------------------------------
# The inventory

RIVAL_BEST = f"{RIVAL}, its best settings"


@dataclass(frozen=True)
class Listing:
    """One inventory: how many guests, the options of each side, how often."""

    name: str
    guests: int
    ours: Task
    rival: Task
    best: Task | None = None
    rounds: int = 5
    rival_rounds: int = 3


def cached(options: Task, directory: str) -> Task:
    """Return the options with a cache that keeps what it holds."""
    return {**options, "cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": directory}


FACTS = {"want_facts": True}
# More at a time gains the other plugin nothing here: 8, 16 and 32 take the same.
BEST = FACTS | {"facts_concurrency": 16}
MANY = "1,000 guests with facts"
# The simplest way that each has to choose by a tag.
OUR_TAG, RIVAL_TAG = {"include": {"tags": ["web"]}}, {"filters": ["'web' in (proxmox_tags | default(''))"]}


def listings(effort: Effort) -> list[Listing]:
    """Return what is listed, and the settings that save the other plugin most, by its source."""
    few = [
        Listing("120 guests", 120, {}, {}),
        Listing("120 guests with facts", 120, FACTS, FACTS, BEST, rival_rounds=2),
    ]
    if effort.quick:
        return few
    chosen = {"want_post_filter_facts": True, "facts_concurrency": 16, **RIVAL_TAG}
    return [
        few[0],
        Listing("1,000 guests", 1000, {}, {}),
        Listing("10,000 guests", 10000, {}, {}, rounds=3, rival_rounds=2),
        few[1],
        Listing(MANY, 1000, FACTS, FACTS, BEST, rounds=3, rival_rounds=2),
        Listing("120 guests, the facts of those with one tag", 120, FACTS | OUR_TAG, FACTS | RIVAL_TAG, chosen, 3, 1),
        Listing("120 guests with facts, from a warm cache", 120, cached(FACTS, "ours"), cached(FACTS, "rival")),
    ]


def hosts_of(run: Run) -> set[str]:
    """Return the hosts of an inventory that `ansible-inventory --list` printed."""
    return set(json.loads(run.stdout)["_meta"]["hostvars"])


def listed(site: Site, options: Task, guests: Collection[str]) -> Run:
    """Have ansible-inventory list an inventory, and see that it holds just these guests, with or without nodes."""
    file = site.directory / "bench.proxmox.yml"
    file.write_text(yaml.safe_dump(options), encoding="utf-8")
    run = site.run(["ansible-inventory", "-i", str(file), "--list"])
    found = hosts_of(run) - set(site.cluster.nodes)
    if found != set(guests):
        raise Failed(f"{options} listed {len(found)} guests instead of {len(guests)}")
    return run


def inventory(effort: Effort) -> Section:
    """Measure the inventory plugins."""
    lines = []
    for listing in listings(effort):
        with served(
            lambda cluster, listing=listing: populate(cluster, listing.guests), Durations(request=0.005)
        ) as site:  # type: ignore[misc]
            tagged = OUR_TAG.items() <= listing.ours.items()
            guests = {
                guest.config.get("name") or guest.config.get("hostname") or ""
                for guest in site.cluster.guests.values()
                if not tagged or "web" in guest.config.get("tags", "").split(";")
            }
            sides = {
                OURS: {"plugin": "keel.proxmox.proxmox", **listing.ours},
                RIVAL: rival.inventory(**listing.rival),
            }
            if listing.best is not None:
                sides[RIVAL_BEST] = rival.inventory(**listing.best)
            ways: dict[str, Way] = {
                side: lambda options=options, guests=guests, site=site: listed(site, options, guests).sample()  # type: ignore[misc]
                for side, options in sides.items()
            }
            slow = effort.of(listing.rival_rounds, 1)
            rounds = {OURS: effort.of(listing.rounds, 1), RIVAL: slow, RIVAL_BEST: slow}
            # Filling a cache is not what is measured.
            samples = interleaved(ways, rounds, warm="cache" in listing.ours)
        lines.append(Line(listing.name, {side: figure(found) for side, found in samples.items()}))
    targets = []
    for line in lines:
        if line.name == MANY:
            targets = [
                at_least(f"{MANY}, faster than {side}", ratio(line, side), times)
                for side, times in ((RIVAL, 8), (RIVAL_BEST, 1.5))
            ]
    return Section(
        "The inventory",
        "`ansible-inventory --list` as a whole, with its start of about 0.4 s, at 5 ms a request; an agent takes 20 ms "
        "to answer. Facts are all that `want_facts: true` means in either plugin: configuration, status, snapshots, "
        "addresses from agents and containers. By default the other plugin asks for them one after another; its best "
        "settings are `facts_concurrency: 16`, and `want_post_filter_facts: true` in place of `want_facts` where filters "
        "leave out guests. This one has its defaults.",
        "s",
        lines,
        targets,
        memory=True,
    )


FLOOR, PLAIN = "the floor", "Ansible's own templating"


def inventory_floor(effort: Effort) -> Section:
    """Measure the inventory beside what Ansible itself needs for it."""
    from . import inventory as alone

    often = effort.of(3, 1)
    rows = alone.rows((1000,), with_facts=(), repeats=often)
    if not effort.quick:
        rows += alone.rows((10000,), with_facts=(), repeats=1)
    lines, told, targets = [], [], []
    for row in rows:
        if not row.same:
            raise Failed(f"{row} differs from what it is compared with")
        name = f"{row.guests:,} guests, " + (f"{row.expressions} expressions" if row.expressions else "no expressions")
        runs = often if row.guests == 1000 else 1
        figures = {
            side: figure([Sample(seconds, seconds, requests, connections=requests, memory=round(peak))] * runs)
            for side, seconds, requests, peak in (
                (OURS, row.ours, row.requests, row.peak),
                (FLOOR, row.floor, 0, row.peak_floor),
                (PLAIN, row.plain, row.requests, row.peak_plain),
            )
            if seconds is not None
        }
        lines.append(Line(name, figures))
        if row.to_floor is not None:
            plain = f", and {row.faster_than_plain:.1f} times less than {PLAIN}" if row.faster_than_plain else ""
            told.append(f"{name}: {row.to_floor:.2f} times the floor{plain}")
        if row.guests == 10000 and row.to_floor is not None:
            if row.faster_than_plain is not None:
                targets.append(at_least(f"{name}, faster than {PLAIN}", row.faster_than_plain, 2.5))
            else:
                targets.append(at_most(f"{name}, times the floor", row.to_floor, 1.3, "times"))
                targets.append(at_most(f"{name}, requests", row.requests, 1, "requests"))
    shown = "; ".join(told)
    return Section(
        "The inventory beside its floor",
        "The floor is a plugin that adds the same hosts, groups and variables from memory, so it is what Ansible "
        f"itself needs. Expressions are those of `compose`, `groups` and `keyed_groups`; {PLAIN} evaluates each for "
        f"each guest. Seconds of the whole command. In time of the processor, which a busy machine changes least: "
        f"{shown}. All of them print the same.",
        "s",
        lines,
        targets,
        memory=True,
    )


# ----------------------------------------------------------------------------------------------------------------------
# In the worker and as an ordinary module


def in_worker(effort: Effort) -> Section:
    """Measure both ways to run a module, for every module."""
    from tests import modules
    from tests.promises.scenarios import SCENARIOS
    from tests.promises.world import populate as small_cluster

    items = effort.of(5, 3)
    lines, trouble = [], []
    for module in modules.names():
        scenario = next((one for one in SCENARIOS if one.module == module and not one.changes), None)
        if scenario is None:
            trouble.append(f"{module}: no scenario of its promises finds nothing to do")
            continue

        def setup(cluster: Cluster, scenario: Any = scenario) -> None:
            small_cluster(cluster)
            scenario.setup(cluster)

        with served(setup, Durations(request=0.0)) as site:
            task = {f"keel.proxmox.{module}": dict(scenario.options), "loop": list(range(items))}
            debug = {"ansible.builtin.debug": {"msg": "{{ item }}"}, "loop": list(range(items))}
            ways: dict[str, Way] = {
                name: lambda way=way, task=task: unchanged(site.play([task], KEEL_PROXMOX_IN_WORKER=way)).worked  # type: ignore[misc]
                for name, way in ((OURS, "1"), (ORDINARY, "0"))
            }
            ways[DEBUG] = lambda debug=debug: site.play([debug]).worked  # type: ignore[misc]
            rounds = {OURS: effort.of(5, 1), ORDINARY: 1, DEBUG: effort.of(5, 1)}
            figures = above(interleaved(ways, rounds, warm=False), DEBUG)
        lines.append(Line(f"`{module}`", {IN_WORKER: figures[OURS], ORDINARY: figures[ORDINARY]}, each=items))
    return Section(
        "In the worker and as an ordinary module",
        f"Each module's first promise that changes nothing, in a loop of {items}; milliseconds an item above `debug`. "
        "Tasks for other machines, `async` and `become` take the ordinary way.",
        "ms",
        lines,
        trouble=trouble,
    )
