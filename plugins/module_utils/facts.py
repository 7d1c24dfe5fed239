# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of many guests, asked for side by side, none of which may cost the others theirs.

A node has three workers for what needs root (pveproxy.pm, pvedaemon.pm), and an agent that does not answer holds one of
them for three seconds (PVE/QemuServer/Agent.pm). So agents are asked two at a time on a node, beside everything else, and
for a limited time once there is nothing else.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .errors import Effect, ProxmoxError
from .hosts import Row
from .plan import Reader

# What is asked for at once, and what comes with the status, which may have to be waited for.
STATIC = ("config", "snapshots")
LIVE = ("status", "interfaces")
SUBSETS = (*STATIC, *LIVE, "agent")
AGENTS_AT_ONCE = 2
# A node tells the status of all its guests in one answer, which takes it as long as what it measures for itself every ten
# seconds (vmstatus in PVE/QemuServer.pm, PVE/LXC.pm and PVE/Service/pvestatd.pm). It is asked for that where so many of them are
# wanted, and not fewer than one in so many of all that are there.
LISTED_FROM = 3
LISTED_SHARE = 4

_ENDPOINTS = {"config": "config", "status": "status/current", "snapshots": "snapshot", "interfaces": "interfaces"}
_UNREACHABLE = (595, 596)


@dataclass
class Gathered:
    """What was learnt. :param facts: by VMID, as text, the answer of each subset, and ``error`` where one failed.

    :param failed: why facts of a guest are missing, by VMID.
    :param silent: why an agent gave nothing, by VMID.
    :param unasked: guests whose agent was not asked for want of time.
    :param skipped: nodes that cannot be reached, with the number of guests that were not asked for it.
    :param passing: guests of which something is missing that is likely to be there the next time.
    """

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    silent: dict[int, str] = field(default_factory=dict)
    unasked: list[int] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    passing: set[int] = field(default_factory=set)


