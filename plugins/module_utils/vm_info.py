# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests as they are, one or all, with as much of each as is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import facts, hosts
from .guests import check_node, from_resources, named, named_live
from .plan import Feature, Reader

Row = Mapping[str, Any]

CONCURRENCY = 8
AGENT_SECONDS = 60.0


@dataclass(frozen=True)
class Wanted:
    """Which guests: those that fit everything that is given. :param facts: names from facts.SUBSETS."""

    vmid: int | None
    name: str | None
    node: str | None
    kind: str | None
    facts: tuple[str, ...]


@dataclass(frozen=True)
class Observed:
    """:param rows: of /cluster/resources."""

    rows: Sequence[Row]
    gathered: facts.Gathered


def wanted(options: Mapping[str, Any]) -> Wanted:
    """Return what the module options ask for; a guest that is named is looked at live unless facts say otherwise."""
    vmid, name = options.get("vmid"), options.get("name")
    subsets = options.get("facts")
    if subsets is None:
        subsets = ["status"] if vmid is not None or name is not None else []
    if "agent" in subsets and "config" not in subsets:
        # Whether there is an agent to ask, its configuration tells.
        subsets = ["config", *subsets]
    return Wanted(vmid, name, options.get("node"), options.get("type"), tuple(subsets))


def observe(want: Wanted, reader: Reader, previous: Observed | None) -> Observed:
    """Return the guests: one request, about one for each guest and subset, and one where no guest is on the node that is named."""
    rows = [row for row in reader.get("/cluster/resources", type="vm") if row["type"] in hosts.KINDS]
    if want.node is not None and want.node not in {row["node"] for row in rows}:
        check_node(reader, want.node)
    chosen = [
        row
        for row in rows
        if want.vmid in (None, int(row["vmid"]))
        and want.node in (None, row["node"])
        and want.kind in (None, row["type"])
    ]
    if want.name is not None:
        guests = named(reader, from_resources(chosen), want.name) or named_live(reader, want.name)
        vmids = {guest.vmid for guest in guests}
        chosen = [row for row in chosen if int(row["vmid"]) in vmids]
    gathered = facts.gather(
        reader,
        chosen,
        want.facts,
        guests=rows,
        ask_agent=lambda row, found: hosts.agent_is_enabled(found.get("config") or {}),
        concurrency=CONCURRENCY,
        agent_seconds=AGENT_SECONDS,
    )
    return Observed(chosen, gathered)


def result(want: Wanted, observed: Observed) -> Mapping[str, object]:
    """Return the guests by VMID."""
    rows = sorted(observed.rows, key=lambda row: int(row["vmid"]))
    return {"guests": [_guest(row, observed.gathered) for row in rows]}


def _guest(row: Row, gathered: facts.Gathered) -> dict[str, object]:
    vmid = int(row["vmid"])
    found = gathered.facts[str(vmid)]
    told = hosts.guest_variables(hosts.with_facts(row, found))
    status = found.get("status") or {}
    told.update({key: status[key] for key in ("status", "qmpstatus") if key in status})
    shown = {key: value for key, value in told.items() if key not in ("vmtype", "tags_parsed")}
    for subset, name in (("config", "config"), ("snapshots", "snapshots"), ("interfaces", "interfaces")):
        if subset in found:
            shown[name] = found[subset]
    if "snapshots" in found:
        shown["snapshots"] = [one for one in found["snapshots"] if one.get("name") != "current"]
    if "agent" in found:
        shown["interfaces"] = found["agent"]
    reason = found.get("error") or gathered.silent.get(vmid)
    if reason is None and vmid in gathered.unasked:
        reason = f"Its agent was not asked: others have taken {AGENT_SECONDS:g} s."
    return shown | ({"error": reason} if reason is not None else {})


FEATURE = Feature(wanted, observe, None, result)
