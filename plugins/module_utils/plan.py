# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans: what stands between the observed and the wanted state, as frozen data.

A plan is what ``--check`` foretells and what a run does; there is no second description of the deed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

MASK = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


@dataclass(frozen=True)
class Call:
    """One writing request.

    :param params: query parameters of a DELETE, body of anything else; booleans are sent as 0 and 1, lists as repeated keys.
    :param summary: what it does, for people: ``start VM 100``.
    :param task: type and id of the task that the server starts for it (``("qmstart", "100")``), by which it is found
        again when the answer is lost; None where the server starts none or where others start the same.
    :param secret: names of the parameters that nobody may see.
    :param upload: path of a local file that is sent along, under the name that the parameter ``filename`` gives it.
    :param once: it leaves no trace by which one could see whether it was done: when its answer is lost it is not sent again, and
        the run ends with that.
    """

    method: str
    path: str
    params: Mapping[str, object] = field(default_factory=dict)
    summary: str = ""
    task: tuple[str, str] | None = None
    secret: frozenset[str] = frozenset()
    upload: str | None = None
    once: bool = False

    def shown(self) -> dict[str, object]:
        """Return the call as a result shows it, secrets masked."""
        params = {key: MASK if key in self.secret else value for key, value in self.params.items()}
        return {"method": self.method, "path": self.path, "params": params, "summary": self.summary}

    def same_deed(self, other: Call) -> bool:
        """Tell whether both ask for the same; a digest says what was read, not what is wanted."""

        def deed(call: Call) -> tuple[str, str, dict[str, object]]:
            return call.method, call.path, {key: value for key, value in call.params.items() if key != "digest"}

        return deed(self) == deed(other)


@dataclass(frozen=True)
class Plan:
    """The way from the observed to the wanted state.

    :param before: the observed state, only what the play's task names or this plan touches.
    :param after: the same keys as they are to be.
    :param calls: what to send, in order. Only the first is sent before the server is looked at again; the others foretell.
    :param waiting: what must happen first, by somebody else's doing, for people; until then nothing is sent.
    :param warnings: what the user should know although nothing failed.
    :param pause: seconds that must at least pass before the next look while waiting, for looks that cost the server much.
    :param failure: why the play's task has failed although nothing is left to do.
    :param foretold: what the result holds in check mode in place of what only the deed would tell.
    """

    before: Mapping[str, object] = field(default_factory=dict)
    after: Mapping[str, object] = field(default_factory=dict)
    calls: Sequence[Call] = ()
    waiting: str | None = None
    warnings: Sequence[str] = ()
    pause: float = 0.0
    failure: str | None = None
    foretold: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What came of a call.

    :param data: the server's answer. :param upid: its task, and :param warnings: those of that task's log.
    :param adopted: the answer was lost, and the task was found by its type and id; somebody else may have started it.
    """

    data: object = None
    upid: str | None = None
    warnings: tuple[str, ...] = ()
    adopted: bool = False


class Reader(Protocol):
    """Whoever holds one can look, and nothing else."""

    @property
    def server_time(self) -> int | None:
        """The server's clock at its last answer, in seconds since the epoch; None before the first."""

    def get(self, path: str, /, **query: object) -> Any:
        """Return the ``data`` of GET path; raises ProxmoxError."""


Wanted = TypeVar("Wanted")
Observed = TypeVar("Observed")


@dataclass(frozen=True)
class Pace:
    """How a fleet of guests is worked on; whatever is wanted has a field `guest`, a guests.GuestRef.

    :param per_node: how many at a time load one node, where the play's task does not say; None for as many as it has at a time.
    :param nodes: what is wanted -> nodes that are loaded beside the guest's own.
    :param in_turn: what is wanted -> whether each must see what became of the one before.
    """

    per_node: int | None = None
    nodes: Callable[[Any], Sequence[str]] = lambda _wanted: ()
    in_turn: Callable[[Any], bool] = lambda _wanted: False


@dataclass(frozen=True)
class Feature(Generic[Wanted, Observed]):
    """One thing that a module brings about.

    :param wanted: module options -> what is wanted; raises Refused for options that contradict each other.
    :param observe: asks, never writes. Gets what it returned the last time in this run, so that it need not search again.
    :param decide: pure. Gets the calls that this run has sent already, for deeds that leave no trace (a restart). None for what
        only looks: there is nothing to bring about, and the result speaks of no calls.
    :param result: what the module returns beside changed, diff, calls, tasks and warnings.
    :param pace: of fleets; None where the module takes one guest only.
    :param answered: what was observed and the answer to a call (None: it was lost) -> what is observed with it; raises ProxmoxError
        for an answer that is a refusal. Left out where answers tell nothing that could not be looked up.
    """

    wanted: Callable[[Mapping[str, Any]], Wanted]
    observe: Callable[[Wanted, Reader, Observed | None], Observed]
    decide: Callable[[Wanted, Observed, Sequence[Call]], Plan] | None
    result: Callable[[Wanted, Observed], Mapping[str, object]]
    pace: Pace | None = None
    answered: Callable[[Observed, Outcome | None], Observed] | None = None
