# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The client: reads that may be repeated, writes that never are, and the task behind a write."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import tasks
from .auth import Password, Token, credentials
from .clock import Clock, MonotonicClock, pauses
from .errors import Effect, ProxmoxError, TimedOut
from .plan import Call, Outcome
from .progress import Due, Progress, Watch, transferred
from .shapes import flaw, shape_of
from .transport import Answer, Endpoint, Transport, Upload, failure
from .wire import Upid, parse_upid

READ_ATTEMPTS = 4
# A read that failed as slowly as that is not repeated here; whoever asked knows better how long it may take.
QUICK_SECONDS = 5.0
# Connections that are kept for threads; a fleet has as many guests at a time at most.
CONNECTIONS = 64
_REPEATABLE = frozenset({Effect.NOT_EXECUTED, Effect.AMBIGUOUS, Effect.CONTENDED})
_NODE = re.compile(r"^/nodes/([^/]+)/")


class Client:
    """Talks to one cluster; a plan.Reader that can also send. Threads may share it.

    :ivar watch: who is told of tasks that take long.
    """

    def __init__(self, transport: Transport, auth: Token | Password, clock: Clock) -> None:
        self._transport = transport
        self._auth = auth
        self._clock = clock
        self._server_time: int | None = None
        self._known_tasks: set[str] = set()
        self.watch: Watch | None = None
        self._halted = False

    @property
    def server_time(self) -> int | None:
        """The server's clock at its last answer, in seconds since the epoch; None before the first."""
        return self._server_time

    def get(self, path: str, /, **query: object) -> Any:
        """Return the data of GET path. Reading again does no harm, so what failed quickly and may pass is tried again."""
        request = f"GET {path}"
        began = self._clock.now()
        for attempt, pause in enumerate(pauses(0.1, 2.0), start=1):
            try:
                data = self._checked("GET", path, query, request).data
                wrong = flaw(shape_of(path), data)
                if wrong is not None:
                    raise ProxmoxError(
                        f"{request}: the answer is not that of a Proxmox VE server: {wrong}.", request=request
                    )
                return data
            except ProxmoxError as error:
                slow = self._clock.now() - began >= QUICK_SECONDS
                if error.effect not in _REPEATABLE or attempt == READ_ATTEMPTS or slow:
                    raise
            self._clock.sleep(pause)
        raise AssertionError("pauses never end")

    def send(self, call: Call, *, deadline: float, wait: bool = True, since: int | None = None) -> Outcome:
        """Send a writing request once, and wait for the task that it starts.

        A write whose answer is lost is never sent again from here: its task is searched and adopted.

        :param deadline: by the clock, when to stop waiting for the task.
        :param wait: False returns with the UPID as soon as the task has started.
        :param since: of the error, where the same call was sent before and its answer was lost; None where it was not.
        :raises ProxmoxError: AMBIGUOUS where no task was found for a lost answer; the caller must look at the state.
        :raises TimedOut: the task still runs at the deadline, or cannot be asked after any more.
        """
        request = f"{call.method} {call.path}"
        # A request that a proxy has given up stays in the queue of the node's workers (PVE/APIServer/AnyEvent.pm). Whoever sends it
        # again has looked at the guest through the same queue, so that by now it has had its turn.
        upid = self._task_of(call, since, (0.0,))
        now = self._server_time
        adopted = upid is not None
        data: Any = upid.text if upid is not None else None
        try:
            if upid is None:
                data = self._checked(call.method, call.path, call.params, request, self._upload(call)).data
                upid = parse_upid(data)
        except ProxmoxError as error:
            upid = self._task_of(call, now, tasks.LOOKUP_SECONDS) if error.effect is Effect.AMBIGUOUS else None
            if upid is None:
                error.since = now if since is None else since
                raise
            data, adopted = upid.text, True
        if upid is None and call.task is not None and data == "OK":
            # The guest is on another node, so nothing was begun (PVE/API2/VZDump.pm).
            raise ProxmoxError(
                f"{request}: the server has nothing to do there, for the guest is not on that node.",
                effect=Effect.ABSENT,
                status=200,
                request=request,
            )
        if upid is None:
            return Outcome(data)
        self._known_tasks.add(upid.text)
        if not wait:
            return Outcome(data, upid.text, adopted=adopted)
        try:
            outcome = tasks.wait(self.get, upid, deadline, self._clock, what=call.summary, watch=self.watch)
            return replace(outcome, adopted=adopted)
        except ProxmoxError as error:
            if error.upid is None:
                # It was the question that failed, not the task.
                raise TimedOut(
                    f"{error.message} The server's task was begun and left alone: {upid.text}.",
                    effect=Effect.AMBIGUOUS,
                    status=error.status,
                    request=error.request,
                    upid=upid.text,
                ) from error
            error.request = request
            raise

    def wait_for(self, upid: str, *, deadline: float) -> Outcome:
        """Wait for a task that is known by its UPID; see tasks.wait."""
        parsed = parse_upid(upid)
        if parsed is None:
            raise ProxmoxError(f"'{upid}' is not the UPID of a task.")
        return tasks.wait(self.get, parsed, deadline, self._clock, watch=self.watch)

    def halt(self) -> None:
        """Let nothing be asked or sent any more: whoever tries, in whatever thread, gets TimedOut."""
        self._halted = True

    def close(self) -> None:
        self._transport.close()

    def _task_of(self, call: Call, since: int | None, looks: Sequence[float]) -> Upid | None:
        """Return the task of a call whose answer was lost; see tasks.find."""
        node = _NODE.match(call.path)
        if call.task is None or node is None or since is None:
            return None
        return tasks.find(
            self.get, node[1], *call.task, since=since, known=self._known_tasks, clock=self._clock, looks=looks
        )

    def _upload(self, call: Call) -> Upload | None:
        """Return the file that goes along with a call; whoever watches is told how much of it is sent."""
        if call.upload is None or self.watch is None:
            return Upload(call.upload) if call.upload is not None else None
        watch, due, began = self.watch, Due(), self._clock.now()

        def sent(done: int, total: int) -> None:
            seconds = self._clock.now() - began
            if due.at(seconds):
                watch(Progress(call.summary, seconds, (transferred(done, total),)))

        return Upload(call.upload, sent)

    def _checked(
        self, method: str, path: str, params: Mapping[str, object], request: str, upload: Upload | None = None
    ) -> Answer:
        answer, headers = self._answer(method, path, params, upload)
        if answer.status == 401 and self._auth.renew(headers):
            answer, headers = self._answer(method, path, params, upload)
        if answer.server_time is not None:
            self._server_time = answer.server_time
        if answer.status == 401:
            raise ProxmoxError(
                f"The server refused the credentials of {self._auth} (401 {answer.text}). Check the secret, its expiry, and that "
                "user and realm exist.",
                status=401,
                request=request,
            )
        if answer.status >= 400:
            raise failure(answer, request)
        return answer

    def _answer(
        self, method: str, path: str, params: Mapping[str, object], upload: Upload | None
    ) -> tuple[Answer, Mapping[str, str]]:
        """Return the answer, and the credentials that it is an answer to."""
        if self._halted:
            raise TimedOut("The run was interrupted, so nothing more is asked or sent.")
        headers = self._auth.headers(method, self._transport.request)
        return self._transport.request(method, path, params, headers, upload), headers


