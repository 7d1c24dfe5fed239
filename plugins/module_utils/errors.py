# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong, and what each failure has done to the server."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence


class Effect(enum.Enum):
    """What a failure left behind on the server: it decides what to do next, the status code does not."""

    NOT_EXECUTED = "not executed"
    """The server did not begin: it can be sent again."""
    CONTENDED = "refused for now"
    """Somebody else holds a lock: it can be sent again, later."""
    AMBIGUOUS = "perhaps executed"
    """Nobody knows: look before anything is sent again."""
    STALE = "the state has changed since it was looked at"
    """Looked at too early: look again, plan again."""
    ABSENT = "does not exist there"
    """The guest is not on this node: find it again."""
    PERMANENT = "refused"
    """Sending it again gives the same answer."""


class ProxmoxError(Exception):
    """The one error that this collection raises.

    :param message: what was wanted, what was found and what to do, for people.
    :param effect: what has happened on the server.
    :param status: HTTP status, where there was an answer.
    :param request: method and path of the request, ``GET /version``.
    :param upid: the server's task, where one failed or goes on.
    :param log: the last lines of that task's log.
    :ivar since: when a call was sent whose answer is lost, in seconds since the epoch by the server's clock.
    """

    def __init__(
        self,
        message: str,
        *,
        effect: Effect = Effect.PERMANENT,
        status: int | None = None,
        request: str | None = None,
        upid: str | None = None,
        log: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.effect = effect
        self.status = status
        self.request = request
        self.upid = upid
        self.log = tuple(log)
        self.since: int | None = None

    def details(self) -> dict[str, object]:
        """Return what a failed result shows beside its message; what is not known is left out."""
        known = {"status": self.status, "request": self.request, "upid": self.upid, "log": list(self.log) or None}
        return {key: value for key, value in known.items() if value is not None}


def unreachable(error: ProxmoxError) -> bool:
    """Tell whether a read failed for want of any answer: the node is down (595), or it hangs (596, or longer than was waited for).

    One whose workers are all busy looks as if it hangs (PVE/APIServer/AnyEvent.pm) and may answer later.
    """
    return error.status in (595, 596) or (error.status is None and error.effect is Effect.AMBIGUOUS)


class Refused(ProxmoxError):
    """What the play's task wants cannot be done to what is there; nothing was sent for it."""


def no_such_node(node: str, nodes: Iterable[str]) -> Refused:
    """Return the error for a node that is none of the cluster's."""
    return Refused(f"There is no node '{node}' in this cluster; its nodes are {', '.join(sorted(nodes))}.")


class TimedOut(ProxmoxError):
    """The play's task waited as long as it may or can; what runs on the server goes on."""
