# Copyright: Contributors to keel.proxmox
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shell: observe, decide, apply, until nothing is left to decide; and Ansible around it."""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from ansible.module_utils.basic import AnsibleModule

from .argspec import AUTH
from .auth import unused
from .client import Client, connect
from .clock import Clock, MonotonicClock, pause_after, pauses
from .errors import Effect, ProxmoxError, Refused, TimedOut
from .fleet import Fleet, FleetReport, bring_each, fleet_of
from .plan import Call, Feature, Outcome, Plan, Reader
from .progress import Due, Progress, Watch
from .redact import harmless, printable, redact
from .transport import REQUESTS_MISSING, default_tls_context

# Whether this Python can talk to a server at all.
REQUESTS_HERE = REQUESTS_MISSING is None

Wanted = TypeVar("Wanted")
Observed = TypeVar("Observed")

# How long a module without a timeout of its own looks again after what may pass.
LOOK_SECONDS = 60.0

# Between looks at what others must do first: a look is up to four requests, and nobody's task is told its end by it.
WAITING_PAUSE_SECONDS = 1.0

# How often a run looks and plans again after a write that ended like that; a lock is waited for until the deadline.
ATTEMPTS = {
    Effect.NOT_EXECUTED: 5,
    Effect.CONTENDED: 1000,
    Effect.AMBIGUOUS: 4,
    Effect.STALE: 10,
    Effect.ABSENT: 5,
    Effect.PERMANENT: 1,
}


class Sender(Reader, Protocol):
    """Whoever holds one can change the server: only reconcile does."""

    def send(self, call: Call, *, deadline: float, wait: bool = True, since: int | None = None) -> Outcome:
        """Send the call; see client.Client.send."""


@dataclass(frozen=True)
class Report:
    """What a run did, or in check mode would do.

    :param calls: calls that were sent and took effect, or are foretold.
    :param before: the state at first. :param after: the state at last, in check mode the foretold one.
    :param details: what the feature returns.
    :param adopted: the last of the calls, where its answer was lost and a task was found that may be somebody else's.
    :param error: why the run ended early. :param unsure: a call of which nobody knows whether it was done.
    :param looks_only: there can be no calls, so the result does not speak of them.
    """

    calls: tuple[Call, ...] = ()
    tasks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    details: Mapping[str, object] | None = None
    adopted: Call | None = None
    error: ProxmoxError | None = None
    unsure: Call | None = None
    looks_only: bool = False

    def presented(self, secrets: Sequence[str] = ()) -> dict[str, Any]:
        """Return the result of the play's task and its warnings as people may see them: without secrets, messages printable."""
        result: dict[str, Any] = redact({**self.shown(), "warnings": self.warnings}, secrets)
        texts: dict[str, Any] = {key: result.pop(key) for key in ("msg", "request", "log", "warnings") if key in result}
        result = {**harmless(result), **texts}
        for call in result.get("calls", ()):
            call["summary"] = printable(call["summary"])
        for key in ("msg", "request"):
            if key in result:
                result[key] = printable(result[key])
        for key in ("log", "warnings"):
            result[key] = [printable(text) for text in result.get(key, ())]
        return result if result["log"] else {key: value for key, value in result.items() if key != "log"}

    def shown(self) -> dict[str, Any]:
        """Return the result as it is."""
        result: dict[str, Any] = {"changed": bool(self.calls) or self.unsure is not None}
        if not self.looks_only:
            result.update(calls=[call.shown() for call in self.calls], tasks=list(self.tasks))
        result.update(self.details or {})
        if self.before is not None and self.after is not None:
            result["diff"] = {"before": dict(self.before), "after": dict(self.after)}
        if self.error is not None:
            result.update(self.error.details(), msg=self._told(self.error))
        return result

    def _told(self, error: ProxmoxError) -> str:
        """Return the message of a failure, with what was done before it."""
        told = error.message if error.message.endswith((".", "!", "?")) else f"{error.message}."
        if self.unsure is not None:
            way = "look there before it is done again" if self.unsure.once else "run this play's task again to see"
            told += f" Whether this was done is not known: {self.unsure.summary}; {way}."
        if self.calls:
            told += f" Done before that: {'; '.join(call.summary for call in self.calls)}."
        return told


