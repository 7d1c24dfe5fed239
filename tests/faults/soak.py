"""Random plays of several processes on one cluster over HTTPS, with random faults, for minutes: `python -m tests.faults.soak`.

Each process owns guests and knows what it wants of them; all want something of two guests that they share, each its own keys. A
play may meet a fault, and may be killed anywhere. In the end everything is asked for once more without faults. Then the cluster
must be as all of them want it, with no guest twice and no volume left over, and asking a second time must change nothing.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests import modules
from tests.simulator import Cluster, Durations, Fault, RealClock, serve

from .cases import SETTLE, strays
from .kinds import KINDS, Kind
from .races import Play
from .wishes import Wish

PROCESSES = 4
NODES = ("pve1", "pve2", "pve3")
SHARED = (190, 191)
TEMPLATE = 9000
MOST_GUESTS = 8  # of each process
# How many times faster than real time everything is: the cluster, and the pauses of the plays.
SPEED = 10.0
# A play that was cut off may leave something on its way for that many seconds of the cluster's time.
CALM_SECONDS = 60.0

# Those after which no person must clear up.
FAULTS = [kind for kind in KINDS if kind.fault is not None and not kind.wrecks and not kind.password]
STARTS_TASK = r"/(clone|migrate|snapshot|rollback|start|stop|shutdown|reboot|reset)$"


class FastClock:
    """The clock of the plays."""

    def now(self) -> float:
        return time.monotonic() * SPEED

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / SPEED)


@dataclass
class Tally:
    """What a process did. :param messages: of the failures that a user would have seen. :param wrong: broken promises."""

    plays: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    messages: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    wishes: list[Wish] = field(default_factory=list)


def run(play: Play, auth: dict[str, Any]) -> dict[str, Any]:
    """Return the result of a play."""
    module, options = play
    return modules.run(module, {**auth, "timeout": 600, **options}, clock=FastClock())


def disturbed(number: int, seed: int, until: float, auth: dict[str, Any]) -> Tally:
    """Play at random until the time has come, as process `number`."""
    chance = random.Random(f"{seed} {number}")
    own = [Wish(100 + 10 * number + each, f"own{number}{each}") for each in range(3)]
    tally = Tally(wishes=[*own, *(Wish(vmid, f"shared{vmid}") for vmid in SHARED)])
    disturbed_at: dict[str, float] = {}
    while time.monotonic() < until:
        wish = chance.choice(tally.wishes)
        if wish in tally.wishes[3:5]:
            play = chance.choice(WANTED_OF_SHARED)(wish, chance, number)
        elif len(tally.wishes) < MOST_GUESTS and chance.random() < 0.05:
            wish = Wish(None, f"clone{number}-{len(tally.wishes)}", source=str(TEMPLATE))
            tally.wishes.append(wish)
            play = next(wish.plays())
        else:
            play = chance.choice(WANTED_OF_OWN)(wish, chance, number)
        tally.plays[play[0].removeprefix("proxmox_")] += 1
        if chance.random() < 0.03:
            cut_off(play, auth, chance.random())
            tally.killed += 1
            disturbed_at[wish.name] = time.monotonic()
            continue
        result = run(play, auth)
        if result["failed"]:
            tally.messages.append(result["msg"])
            disturbed_at[wish.name] = time.monotonic()
            continue
        calm = time.monotonic() - disturbed_at.get(wish.name, 0.0) > CALM_SECONDS / SPEED
        if calm and chance.random() < 0.3 and play[1].get("state") != "restarted":
            again = run(play, auth)
            if again["changed"]:
                told = [call["summary"] for call in again["calls"]]
                tally.wrong.append(f"{play}: reported success, and yet the second run did {told}")
    return tally


def _node(wish: Wish, chance: random.Random, number: int) -> Play:
    wish.node = chance.choice(NODES)
    return wish.moved(wish.node)


def _power(wish: Wish, chance: random.Random, number: int) -> Play:
    state = chance.choice(("started", "started", "stopped", "restarted"))
    wish.power = "stopped" if state == "stopped" else "started"
    return wish.powered(state, force=chance.choice(("never", "now")))


def _snapshot(wish: Wish, chance: random.Random, number: int) -> Play:
    name, there = f"snap{number}{chance.choice('abc')}", chance.random() < 0.6
    wish.snapshots[name] = there
    return wish.snapshot(name, there)


def _options(wish: Wish, chance: random.Random, number: int) -> Play:
    options = chance.choice(
        (
            {"cores": chance.randint(1, 4), "description": f"number {chance.randint(1, 9)}"},
            {"memory": 512 * chance.randint(1, 4), "onboot": chance.random() < 0.5},
            {"tags": chance.sample(["web", "db", "prod"], 2)},
            {"net": {"net0": {"bridge": "vmbr0", "tag": chance.randint(2, 99)}}},
            {"disks": {"scsi1": {"storage": "shared", "size": 1}}},
        )
    )
    wish.want(options)
    return wish.configured(options)


def _bigger(wish: Wish, chance: random.Random, number: int) -> Play:
    size = wish.options.get("disks", {}).get("scsi0", {}).get("size", 2) + 1
    options = {"disks": {"scsi0": {"size": min(size, 20)}}}
    wish.want(options)
    return wish.configured(options)


def _net(wish: Wish, chance: random.Random, number: int) -> Play:
    options = {"net": {f"net{number}": {"bridge": "vmbr0", "tag": chance.randint(2, 99)}}}
    wish.want(options)
    return wish.configured(options)


Want = Callable[[Wish, random.Random, int], Play]
WANTED_OF_OWN: tuple[Want, ...] = (_node, _power, _power, _snapshot, _options, _options, _bigger)
WANTED_OF_SHARED: tuple[Want, ...] = (_net, _net, _snapshot)


def cut_off(play: Play, auth: dict[str, Any], seconds: float) -> None:
    """Run a play in a process that is killed after some seconds."""
    child = os.fork()
    if child == 0:
        try:
            run(play, auth)
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def undisturbed(wishes: list[Wish], auth: dict[str, Any]) -> list[tuple[Play, dict[str, Any]]]:
    """Ask for everything that is wanted, and return what came of each play."""
    return [(play, run(play, auth)) for wish in wishes for play in wish.plays()]


class Mischief:
    """Lets requests meet faults until it is told to end."""

    def __init__(self, cluster: Cluster, seed: int, seconds: float) -> None:
        self._cluster, self._chance, self._seconds = cluster, random.Random(f"mischief {seed}"), seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.struck: Counter[str] = Counter()
        self._ready: list[tuple[Kind, Fault]] = []

    def __enter__(self) -> Mischief:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()
        with self._cluster.scheduler.lock:
            self._count()
            self._cluster.faults.clear()
            self._cluster.tasks.start_failures.clear()

    def _work(self) -> None:
        while not self._end.wait(self._chance.expovariate(1 / self._seconds)):
            kind = self._chance.choice(FAULTS)
            method = "POST" if kind.tasks else "POST|PUT|DELETE" if kind.writes or self._chance.random() < 0.5 else ".*"
            path = STARTS_TASK if kind.tasks else "^/nodes|^/cluster"
            fault = Fault(method, path, self._chance.randint(1, 5), kind.when, kind.fault)
            with self._cluster.scheduler.lock:
                self._count()
                self._cluster.add_fault(fault)
                self._ready.append((kind, fault))

    def _count(self) -> None:
        over = [(kind, fault) for kind, fault in self._ready if fault.seen >= fault.nth]
        self.struck.update(str(kind) for kind, _fault in over)
        self._ready = [(kind, fault) for kind, fault in self._ready if fault.seen < fault.nth]
        self._cluster.faults[:] = [fault for _kind, fault in self._ready]


def make_cluster(seed: int) -> Cluster:
    cluster = Cluster(seed=seed, clock=RealClock(time.time(), SPEED), durations=Durations(request=0.02))
    cluster.add_template(TEMPLATE, "debian", disk="shared:2")
    for number in range(PROCESSES):
        for each in range(3):
            cluster.add_vm(100 + 10 * number + each, f"own{number}{each}", node=NODES[each], disk="shared:2")
    for vmid in SHARED:
        cluster.add_vm(vmid, f"shared{vmid}", disk="shared:2", running=vmid % 2 == 0)
    return cluster


def violations(cluster: Cluster, wishes: list[Wish]) -> Iterator[str]:
    """Yield what is not as it is wanted, or should not be there."""
    for wish in wishes:
        yield from wish.lacks(cluster)
    yield from strays(cluster)
    wanted = {wish.name for wish in wishes} | {"debian"}
    names = Counter(guest.config.get("name", f"nameless {vmid}") for vmid, guest in cluster.guests.items())
    yield from (f"{name} is there {count} times" for name, count in names.items() if count > (name in wanted))
    if cluster.unmodelled:
        yield f"not modelled: {cluster.unmodelled}"


def soak(seconds: float, seed: int, every: float) -> int:
    """Return the number of violations; prints what was done."""
    cluster = make_cluster(seed)
    wrong: list[str] = []
    # Forked before the server's threads are there.
    with multiprocessing.Pool(PROCESSES) as pool, serve(cluster) as server:
        auth = {
            "api_host": [server.host],
            "api_port": server.port,
            "api_user": server.user,
            "api_token_id": server.token_id,
            "api_token_secret": server.token_secret,
            "ca_path": server.ca_path,
            "api_timeout": 35 / SPEED,
        }
        until = time.monotonic() + seconds
        with Mischief(cluster, seed, every) as mischief:
            jobs = [pool.apply_async(disturbed, (number, seed, until, auth)) for number in range(PROCESSES)]
            tallies = [job.get(seconds + 600) for job in jobs]
        time.sleep(SETTLE / SPEED)
        for tally in tallies:
            wrong += tally.wrong
        writes = 0
        for last in (False, True):
            jobs = [pool.apply_async(undisturbed, (tally.wishes, auth)) for tally in tallies]
            for play, result in [each for job in jobs for each in job.get(600)]:
                if result["failed"]:
                    wrong.append(f"undisturbed, and yet {play} failed: {result['msg']}")
                elif last and result["changed"]:
                    wrong.append(f"wanted again, {play} did {[call['summary'] for call in result['calls']]}")
            if last and len(cluster.log.writes()) > writes:
                wrong.append(f"the last round wrote {len(cluster.log.writes()) - writes} times")
            writes = len(cluster.log.writes())
        with cluster.scheduler.lock:
            wrong += violations(cluster, [wish for tally in tallies for wish in tally.wishes])
    tell(cluster, tallies, mischief.struck)
    print(*wrong[:20], f"soak: {len(wrong)} violations in {seconds / 60:g} min, seed {seed}", sep="\n")
    return len(wrong)


def tell(cluster: Cluster, tallies: list[Tally], struck: Counter[str]) -> None:
    """Print the figures."""
    plays: Counter[str] = sum((tally.plays for tally in tallies), Counter())
    messages = Counter(re.sub(r"\d{2,}|'[^']*'", "N", text)[:250] for tally in tallies for text in tally.messages)
    print(f"{plays.total()} plays: {', '.join(f'{count} {name}' for name, count in plays.most_common())}")
    print(
        f"{sum(tally.killed for tally in tallies)} of them killed; {len(cluster.log)} requests, {len(cluster.guests)} guests"
    )
    print(f"{struck.total()} faults:")
    for text, count in struck.most_common():
        print(f"    {count:4} x {text}")
    print(f"{messages.total()} failures that a user would have seen:")
    for text, count in messages.most_common(20):
        print(f"    {count:4} x {text}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of disturbed plays (default 10)")
    parser.add_argument("--seed", type=int, default=None, help="of what is wanted and what goes wrong (default: any)")
    parser.add_argument("--every", type=float, default=0.5, help="seconds from fault to fault on average (default 0.5)")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    return 1 if soak(options.minutes * 60, seed, options.every) else 0


if __name__ == "__main__":
    sys.exit(main())
