# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which guests a play's task means when it means several, by what the inventory chooses its guests by.

VMIDs, nodes, tags and pools are those of ``/cluster/resources``, which knows them at once. So are names, though they lag there by
ten seconds and more: fresh guests, which have none yet, are asked for theirs. States lag as well, and change all the time: the
nodes are asked for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import Refused
from .guests import KINDS, Guest, answered_rows, every_guest, from_resource, keeps_case, with_names
from .hosts import Criterion, Row, criteria, guest_name, ignoring_case, is_chosen, values_of
from .plan import Reader
from .wire import did_you_mean, is_true

# Module option -> what the inventory calls it.
_CRITERIA = {
    "vmids": "vmids",
    "names": "names",
    "with_tags": "tags",
    "pools": "pools",
    "nodes": "nodes",
    "status": "status",
    "type": "types",
    "template": "template",
}

# Options of which one at least says that several guests are meant; the other two only narrow them down.
SELECTORS = ("vmids", "names", "with_tags", "pools", "nodes", "status")

# Options that say nothing about one guest.
_OF_SEVERAL = ("template", "max_guests", "allow_none", "parallel_per_node")

_PATTERN = re.compile(r"^~|[*?\[]")

# As many values or guests are listed in a message.
_SHOWN = 8


@dataclass(frozen=True)
class Selector:
    """An option and what it asks of a guest. :param all_of: criteria that must all be met. :param texts: as they were given."""

    option: str
    all_of: tuple[Criterion, ...]
    texts: tuple[str, ...]

    @property
    def key(self) -> str:
        return _CRITERIA[self.option]

    def meets(self, row: Row) -> bool:
        return is_chosen(row, self.all_of, ())

    def __str__(self) -> str:
        return f"{self.option} {', '.join(self.texts) or '(empty)'}"


@dataclass(frozen=True)
class Selection:
    """Which guests are meant. :param most: how many there may be. :param allow_none: whether there may be none."""

    selectors: Mapping[str, Selector]
    allow_none: bool = False
    most: int | None = None

    def confirm(self, result: Mapping[str, Any]) -> str | None:
        """Return why the guest of a result is not meant any more, None where it is; Refused where it has another name by now.

        A guest of another name may be another guest. One that somebody has stopped or moved is the same, and would not have been
        chosen a moment later.
        """
        guest, names = result["guest"], self.selectors.get("names")
        if names is not None and not names.meets(guest):
            raise Refused(
                f"{KINDS[guest['type']]} {guest['vmid']} is called '{guest['name']}' by now, which is not among {names}; nothing "
                "was done to it."
            )
        row = {**guest, "tags": ";".join(guest["tags"]), "status": guest["qmpstatus"] or guest["status"]}
        # Only the cluster's list knows pools.
        missed = [one for option, one in self.selectors.items() if option != "pools" and not one.meets(row)]
        if not missed:
            return None
        why = "; ".join(f"{one} (now: {', '.join(values_of(row, one.key)) or 'none'})" for one in missed)
        return f"Nothing was done to it, for it does not match {why}."


@dataclass(frozen=True)
class Chosen:
    """The guests that are meant, by VMID, and what the user should know of the choice. :param selection: as it was compared."""

    guests: tuple[Guest, ...]
    selection: Selection
    warnings: tuple[str, ...] = ()


def wanted(options: Mapping[str, Any]) -> Selection | None:
    """Return which guests the module options mean; None for a single one. Refused where they contradict each other."""
    if all(options.get(option) is None for option in SELECTORS):
        idle = [option for option in _OF_SEVERAL if options.get(option) not in (None, False)]
        if idle:
            raise Refused(f"{', '.join(idle)}: for several guests only, that is with one of {', '.join(SELECTORS)}.")
        return None
    most = options.get("max_guests")
    if most is not None and most < 1:
        raise Refused(f"max_guests is {most}; it must be 1 or more.")
    selectors = {
        option: _selector(option, key, options[option])
        for option, key in _CRITERIA.items()
        if options.get(option) is not None
    }
    return Selection(selectors, bool(options.get("allow_none")), most)