def gather(
    reader: Reader,
    rows: Sequence[Row],
    subsets: Iterable[str],
    *,
    guests: Sequence[Row],
    ask_agent: Callable[[Row, Mapping[str, Any]], bool],
    concurrency: int,
    agent_seconds: float,
    down: Iterable[str] = (),
    now: Callable[[], float] = time.monotonic,
) -> Gathered:
    """Return the facts of the guests.

    :param reader: used by several threads at once.
    :param rows: guests, as rows of /cluster/resources.
    :param subsets: names from SUBSETS; agent means those that ask_agent agrees to, once their other facts are known.
    :param guests: all guests there are, the rows among them.
    :param concurrency: how many guests are asked at once, without the agents.
    :param agent_seconds: how long agents are still asked once everything else is known.
    :param down: nodes that are not asked.
    """
    result = Gathered()
    down = set(down)
    unreachable = set(down)
    absent: set[int] = set()
    wanted = set(subsets)
    deadline = math.inf
    listed: dict[tuple[str, str], Future[dict[int, Any]]] = {}
    refusals: list[ProxmoxError] = []

    def get(path: str, **query: object) -> Any:
        # Credentials that were refused are not tried again: each time costs three seconds, and accounts get locked.
        if refusals:
            raise refusals[0]
        try:
            return reader.get(path, **query)
        except ProxmoxError as error:
            if error.status == 401:
                refusals.append(error)
            raise

    def status_of_all(node: str, kind: str) -> dict[int, Any]:
        """Return the status of the guests of a node by VMID; none where the node will not tell, so that each is asked."""
        try:
            answer = get(f"/nodes/{node}/{kind}", **({"full": 1} if kind == "qemu" else {}))
        except ProxmoxError as error:
            if error.status in (401, *_UNREACHABLE):
                raise
            return {}
        return {int(one["vmid"]): one for one in answer}

    def answer_of(row: Row, subset: str) -> Any:
        of_all = listed.get((row["node"], row["type"])) if subset == "status" else None
        found = of_all.result().get(int(row["vmid"])) if of_all is not None else None
        return get(f"{_path(row)}/{_ENDPOINTS[subset]}") if found is None else found

    def ask(row: Row) -> None:
        ask_for(row, [subset for subset in STATIC if subset in wanted])
        of_all = listed.get((row["node"], row["type"]))
        if of_all is None or of_all.done():
            ask_live(row)
        else:
            # Others can be asked meanwhile.
            later.append(row)

    def ask_live(row: Row) -> None:
        ask_for(row, [subset for subset in LIVE if subset in wanted])
        facts = result.facts[str(row["vmid"])]
        if "agent" in wanted and row["type"] == "qemu" and _runs(row, facts) and ask_agent(row, facts):
            # Nobody had been on the node that a guest has moved to.
            answering.append(lanes.get(row["node"], pools[""]).submit(ask_the_agent, row))

    def ask_for(row: Row, some: Iterable[str]) -> None:
        facts = result.facts[str(row["vmid"])]
        for subset in some:
            if row["node"] in unreachable:
                return
            if subset == "interfaces" and not (row["type"] == "lxc" and _runs(row, facts)):
                continue
            try:
                facts[subset] = answer_of(row, subset)
            except ProxmoxError as error:
                if error.status == 401:
                    raise
                if error.status in _UNREACHABLE:
                    unreachable.add(row["node"])
                    return
                facts.setdefault("error", error.message)
                result.failed[int(row["vmid"])] = error.message
                note(row, error)

    def note(row: Row, error: ProxmoxError) -> None:
        if error.effect is not Effect.PERMANENT:
            result.passing.add(int(row["vmid"]))
        if error.effect is Effect.ABSENT:
            absent.add(int(row["vmid"]))

    def elsewhere() -> list[Row]:
        """Return the rows of guests that have moved since; of those, nothing is known any more."""
        if not absent:
            return []
        try:
            current = get("/cluster/resources", type="vm")
        except ProxmoxError as error:
            if error.status == 401:
                raise
            return []
        nodes = {int(row["vmid"]): row["node"] for row in rows}
        found = [one for one in current if int(one["vmid"]) in absent and one["node"] != nodes[int(one["vmid"])]]
        for vmid in (int(one["vmid"]) for one in found):
            result.facts[str(vmid)] = {}
            result.failed.pop(vmid, None)
            result.silent.pop(vmid, None)
            result.passing.discard(vmid)
            result.unasked = [one for one in result.unasked if one != vmid]
        return found

    def ask_the_agent(row: Row) -> None:
        vmid = int(row["vmid"])
        if row["node"] in unreachable:
            return
        if now() >= deadline:
            result.unasked.append(vmid)
            return
        try:
            answer = get(f"{_path(row)}/agent/network-get-interfaces")
        except ProxmoxError as error:
            if error.status == 401:
                raise
            result.silent[vmid] = error.message
            # An agent that is silent stays so, more often than not.
            if error.effect is Effect.ABSENT or error.status in _UNREACHABLE:
                note(row, error)
            return
        told = answer.get("result") if isinstance(answer, Mapping) else answer
        if isinstance(told, list):
            result.facts[str(vmid)]["agent"] = told
        else:
            # The agent's own refusal: unsupported in the guest, or disabled there.
            refusal = told.get("error") if isinstance(told, Mapping) else None
            result.silent[vmid] = str((refusal or {}).get("desc") or told)

    for row in rows:
        result.facts[str(row["vmid"])] = {}
    there = Counter((row["node"], row["type"]) for row in guests)
    here = Counter((row["node"], row["type"]) for row in rows if row["node"] not in unreachable)
    later: list[Row] = []
    answering: list[Future[None]] = []
    with _threads(AGENTS_AT_ONCE, {node for node, _kind in here}) as lanes, _threads(concurrency, [""]) as pools:
        for place, count in here.items():
            if "status" in wanted and count >= max(LISTED_FROM, there[place] / LISTED_SHARE):
                listed[place] = pools[""].submit(status_of_all, *place)
        _finish([pools[""].submit(ask, row) for row in rows if row["node"] not in unreachable])
        _finish([pools[""].submit(ask_live, row) for row in later])
        deadline = now() + agent_seconds
        _finish(answering)
        moved = {int(row["vmid"]): row for row in elsewhere()}
        rows = [moved.get(int(row["vmid"]), row) for row in rows]
        _finish([pools[""].submit(ask, row) for row in moved.values() if row["node"] not in unreachable])
        _finish(answering)
    for row in rows:
        facts = result.facts[str(row["vmid"])]
        if row["node"] in unreachable and any(subset not in facts for subset in wanted & _ENDPOINTS.keys()):
            facts.setdefault("error", f"Node {row['node']} cannot be reached.")
            result.skipped[row["node"]] = result.skipped.get(row["node"], 0) + 1
            if row["node"] not in down:
                result.passing.add(int(row["vmid"]))
    return result


@contextmanager
def _threads(at_once: int, names: Iterable[str]) -> Iterator[dict[str, ThreadPoolExecutor]]:
    """Give a pool of threads for each name; when the block ends, also by an interrupt, what has not begun does not begin."""
    pools = {name: ThreadPoolExecutor(max_workers=at_once) for name in names}
    try:
        yield pools
    finally:
        for pool in pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools.values():
            pool.shutdown()


def _finish(futures: Sequence[Future[Any]]) -> None:
    """Wait for all; raises what the first to fail raised, at once."""
    done, _rest = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


def _path(row: Row) -> str:
    return f"/nodes/{row['node']}/{row['type']}/{row['vmid']}"


def _runs(row: Row, facts: Mapping[str, Any]) -> bool:
    """Tell whether the guest runs; its own status is newer than the row's."""
    live = facts.get("status") or {}
    return (live.get("qmpstatus") or live.get("status") or row.get("status")) == "running"