def connect(options: Mapping[str, Any], clock: Clock | None = None, *, connections: int = CONNECTIONS) -> Client:
    """Return a client for the connection options of modules and inventory; raises ProxmoxError where they are not enough.

    :param connections: how many are kept for threads that read side by side.
    """
    clock = clock or MonotonicClock()
    hosts = tuple(host.strip() for host in options.get("api_host") or () if host.strip())
    if not hosts:
        raise ProxmoxError("No api_host: name a node of the cluster, or set PROXMOX_HOST.")
    if not 0 < float(options["api_timeout"]) < math.inf:
        raise ProxmoxError(f"api_timeout is {options['api_timeout']}; it must be a number of seconds above 0.")
    endpoint = Endpoint(
        hosts=hosts,
        port=options["api_port"],
        validate_certs=options["validate_certs"],
        ca_path=options.get("ca_path") or None,
        # An empty one would be no fingerprint to check, and yet the reason to check nothing else.
        fingerprint=options.get("api_fingerprint") or None,
        timeout=float(options["api_timeout"]),
    )
    auth = credentials(
        options.get("api_user"),
        options.get("api_password"),
        options.get("api_otp"),
        options.get("api_token_id"),
        options.get("api_token_secret"),
        clock,
    )
    return Client(Transport(endpoint, connections=connections), auth, clock)