def _selector(option: str, key: str, value: Any) -> Selector:
    """Return the selector; of tags a guest must have all, of anything else it has one only."""
    several = value if isinstance(value, list) else [value]
    texts = tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in several)
    groups: list[tuple[str, ...]] = [(text,) for text in texts] if key == "tags" and texts else [texts]
    return Selector(option, tuple(one for group in groups for one in criteria(option, {key: group})), texts)


def select(reader: Reader, selection: Selection) -> Chosen:
    """Return the guests that are meant; Refused for none and for too many.

    One request, one more where case in tags may matter, and where the state counts two for each node with guests that may be meant;
    one more, and two for each node that they are on by then, where guests were not found there.
    """
    found = [row for row in reader.get("/cluster/resources", type="vm") if row["type"] in KINDS]
    rows = sorted(found, key=lambda row: int(row["vmid"]))
    selectors = dict(selection.selectors)
    if "with_tags" in selectors:
        selectors["with_tags"] = _as_the_server_compares(reader, selectors["with_tags"], rows)
    names, status = selectors.get("names"), selectors.get("status")
    met = [row for row in rows if _meets(row, [one for one in selectors.values() if one not in (names, status)])]
    if names is not None:
        met = _named(reader, met)
    _check_exact(selection, rows + met)
    met = [row for row in met if _meets(row, [names] if names is not None else [])]
    templates = [] if "template" in selectors else [row for row in met if _is_template_in_passing(row, selectors)]
    met = [row for row in met if row not in templates]
    warnings: list[str] = []
    stateless = met
    if status is not None:
        stateless = list(_with_states(reader, met, warnings))
        met = [
            row for row in stateless if _meets(row, [selectors[one] for one in ("status", "nodes") if one in selectors])
        ]
    guests = sorted(map(from_resource, met), key=lambda guest: guest.vmid)
    if not guests and not selection.allow_none:
        why = "; ".join(_why_none(selectors.values(), rows, stateless, templates, warnings))
        raise Refused(
            f"No guest is meant, of {len(rows)} that the credentials may see (VM.Audit on /vms/VMID): {why}. Set allow_none: true "
            "where that is fine."
        )
    if selection.most is not None and len(guests) > selection.most:
        raise Refused(
            f"{len(guests)} guests are meant, more than max_guests ({selection.most}), so nothing was done: "
            f"{_shown(map(label, guests))}."
        )
    return Chosen(tuple(guests), replace(selection, selectors=selectors), tuple(warnings))


def label(guest: Guest) -> str:
    """Return what messages call a guest of several: VM 101 (web01)."""
    return f"{guest} ({guest.name})" if guest.name else str(guest)


def _meets(row: Row, selectors: Iterable[Selector]) -> bool:
    return all(one.meets(row) for one in selectors)


def _as_the_server_compares(reader: Reader, tags: Selector, rows: Sequence[Row]) -> Selector:
    """Return the selector of tags; case means nothing there unless the datacenter keeps it, asked for only where there is any."""
    known = {tag for row in rows for tag in values_of(row, "tags")}
    if all(text == text.lower() for text in (*tags.texts, *known)) or keeps_case(reader):
        return tags
    return replace(tags, all_of=tuple(map(ignoring_case, tags.all_of)))


def _named(reader: Reader, rows: Sequence[Row]) -> list[Row]:
    """Return the rows, of fresh guests with their own names."""
    names = {guest.vmid: guest.name for guest in with_names(reader, [from_resource(row) for row in rows], hung=True)}
    return [{**row, "name": names.get(int(row["vmid"]))} for row in rows]


