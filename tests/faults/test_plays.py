"""Plays, faults and others' doings in any order: after each play that is run again, the cluster is as all plays so far want it."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from tests.promises.scenarios import nothing
from tests.simulator import Fault

from .cases import SETTLE, strays
from .kinds import KILLED_AFTER, KILLED_BEFORE, KINDS, Kind
from .races import Conductor, Play
from .wishes import Wish
from .world import Killed, Wire, make_cluster, play

# Those after which no person must clear up, and the death of the play itself.
FAULTS = [kind for kind in KINDS if not kind.wrecks and not kind.password]
OWN = (100, 101, 102)
VMIDS = st.sampled_from(OWN)
NODES = st.sampled_from(["pve1", "pve2", "pve3"])
SMALL = st.integers(1, 4)

OPTIONS = st.one_of(
    st.fixed_dictionaries({"cores": SMALL, "description": st.sampled_from(["one", "two\nlines"])}),
    st.fixed_dictionaries({"memory": SMALL.map(lambda number: 512 * number), "onboot": st.booleans()}),
    st.fixed_dictionaries({"tags": st.lists(st.sampled_from(["web", "db", "prod"]), unique=True)}),
    st.builds(lambda tag: {"net": {"net0": {"tag": tag}}}, st.integers(2, 99)),
    st.builds(lambda tag: {"net": {"net1": {"bridge": "vmbr0", "tag": tag}}}, st.integers(2, 99)),
    st.just({"disks": {"scsi1": {"storage": "shared", "size": 1}}}),
)
# What others set; no play names it.
OTHERS = {"balloon": "256", "tablet": "0", "boot": "order=scsi0", "protection": "0"}


class Plays(RuleBasedStateMachine):
    """The model is what is wanted, and what others have set meanwhile."""

    @initialize()
    def begin(self) -> None:
        random.seed(0)
        self.cluster = make_cluster(nothing)
        self.wishes = {vmid: Wish(vmid, str(self.cluster.guests[vmid].config["name"])) for vmid in OWN}
        self.others: dict[int, dict[str, str]] = {vmid: {} for vmid in OWN}
        self.rates: dict[int, str] = {}
        self.kind: Kind | None = None
        self.nth = 1
        self.quicker: tuple[int, int, int] | None = None

    # What may happen at any time

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.cluster.clock.advance(seconds)

    @rule(vmid=VMIDS, key=st.sampled_from(sorted(OTHERS)))
    def somebody_edits(self, vmid: int, key: str) -> None:
        guest = self.cluster.guests[vmid]
        guest.config[key] = self.others[vmid][key] = OTHERS[key]
        self.cluster.write(guest)

    @rule(node=NODES)
    def somebody_moves(self, node: str) -> None:
        guest = self.cluster.guests[102]
        if not guest.running:
            guest.node = node
            self.wishes[102].node = None

    @rule(vmid=VMIDS, seconds=st.sampled_from([1.0, 15.0, 40.0]))
    def somebody_holds_the_lock(self, vmid: int, seconds: float) -> None:
        self.cluster.hold_lock(vmid, seconds)

    @rule(kind=st.sampled_from(FAULTS), nth=st.integers(1, 5))
    def something_will_go_wrong(self, kind: Kind, nth: int) -> None:
        self.kind, self.nth = kind, nth

    def set_rate(self, vmid: int, rate: int) -> None:
        guest = self.cluster.guests[vmid]
        for config in (guest.config, guest.pending):
            if "net0" in config:
                config["net0"] = f"{re.sub(',rate=[0-9]+', '', config['net0'])},rate={rate}"
        self.rates[vmid] = str(rate)
        self.cluster.write(guest)

    # Plays

    @rule(vmid=VMIDS, options=OPTIONS)
    def configure(self, vmid: int, options: dict[str, Any]) -> None:
        self.wishes[vmid].want(options)
        self.converge(self.wishes[vmid].configured(options))

    @rule(vmid=VMIDS, tag=st.integers(2, 99), rate=st.integers(1, 9), nth=st.integers(2, 5))
    def tag_while_somebody_sets_a_rate(self, vmid: int, tag: int, rate: int, nth: int) -> None:
        """Both are keys of one card; somebody is quicker, just before one of the play's requests."""
        self.quicker = (vmid, rate, nth)
        self.configure(vmid, {"net": {"net0": {"tag": tag}}})

    @rule(size=st.integers(9, 12))
    def grow(self, size: int) -> None:
        wish = self.wishes[100]
        size = max(size, wish.options.get("disks", {}).get("scsi0", {}).get("size", 0))
        self.configure(100, {"disks": {"scsi0": {"size": size}}})

    @rule(vmid=VMIDS, state=st.sampled_from(["started", "stopped"]))
    def power(self, vmid: int, state: str) -> None:
        self.wishes[vmid].power = state
        self.converge(self.wishes[vmid].powered(state, force="after_timeout"))

    @rule(vmid=VMIDS, name=st.sampled_from(["one", "two"]), there=st.booleans())
    def snapshot(self, vmid: int, name: str, there: bool) -> None:
        self.wishes[vmid].snapshots[name] = there
        self.converge(self.wishes[vmid].snapshot(name, there))

    @rule(node=NODES)
    def migrate(self, node: str) -> None:
        self.wishes[102].node = node
        self.converge(self.wishes[102].moved(node))

    @rule(number=SMALL)
    def clone(self, number: int) -> None:
        wish = self.wishes.setdefault(number, Wish(None, f"new{number}", source="9001"))
        self.converge(next(wish.plays()))

    @rule(vmid=VMIDS, options=OPTIONS, mtu=st.integers(1400, 1500), node=NODES, number=SMALL, seed=st.integers(0, 999))
    def at_once(self, vmid: int, options: dict[str, Any], mtu: int, node: str, number: int, seed: int) -> None:
        """Plays of different people at the same moment, in an order that is drawn."""
        configured, moved = self.wishes[vmid], self.wishes[102]
        clone = self.wishes.setdefault(number, Wish(None, f"new{number}", source="9001"))
        other_key = {"net": {"net0": {"mtu": mtu}}}
        configured.want(options)
        configured.want(other_key)
        moved.node = node
        configured.snapshots["three"] = True
        plays = [
            configured.configured(options),
            configured.configured(other_key),
            configured.snapshot("three", True),
            moved.moved(node),
            next(clone.plays()),
            next(clone.plays()),
        ]
        results = Conductor(self.cluster, seed).run(plays)
        assert [result["msg"] for result in results if result["failed"]] == []
        self.calm()
        self.check(plays)

    # What holds

    def converge(self, wanted: Play) -> None:
        """Run a play, with the fault that is due; run it again without."""
        kind, self.kind = self.kind, None
        wire = self.wire(kind)
        try:
            first = play(self.cluster, *wanted, wire)
        except Killed:
            first = None
        self.calm()
        if first is not None and first["failed"]:
            assert kind is not None, first["msg"]
            assert not kind.survived, f"{kind}: {first['msg']}"
        self.check([wanted], may_act=first is None or first["failed"])

    def wire(self, kind: Kind | None) -> Wire:
        """Return the connection of a play that meets the fault, and that somebody may get ahead of."""
        quicker, self.quicker = self.quicker, None

        def before(number: int) -> None:
            if quicker is not None and quicker[2] == number:
                self.set_rate(*quicker[:2])
            if kind == KILLED_BEFORE and number == self.nth:
                raise Killed

        def after(number: int) -> None:
            if kind == KILLED_AFTER and number == self.nth:
                raise Killed

        if kind is not None and kind.fault is not None:
            writes = kind.writes or kind.tasks
            nth = 1 if writes else self.nth
            self.cluster.add_fault(
                Fault("POST|PUT|DELETE" if writes else ".*", nth=nth, when=kind.when, kind=kind.fault)
            )
        return Wire(self.cluster, before, after)

    def calm(self) -> None:
        """Let what is under way end."""
        self.cluster.faults.clear()
        self.cluster.tasks.start_failures.clear()
        self.cluster.clock.advance(SETTLE)

    def check(self, plays: Sequence[Play], may_act: bool = False) -> None:
        for wanted in plays:
            again = play(self.cluster, *wanted, Wire(self.cluster))
            assert not again["failed"], again["msg"]
            assert may_act or not again["changed"], again["calls"]
        assert [text for wish in self.wishes.values() for text in wish.lacks(self.cluster)] == []

    @invariant()
    def what_others_set_is_there(self) -> None:
        for vmid, options in self.others.items():
            config = self.cluster.guests[vmid].config
            assert {key: config.get(key) for key in options} == options
        for vmid, rate in self.rates.items():
            assert f",rate={rate}" in self.cluster.guests[vmid].effective()["net0"]

    @invariant()
    def nothing_is_left_over(self) -> None:
        assert list(strays(self.cluster)) == []
        assert not self.cluster.unmodelled


def test_plays_in_any_order() -> None:
    run_state_machine_as_test(
        Plays,
        settings=settings(max_examples=50, stateful_step_count=15, deadline=None, database=None, derandomize=True),
    )
