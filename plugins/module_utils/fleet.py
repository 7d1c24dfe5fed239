# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fleets: several guests in one play's task, so many at a time, each worked on and reported as if it were the only one."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from .client import CONNECTIONS, Client
from .errors import ProxmoxError, Refused, unreachable
from .guests import Guest, GuestRef
from .plan import Call, Feature, Pace, Plan, Reader
from .redact import harmless, printable, redact
from .selection import Chosen, Selection, label, select
from .selection import wanted as wanted_selection

# The failures that the message of a fleet tells in full.
TOLD = 5


class Reported(Protocol):
    """What was done with one guest; see module.Report."""

    @property
    def error(self) -> ProxmoxError | None: ...

    @property
    def details(self) -> Mapping[str, Any] | None: ...

    def presented(self, secrets: Sequence[str] = ()) -> dict[str, Any]: ...


One = TypeVar("One", bound=Reported)


@dataclass(frozen=True)
class FleetReport:
    """What was done with each guest. :param warnings: of the choice of the guests."""

    guests: Sequence[Guest]
    reports: Sequence[Reported]
    warnings: Sequence[str] = ()

    @property
    def error(self) -> ProxmoxError | None:
        """The first failure there is."""
        return next((report.error for report in self.reports if report.error is not None), None)

    def presented(self, secrets: Sequence[str] = ()) -> dict[str, Any]:
        """Return the result of the play's task as people may see it: that of each guest, and all of them together."""
        names = [printable(redact(label(guest), secrets)) for guest in self.guests]
        results = [
            {
                "guest": harmless(redact(guest.shown(), secrets)),
                **report.presented(secrets),
                "failed": bool(report.error),
            }
            for guest, report in zip(self.guests, self.reports, strict=True)
        ]
        named = list(zip(names, results, strict=True))
        result: dict[str, Any] = {
            "changed": any(one["changed"] for one in results),
            "calls": [call for one in results for call in one["calls"]],
            "tasks": [upid for one in results for upid in one["tasks"]],
            "diff": [
                {**one["diff"], "before_header": name, "after_header": name} for name, one in named if "diff" in one
            ],
            "results": results,
            "warnings": [
                *(printable(redact(text, secrets)) for text in self.warnings),
                *(f"{name}: {text}" for name, one in named for text in one["warnings"]),
            ],
        }
        failed = [(name, one) for name, one in named if one["failed"]]
        if failed:
            told = [f"{name}: {one['msg']}" for name, one in failed[:TOLD]]
            rest = [name for name, _one in failed[TOLD:]]
            also = [f"And {', '.join(rest)}; see results."] if rest else []
            result["msg"] = " ".join([f"{len(failed)} of {_count(results)} failed.", *told, *also])
            result.update(
                {key: failed[0][1][key] for key in ("status", "request", "upid", "log") if key in failed[0][1]}
            )
        return result


def _count(guests: Sequence[object]) -> str:
    return "1 guest" if len(guests) == 1 else f"{len(guests)} guests"


@dataclass(frozen=True)
class Fleet:
    """Which guests are meant. :param parallel: how many are worked on at a time, and :param per_node: load the same node."""

    selection: Selection
    pace: Pace
    parallel: int
    per_node: int | None


def fleet_of(feature: Feature[Any, Any], options: Mapping[str, Any]) -> Fleet | None:
    """Return the fleet that the module options mean, None for a single guest; Refused for options that contradict each other."""
    selection = wanted_selection(options) if feature.pace is not None else None
    if feature.pace is None or selection is None:
        return None
    for option in ("parallel", "parallel_per_node"):
        if options.get(option) is not None and not 1 <= options[option] <= CONNECTIONS:
            raise Refused(f"{option} is {options[option]}; it can be 1 to {CONNECTIONS}.")
    per_node = options.get("parallel_per_node") or feature.pace.per_node
    return Fleet(selection, feature.pace, options["parallel"], per_node)