def reconcile(
    feature: Feature[Wanted, Observed],
    wanted: Wanted,
    client: Sender,
    clock: Clock,
    *,
    check_mode: bool,
    timeout: float,
    wait: bool = True,
    watch: Watch | None = None,
) -> Report:
    """Bring about what is wanted and return what that took; errors of the server are in the report.

    After each write the server is looked at again, so that each is planned on what is there. A write that others got ahead
    of, that was refused for now, or whose answer was lost, is answered the same way: look, and plan again.

    :param timeout: seconds for everything together.
    :param watch: who is told what is waited for.
    :param wait: False returns when the last task has started.
    """
    deadline = clock.now() + timeout
    report = Report(looks_only=feature.decide is None)
    observed: Observed | None = None
    failures: Counter[Effect] = Counter()
    waiting = _Waiting("", clock.now())
    refused = pauses(0.2, 5.0)
    lost: Call | None = None
    since: int | None = None
    while True:
        try:
            observed = feature.observe(wanted, client, observed)
            if feature.decide is None:
                return replace(report, details=feature.result(wanted, observed))
            plan = feature.decide(wanted, observed, report.calls)
            if lost is not None and not (plan.calls and plan.calls[0].same_deed(lost)):
                # Its answer was lost, and it is not wanted any more: it was done, and what is left follows from that.
                report, lost = replace(report, calls=(*report.calls, lost)), None
                plan = feature.decide(wanted, observed, report.calls)
            report = _seen(report, plan, feature.result(wanted, observed))
            failed = Refused(plan.failure) if plan.failure is not None else None
            if check_mode:
                details = {**(report.details or {}), **plan.foretold}
                return replace(report, calls=tuple(plan.calls), after=plan.after, details=details, error=failed)
            if plan.waiting is not None and (plan.calls or wait):
                if plan.waiting != waiting.what:
                    waiting = _Waiting(plan.waiting, clock.now())
                again = not any(call.once for call in report.calls)
                _pause(clock, deadline, max(waiting.pause(clock.now(), watch), plan.pause), plan.waiting, again)
                continue
            if not plan.calls:
                return replace(report, error=failed)
            last = not wait and len(plan.calls) == 1
            report = _disowned(report, plan.calls[0])
            call = _new(plan.calls[0], report.calls)
            try:
                outcome = client.send(call, deadline=deadline, wait=not last, since=since if lost is not None else None)
            except ProxmoxError as error:
                if error.effect is Effect.AMBIGUOUS:
                    lost, since, observed = call, error.since, _answered(feature, observed, None)
                raise
            observed = _answered(feature, observed, outcome)
            report, lost = _sent(report, call, outcome), None
            if last:
                return replace(report, after=plan.after, details=feature.result(wanted, observed))
        except ProxmoxError as error:
            failures[error.effect] += 1
            pause = next(refused)
            given_up = isinstance(error, TimedOut) or (lost is not None and lost.once)
            hopeless = given_up or failures[error.effect] >= ATTEMPTS[error.effect]
            if hopeless or clock.now() + pause > deadline:
                return replace(report, error=error, unsure=lost)
            clock.sleep(pause)


def _seen(report: Report, plan: Plan, details: Mapping[str, object]) -> Report:
    """Return the report with what was observed now; the state at first is kept."""
    return replace(
        report,
        before=plan.before if report.before is None else report.before,
        after=plan.before,
        details=details,
        warnings=report.warnings + tuple(text for text in plan.warnings if text not in report.warnings),
    )


def _disowned(report: Report, call: Call) -> Report:
    """Return the report without the adopted call where it is wanted again: then the task was somebody else's."""
    if report.adopted is None or not call.same_deed(report.adopted):
        return report
    return replace(report, calls=tuple(one for one in report.calls if one is not report.adopted), adopted=None)


def _new(call: Call, done: Sequence[Call]) -> Call:
    """Return the call; one that was done already and is planned again did not bring what the server accepted."""
    if any(call.same_deed(earlier) for earlier in done):
        raise ProxmoxError(
            f"The server accepted this and reported success, and yet it is not so: {call.summary}. It may be undone by somebody "
            "else at the same time; look at the guest and run this play's task again."
        )
    return call


def _answered(feature: Feature[Any, Observed], observed: Observed, outcome: Outcome | None) -> Observed:
    return observed if feature.answered is None else feature.answered(observed, outcome)


def _sent(report: Report, call: Call, outcome: Outcome) -> Report:
    """Return the report with a call that was done."""
    return replace(
        report,
        calls=(*report.calls, call),
        adopted=call if outcome.adopted else None,
        tasks=report.tasks + ((outcome.upid,) if outcome.upid else ()),
        warnings=report.warnings + outcome.warnings,
    )


class _Waiting:
    """What others must do first, and since when that is waited for."""

    def __init__(self, what: str, began: float) -> None:
        self.what, self._began, self._due = what, began, Due()
        self._pauses = pauses(0.05, WAITING_PAUSE_SECONDS)

    def pause(self, now: float, watch: Watch | None) -> float:
        """Return the seconds until the next look, and tell whoever watches when that is due."""
        waited = now - self._began
        if watch is not None and self._due.at(waited):
            watch(Progress(f"waiting for {self.what}", waited))
        return pause_after(waited, next(self._pauses))