def _with_states(reader: Reader, rows: Sequence[Row], warnings: list[str]) -> Iterator[Row]:
    """Yield the rows with the nodes, states and names of now; guests that nobody can tell of are left out, with a warning.

    A guest that moves meanwhile may be in no list, or in two of which the later one counts.
    """
    places = {int(row["vmid"]): str(row["node"]) for row in rows}
    told, silent = answered_rows(reader, set(places.values()), full=True)
    live = {int(row["vmid"]): row for row in told}
    if any(vmid not in live and node not in silent for vmid, node in places.items()):
        places = {guest.vmid: guest.node for guest in every_guest(reader) if guest.vmid in places}
        told, more = answered_rows(
            reader, {places[vmid] for vmid in places.keys() - live.keys()} - silent.keys(), full=True
        )
        live.update((int(row["vmid"]), row) for row in told)
        silent.update(more)
    untold = [row for row in rows if int(row["vmid"]) not in live]
    for node, error in silent.items():
        if here := [row for row in untold if places.get(int(row["vmid"])) == node]:
            warnings.append(
                f"Node {node} cannot be asked for the states of its guests, so these are not among the guests that are meant: "
                f"{_shown(label(from_resource(row)) for row in here)}. {error.message}"
            )
    if lost := [row for row in untold if places.get(int(row["vmid"])) not in silent]:
        warnings.append(
            "These are gone, or move at this moment, so they are not among the guests that are meant: "
            f"{_shown(label(from_resource(row)) for row in lost)}."
        )
    for row in rows:
        if (one := live.get(int(row["vmid"]))) is not None:
            status = one.get("qmpstatus") or one.get("status")
            yield {**row, "node": one["node"], "name": one.get("name"), "status": status}


def _is_template_in_passing(row: Row, selectors: Mapping[str, Selector]) -> bool:
    """Tell whether the guest is a template that nobody has named: it cannot do what guests are wanted to do."""
    return is_true(row.get("template")) and "vmids" not in selectors


def _check_exact(selection: Selection, rows: Sequence[Row]) -> None:
    """Raise Refused for VMIDs and names, not patterns, that are nobody's: most likely a slip of the pen."""
    if selection.allow_none:
        return
    known = {"vmids": {str(row["vmid"]) for row in rows}, "names": {guest_name(row) for row in rows}}
    for option, values in known.items():
        selector = selection.selectors.get(option)
        absent = (
            [text for text in selector.texts if not _PATTERN.search(text) and text not in values] if selector else []
        )
        if absent:
            raise Refused(
                f"{option}: there is no guest {_shown(absent)}{_like(absent, values)}, or the credentials may not see it (VM.Audit "
                "on /vms/VMID); nothing was done to the others. Set allow_none: true where that is fine."
            )


def _why_none(
    selectors: Iterable[Selector],
    rows: Sequence[Row],
    stateless: Sequence[Row],
    templates: Sequence[Row],
    warnings: Sequence[str],
) -> Iterator[str]:
    """Yield why no guest meets the selectors, as near as can be told.

    :param stateless: guests that meet all selectors but the state. :param templates: those that were left out for being one.
    """
    alone = {one: [row for row in rows if one.meets(row)] for one in selectors if one.option != "status"}
    nobody = [one for one, met in alone.items() if not met]
    for one in nobody:
        known = {value for row in rows for value in values_of(row, one.key)}
        unseen = ", in a pool that the credentials may see (Pool.Audit on /pool/POOL)" if one.option == "pools" else ""
        yield f"none with {one}{_like(one.texts, known)}{unseen}"
    status = [one for one in selectors if one.option == "status"]
    if not nobody and status and stateless:
        known = {value for row in stateless for value in values_of(row, "status")}
        yield f"none with {status[0]} of {len(stateless)} that would be meant otherwise{_like(status[0].texts, known)}"
    elif not nobody and not templates and not warnings:
        yield "none with all of " + "; ".join(f"{one} (met by {len(met)})" for one, met in alone.items())
    if templates and not stateless:
        yield f"templates are meant only with template: true or by vmids ({_shown(label(from_resource(row)) for row in templates)})"
    yield from (text.rstrip(".") for text in warnings)


def _like(texts: Iterable[str], known: Iterable[str]) -> str:
    """Return which values there are, in parentheses: those that look alike, or the first."""
    known = sorted(known)
    words = [text for text in texts if not text.isdigit()][:_SHOWN]
    return did_you_mean(words, known) or (f" (there are: {_shown(known)})" if known else "")


def _shown(values: Iterable[str]) -> str:
    """Return the first of the values."""
    several = list(values)
    rest = len(several) - _SHOWN
    return ", ".join(several[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