def bring_each(
    fleet: Fleet,
    feature: Feature[Any, Any],
    wanted: Any,
    client: Client,
    bring: Callable[[Feature[Any, Any], Any], Reported],
) -> FleetReport:
    """Bring about what is wanted of every guest that is meant; raises ProxmoxError where the guests cannot be told.

    :param wanted: for one guest, whose field `guest` is replaced. :param bring: does so, with the errors in its report.
    """
    chosen = _chosen(fleet.selection, bring)
    decide_one = feature.decide
    if decide_one is None:
        raise AssertionError("what only looks takes no fleets")
    down: dict[str, tuple[Guest, ProxmoxError]] = {}
    unwelcome: list[ProxmoxError] = []

    def observe(want: Any, reader: Reader, previous: Any) -> Any:
        if previous is not None:
            return feature.observe(want, reader, previous)
        if unwelcome:
            raise unwelcome[0]
        if want.guest.node in down:
            first, why = down[want.guest.node]
            raise ProxmoxError(
                f"Node {first.node} cannot be reached, as was seen with {label(first)}, so nothing was asked or done here.",
                status=why.status,
                request=why.request,
            )
        return feature.observe(want, reader, previous)

    def decide(want: Any, observed: Any, done: Sequence[Call]) -> Plan:
        # What was done here already may itself be why the guest does not match any more.
        astray = None if done else chosen.selection.confirm(feature.result(want, observed))
        return decide_one(want, observed, done) if astray is None else Plan(warnings=(astray,))

    checked = replace(feature, observe=observe, decide=decide)

    def bring_one(guest: Guest) -> Reported:
        ref = GuestRef(guest.vmid, node=guest.node, kind=guest.kind, pool=guest.pool)
        report = bring(checked, replace(wanted, guest=ref))
        error = report.error
        if error is not None and _is_of_node(error, guest):
            # Each that is asked after costs the time until the node is given up.
            down.setdefault(guest.node, (guest, error))
        if error is not None and error.status == 401:
            # Each request costs the server three seconds, and too many may cost the user the account.
            unwelcome.append(error)
        return report

    return FleetReport(
        chosen.guests,
        work(
            chosen.guests,
            bring_one,
            parallel=1 if fleet.pace.in_turn(wanted) else fleet.parallel,
            per_node=fleet.per_node,
            nodes=fleet.pace.nodes(wanted),
            halt=client.halt,
        ),
        chosen.warnings,
    )


def _is_of_node(error: ProxmoxError, guest: Guest) -> bool:
    """Tell whether no guest of that node can be worked on; what else is asked of it may take long for reasons of its own."""
    request = error.request or ""
    if error.status == 595:
        return f"/nodes/{guest.node}/" in request
    return unreachable(error) and request == f"GET {guest.path}/status/current"


def _chosen(selection: Selection, bring: Callable[[Feature[Any, Any], Any], Reported]) -> Chosen:
    """Return the guests that are meant, looked for as patiently as for anything else; raises ProxmoxError."""
    looking: Feature[Selection, Chosen] = Feature(
        wanted=lambda _options: selection,
        observe=lambda want, reader, _previous: select(reader, want),
        decide=None,
        result=lambda _want, chosen: {"chosen": chosen},
    )
    report = bring(looking, selection)
    if report.error is not None:
        raise report.error
    chosen: Chosen = (report.details or {})["chosen"]
    return chosen


def work(
    guests: Sequence[Guest],
    bring: Callable[[Guest], One],
    *,
    parallel: int,
    per_node: int | None,
    nodes: Iterable[str],
    halt: Callable[[], None],
) -> list[One]:
    """Return what came of each guest, in the same order.

    :param bring: works on one guest; in threads of its own, unless it is one at a time.
    :param per_node: how many at a time load the same node. :param nodes: what each loads beside the one that it is on.
    :param halt: makes whatever is under way end soon; called when the user interrupts.
    """
    if parallel == 1:
        return [bring(guest) for guest in guests]
    also = frozenset(nodes)
    done: dict[int, One] = {}
    running: dict[Future[One], Guest] = {}
    load: Counter[str] = Counter()
    waiting: dict[str, deque[tuple[int, Guest]]] = {}
    for place, guest in enumerate(guests):
        waiting.setdefault(guest.node, deque()).append((place, guest))

    def next_one() -> Guest | None:
        """Return the first guest whose nodes can bear one more."""
        free = [
            queue
            for node, queue in waiting.items()
            if queue and (per_node is None or all(load[place] < per_node for place in also | {node}))
        ]
        return min(free, key=lambda queue: queue[0][0]).popleft()[1] if free else None

    pool = ThreadPoolExecutor(max_workers=parallel)
    try:
        while any(waiting.values()) or running:
            while len(running) < parallel and (one := next_one()) is not None:
                load.update(also | {one.node})
                running[pool.submit(bring, one)] = one
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                guest = running.pop(future)
                load.subtract(also | {guest.node})
                done[guest.vmid] = future.result()
    except BaseException:
        halt()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return [done[guest.vmid] for guest in guests]