def _pause(clock: Clock, deadline: float, seconds: float, what: str, again: bool) -> None:
    """Sleep; raises TimedOut when the deadline has come. :param again: whether running again goes on waiting."""
    left = deadline - clock.now()
    if left <= 0:
        way = "run this play's task again, with a longer timeout" if again else "give it a longer timeout next time"
        raise TimedOut(f"Gave up waiting for {what}. Nothing was stopped; {way}.")
    clock.sleep(min(seconds, left))


@contextmanager
def opened(options: Mapping[str, Any], clock: Clock) -> Iterator[Client]:
    """Open a client for connection options and close it in the end; raises ProxmoxError where they are not enough."""
    client = connect(options, clock)
    try:
        yield client
    finally:
        client.close()


class Kept:
    """Opens clients as `opened` does and keeps the last one, for callers that come back with the same connection options.

    Not to be shared by processes: a connection has one reader.
    """

    def __init__(self) -> None:
        self._key: object = None
        self._client: Client | None = None

    @contextmanager
    def opened(self, options: Mapping[str, Any], clock: Clock, *, surroundings: object = None) -> Iterator[Client]:
        """Lend the client that is kept, if it was opened with the same options and surroundings, or a new one.

        :param surroundings: what else a connection depends on, comparable.
        """
        key = ({name: options.get(name) for name in AUTH}, surroundings)
        if self._client is None or key != self._key:
            self.close()
            self._client, self._key = connect(options, clock), key
        client, self._client = self._client, None
        try:
            yield client
        except BaseException:
            # Nobody knows what is still on its way on its connections.
            client.close()
            raise
        self._client = client

    def close(self) -> None:
        """Close the client that is kept."""
        if self._client is not None:
            self._client.close()
            self._client = None


def prepare() -> None:
    """Load what every process that talks to a server needs, to be called before many of them are forked."""
    default_tls_context()


def execute(
    feature: Feature[Any, Any],
    options: Mapping[str, Any],
    *,
    check_mode: bool,
    clock: Clock | None = None,
    open_client: Callable[[Mapping[str, Any], Clock], AbstractContextManager[Client]] = opened,
    watch: Watch | None = None,
) -> Report | FleetReport:
    """Run a feature with module options and return its report; errors are in the report.

    :param watch: who is told of what takes long.
    """
    report = _execute(feature, options, check_mode, clock or MonotonicClock(), open_client, watch)
    return replace(report, warnings=(*unused(options, os.environ), *report.warnings))


def _execute(
    feature: Feature[Any, Any],
    options: Mapping[str, Any],
    check_mode: bool,
    clock: Clock,
    open_client: Callable[[Mapping[str, Any], Clock], AbstractContextManager[Client]],
    watch: Watch | None,
) -> Report | FleetReport:
    fleet: Fleet | None = None
    try:
        wanted = feature.wanted(options)
        fleet = fleet_of(feature, options)
        with open_client(options, clock) as client:
            client.watch = watch
            bring = functools.partial(
                reconcile,
                client=client,
                clock=clock,
                check_mode=check_mode,
                timeout=float(options.get("timeout", LOOK_SECONDS)),
                wait=options.get("wait", True),
                watch=watch,
            )
            if fleet is None:
                return bring(feature, wanted)
            try:
                return bring_each(fleet, feature, wanted, client, bring)
            except ProxmoxError as error:
                # Nothing has begun, so the client is as good as before; it may be kept for the next of a loop.
                return Report(error=error, details={"results": []})
    except ProxmoxError as error:
        none: dict[str, object] = {} if fleet is None else {"results": []}
        return Report(error=error, looks_only=feature.decide is None, details=none)


def specification(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole argument spec of a module: its own and the options that all have."""
    return {**AUTH, **arguments}


def secrets_of(options: Mapping[str, Any], spec: Mapping[str, Any]) -> list[str]:
    """Return the values of the options that nobody may see, also where they were put into another option by mistake."""
    names = {name for name, rules in spec.items() if rules.get("no_log")}
    places = [options, *(value for value in options.values() if isinstance(value, dict))]
    found = [place[name] for place in places for name in place if name in names and place[name]]
    return [str(part) for value in found for part in (value.values() if isinstance(value, dict) else [value]) if part]


def run(feature: Feature[Any, Any], argument_spec: Mapping[str, Any], **constraints: Any) -> None:
    """Be an Ansible module: read the options, bring about what they want, exit with the result."""
    spec = specification(argument_spec)
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, **constraints)
    report = execute(feature, module.params, check_mode=module.check_mode)
    secrets = secrets_of(module.params, spec)
    module.no_log_values.update(secrets)
    result = report.presented(secrets)
    for text in result.pop("warnings"):
        module.warn(text)
    if report.error is not None:
        module.fail_json(**result)
    module.exit_json(**result)
