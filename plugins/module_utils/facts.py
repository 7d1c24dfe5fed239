# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts of many guests, asked for side by side, none of which may cost the others theirs.

A node has three workers for what needs root (pveproxy.pm, pvedaemon.pm), and an agent that does not answer holds one of
them for three seconds (PVE/QemuServer/Agent.pm). So agents are asked two at a time on a node, and for a limited time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .errors import ProxmoxError
from .hosts import Row
from .plan import Reader

SUBSETS = ("config", "status", "snapshots", "interfaces", "agent")
AGENTS_AT_ONCE = 2

_ENDPOINTS = {"config": "config", "status": "status/current", "snapshots": "snapshot", "interfaces": "interfaces"}
_UNREACHABLE = (595, 596)


@dataclass
class Gathered:
    """What was learnt. :param facts: by VMID, as text, the answer of each subset, and ``error`` where one failed.

    :param failed: why facts of a guest are missing, by VMID.
    :param silent: why an agent gave nothing, by VMID.
    :param unasked: guests whose agent was not asked for want of time.
    :param skipped: nodes that cannot be reached, with the number of guests that were not asked for it.
    """

    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    silent: dict[int, str] = field(default_factory=dict)
    unasked: list[int] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)


def gather(
    reader: Reader,
    rows: Sequence[Row],
    subsets: Iterable[str],
    *,
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
    :param concurrency: how many guests are asked at once.
    :param agent_seconds: after which no further agent is asked.
    :param down: nodes that are not asked.
    """
    result = Gathered()
    unreachable = set(down)
    wanted = [subset for subset in SUBSETS if subset in set(subsets) and subset != "agent"]

    def ask(row: Row) -> None:
        facts = result.facts[str(row["vmid"])]
        for subset in wanted:
            if row["node"] in unreachable:
                return
            if subset == "interfaces" and not (row["type"] == "lxc" and _runs(row, facts)):
                continue
            try:
                facts[subset] = reader.get(f"{_path(row)}/{_ENDPOINTS[subset]}")
            except ProxmoxError as error:
                if error.status == 401:
                    # Credentials that were refused are not tried again: each time costs three seconds, and accounts get locked.
                    raise
                if error.status in _UNREACHABLE:
                    unreachable.add(row["node"])
                    return
                facts.setdefault("error", error.message)
                result.failed[int(row["vmid"])] = error.message

    def ask_agents(lane: list[Row]) -> None:
        for row in lane:
            vmid = int(row["vmid"])
            if now() >= deadline:
                result.unasked.append(vmid)
                continue
            try:
                answer = reader.get(f"{_path(row)}/agent/network-get-interfaces")
            except ProxmoxError as error:
                if error.status == 401:
                    raise
                result.silent[vmid] = error.message
                continue
            told = answer.get("result") if isinstance(answer, Mapping) else answer
            if isinstance(told, list):
                result.facts[str(vmid)]["agent"] = told
            else:
                # The agent's own refusal: unsupported in the guest, or disabled there.
                refusal = told.get("error") if isinstance(told, Mapping) else None
                result.silent[vmid] = str((refusal or {}).get("desc") or told)

    for row in rows:
        result.facts[str(row["vmid"])] = {}
    pool = ThreadPoolExecutor(max_workers=concurrency)
    try:
        list(pool.map(ask, rows))
        if "agent" in set(subsets):
            asked: dict[str, list[Row]] = {}
            for row in rows:
                facts = result.facts[str(row["vmid"])]
                reachable = row["type"] == "qemu" and row["node"] not in unreachable
                if reachable and _runs(row, facts) and ask_agent(row, facts):
                    asked.setdefault(row["node"], []).append(row)
            deadline = now() + agent_seconds
            lanes = [on_node[lane::AGENTS_AT_ONCE] for lane in range(AGENTS_AT_ONCE) for on_node in asked.values()]
            list(pool.map(ask_agents, lanes))
    finally:
        # Also when the user interrupts: what has not begun does not begin.
        pool.shutdown(cancel_futures=True)
    for row in rows:
        facts = result.facts[str(row["vmid"])]
        if row["node"] in unreachable and any(subset not in facts for subset in wanted):
            facts.setdefault("error", f"Node {row['node']} cannot be reached.")
            result.skipped[row["node"]] = result.skipped.get(row["node"], 0) + 1
    return result


def _path(row: Row) -> str:
    return f"/nodes/{row['node']}/{row['type']}/{row['vmid']}"


def _runs(row: Row, facts: Mapping[str, Any]) -> bool:
    """Tell whether the guest runs; its own status is newer than the row's."""
    live = facts.get("status") or {}
    return (live.get("qmpstatus") or live.get("status") or row.get("status")) == "running"
