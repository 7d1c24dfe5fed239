# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the server is doing and has done: tasks of one node or all, one task with its log, and locks with who holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import Effect, ProxmoxError, Refused, unreachable
from .guests import Guest, check_node, online_nodes
from .locks import locked_guests, shown
from .plan import Feature, Reader
from .task_list import STATES, Task, from_row, moment, parsed, read, with_log
from .wire import Upid

# What chooses among tasks, and so has no meaning for one that is named.
FILTERS = ("node", "vmid", "task_type", "user", "state", "since", "until")


@dataclass(frozen=True)
class Wanted:
    """Which tasks. :param states: of STATES. :param filters: as the server takes them. :param limit: how many at most.

    :param locks: whether locked guests are looked for too.
    """

    upid: Upid | None
    node: str | None
    vmid: int | None
    states: tuple[str, ...]
    filters: Mapping[str, object]
    limit: int
    locks: bool = False


@dataclass(frozen=True)
class Observed:
    """:param unreachable: nodes that did not answer."""

    tasks: tuple[Task, ...]
    unreachable: tuple[str, ...] = ()
    locked: tuple[Guest, ...] = field(default_factory=tuple)


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for."""
    upid = options.get("upid")
    if upid is not None:
        given = [name for name in FILTERS if options.get(name) is not None]
        if given:
            raise Refused(f"upid names one task; {' and '.join(given)} would choose among several.")
    if options["limit"] < 1:
        raise Refused(f"limit is {options['limit']}; it must be at least 1.")
    filters = {
        "vmid": options.get("vmid"),
        "typefilter": options.get("task_type"),
        "userfilter": options.get("user"),
        "since": moment("since", options.get("since")),
        "until": moment("until", options.get("until")),
    }
    return Wanted(
        parsed(upid) if upid is not None else None,
        options.get("node"),
        options.get("vmid"),
        tuple(options.get("state") or STATES),
        {key: value for key, value in filters.items() if value is not None},
        options["limit"],
        options["locks"],
    )


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the tasks, the newest first: one request a node."""
    nodes = [want.node] if want.node is not None else None
    locked = tuple(locked_guests(reader, nodes, want.vmid)) if want.locks else ()
    if want.upid is not None:
        return Observed((with_log(reader, read(reader, want.upid)),), (), locked)
    found: list[Task] = []
    silent = []
    for node in nodes or online_nodes(reader):
        try:
            rows = reader.get(f"/nodes/{node}/tasks", **_query(want))
        except ProxmoxError as error:
            if want.node is not None and error.effect is Effect.ABSENT:
                check_node(reader, want.node)
            if not unreachable(error) or want.node is not None:
                raise
            silent.append(node)
            continue
        found += [task for row in rows if (task := from_row(row)) is not None and task.state in want.states]
    newest = sorted(found, key=lambda task: (task.upid.start, task.upid.text), reverse=True)
    return Observed(tuple(newest[: want.limit]), tuple(silent), locked)


def _query(want: Wanted) -> dict[str, object]:
    """Return what the server is asked for; to its filter by state, a task that runs is of unknown state."""
    ended = [state for state in want.states if state != "running"]
    running = "running" in want.states
    query: dict[str, object] = {
        **want.filters,
        "limit": want.limit,
        "source": "all" if running and ended else "active" if running else "archive",
    }
    if ended and set(want.states) != set(STATES):
        query["statusfilter"] = ",".join(dict.fromkeys([*ended, *(["unknown"] if running else [])]))
    return query


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the tasks, and the locks where they were asked for."""
    told: dict[str, object] = {
        "tasks": [task.shown() for task in observed.tasks],
        "unreachable_nodes": list(observed.unreachable),
    }
    if want.locks:
        told["locks"] = [shown(guest) for guest in observed.locked]
    return told


FEATURE = Feature(wanted, observe, None, result)
