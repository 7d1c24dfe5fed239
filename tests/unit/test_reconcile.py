"""The loop: what it does with each kind of failure, and what it reports."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.keel.proxmox.plugins.module_utils import module
from ansible_collections.keel.proxmox.plugins.module_utils.errors import Effect, ProxmoxError
from ansible_collections.keel.proxmox.plugins.module_utils.guests import LOOKS_BEFORE_START
from ansible_collections.keel.proxmox.plugins.module_utils.module import (
    ATTEMPTS,
    Report,
    _Waiting,
    execute,
    reconcile,
)
from ansible_collections.keel.proxmox.plugins.module_utils.newcomers import PATIENT_LOOKS
from ansible_collections.keel.proxmox.plugins.module_utils.plan import Call, Feature, Outcome, Plan, Reader
from ansible_collections.keel.proxmox.plugins.module_utils.progress import Progress

from .fakes import FakeClock


class Counter:
    """A server with one number; a feature that wants it at five; each call adds one."""

    def __init__(self, value: int = 3, failures: Sequence[ProxmoxError | None] = (), stuck: bool = False) -> None:
        self.value = value
        self.failures = dict(enumerate(failures, start=1))
        self.stuck = stuck
        self.sent = 0

    def get(self, path: str, /, **query: object) -> Any:
        return self.value

    def send(self, call: Call, *, deadline: float, wait: bool = True, since: int | None = None) -> Outcome:
        self.sent += 1
        failure = self.failures.get(self.sent)
        if failure is not None and failure.effect is not Effect.AMBIGUOUS:
            raise failure
        if not self.stuck:
            self.value = int(str(call.params["to"]))
        if failure is not None:
            raise failure
        return Outcome(None, f"UPID:{self.value}", (f"warning {self.value}",))


def decide(wanted: int, value: int, done: Sequence[Call]) -> Plan:
    calls = [Call("PUT", "/number", {"to": step}, f"count to {step}") for step in range(value + 1, wanted + 1)]
    return Plan({"number": value}, {"number": max(value, wanted)}, calls)


FEATURE: Feature[int, int] = Feature(
    wanted=lambda options: 5,
    observe=lambda wanted, reader, previous: reader.get("/number"),
    decide=decide,
    result=lambda wanted, value: {"number": value},
)


def run(server: Counter, *, check_mode: bool = False, timeout: float = 60.0, wait: bool = True) -> Report:
    return reconcile(FEATURE, 5, server, FakeClock(), check_mode=check_mode, timeout=timeout, wait=wait)


def failing(effect: Effect) -> ProxmoxError:
    return ProxmoxError(f"it was {effect.value}", effect=effect)


def test_the_deed_is_what_was_foretold() -> None:
    dry, done = run(server := Counter(), check_mode=True), run(Counter())
    assert server.sent == 0
    assert dry.calls == done.calls
    assert (dry.before, dry.after) == (done.before, done.after) == ({"number": 3}, {"number": 5})
    assert done.shown()["changed"] is dry.shown()["changed"] is True
    assert done.tasks == ("UPID:4", "UPID:5")
    assert done.warnings == ("warning 4", "warning 5")


def test_nothing_is_done_twice() -> None:
    report = run(Counter(5))
    assert report.calls == ()
    assert report.shown()["changed"] is False


@pytest.mark.parametrize("effect", [effect for effect in Effect if effect is not Effect.PERMANENT])
def test_what_may_pass_is_looked_at_and_planned_again(effect: Effect) -> None:
    server = Counter(failures=[failing(effect)])
    report = run(server)
    assert report.error is None
    assert server.value == 5
    # The answer of an ambiguous write was lost, its effect was not: it is not sent again.
    assert server.sent == (2 if effect is Effect.AMBIGUOUS else 3)
    assert [call.summary for call in report.calls] == ["count to 4", "count to 5"]


@pytest.mark.parametrize("effect", [Effect.NOT_EXECUTED, Effect.STALE, Effect.ABSENT])
def test_what_never_passes_ends_after_a_few_attempts(effect: Effect) -> None:
    server = Counter(failures=[failing(effect)] * 100)
    report = run(server, timeout=10_000)
    assert report.error is not None
    assert server.sent == ATTEMPTS[effect]
    assert server.value == 3


def test_a_lock_is_waited_for_until_the_deadline() -> None:
    clock = FakeClock()
    server = Counter(failures=[failing(Effect.CONTENDED)] * 1000)
    report = reconcile(FEATURE, 5, server, clock, check_mode=False, timeout=120.0)
    assert report.error is not None
    assert report.error.effect is Effect.CONTENDED
    assert clock.time - 1000.0 <= 120.0


def test_what_is_refused_is_not_tried_again_and_the_rest_is_told() -> None:
    server = Counter(failures=[None, failing(Effect.PERMANENT)])
    report = run(server)
    assert server.sent == 2
    shown = report.shown()
    assert shown["changed"] is True
    assert [call["summary"] for call in shown["calls"]] == ["count to 4"]
    assert shown["msg"] == "it was refused. Done before that: count to 4."


def test_what_nobody_knows_is_said() -> None:
    class Silent(Counter):
        def get(self, path: str, /, **query: object) -> Any:
            if self.sent:
                raise failing(Effect.NOT_EXECUTED)
            return self.value

    shown = run(Silent(failures=[failing(Effect.AMBIGUOUS)])).shown()
    assert shown["changed"] is True
    assert "Whether this was done is not known: count to 4" in shown["msg"]


def test_success_without_effect_is_an_error() -> None:
    server = Counter(stuck=True)
    report = run(server)
    assert server.sent == 1
    assert report.error is not None
    assert "count to 4" in report.error.message


def test_without_waiting_it_returns_when_the_last_call_has_started() -> None:
    report = run(Counter(), wait=False)
    assert report.tasks == ("UPID:4", "UPID:5")
    assert report.after == {"number": 5}


def test_waiting_ends() -> None:
    feature: Feature[int, int] = Feature(
        FEATURE.wanted, FEATURE.observe, lambda wanted, value, done: Plan(waiting="the moon"), FEATURE.result
    )
    clock = FakeClock()
    report = reconcile(feature, 5, Counter(), clock, check_mode=False, timeout=30.0)
    assert report.error is not None
    assert "Gave up waiting for the moon" in report.error.message
    assert clock.time == pytest.approx(1030.0)


def test_a_timeout_of_no_time_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connected(Counter):
        def close(self) -> None:
            """Nothing is kept."""

    monkeypatch.setattr(module, "connect", lambda options, clock: Connected())
    feature: Feature[int, int] = Feature(
        FEATURE.wanted, FEATURE.observe, lambda wanted, value, done: Plan(waiting="the moon"), FEATURE.result
    )
    clock = FakeClock()
    report = execute(feature, {"timeout": 0, "wait": True}, check_mode=False, clock=clock)
    assert report.error is not None
    assert clock.time == 1000.0


def test_what_is_left_is_decided_again_when_a_lost_deed_proves_done() -> None:
    """A restart leaves no trace: only the calls that were made tell that nothing is left of it."""
    stop, start = Call("POST", "/stop", {}, "stop it"), Call("POST", "/start", {}, "start it")
    sent: list[Call] = []

    class Machine(Counter):
        def send(self, call: Call, *, deadline: float, wait: bool = True, since: int | None = None) -> Outcome:
            sent.append(call)
            self.value = 0 if call is stop else 1
            if call is start:
                raise failing(Effect.AMBIGUOUS)
            return Outcome()

    def restart(wanted: int, value: int, done: Sequence[Call]) -> Plan:
        # Running, and nothing known of a start: it is to be restarted.
        return Plan({"on": value}, {"on": 1}, () if start in done else (stop, start) if value else (start,))

    feature: Feature[int, int] = Feature(FEATURE.wanted, FEATURE.observe, restart, FEATURE.result)
    report = reconcile(feature, 5, Machine(1), FakeClock(), check_mode=False, timeout=60.0)
    assert report.error is None
    assert sent == [stop, start]
    assert report.calls == (stop, start)


class Foreign(Counter):
    """A server that loses the first answer; a task was found for it, which somebody else had started unless it was `ours`."""

    def __init__(self, *, ours: bool) -> None:
        super().__init__(4)
        self.ours = ours

    def send(self, call: Call, *, deadline: float, wait: bool = True, since: int | None = None) -> Outcome:
        if self.sent or self.ours:
            outcome = super().send(call, deadline=deadline, wait=wait)
            return Outcome(None, outcome.upid, adopted=self.sent == 1)
        self.sent += 1
        return Outcome(None, "UPID:foreign", adopted=True)


@pytest.mark.parametrize(("ours", "sent"), [(True, 1), (False, 2)])
def test_a_task_that_was_found_may_be_somebody_elses(ours: bool, sent: int) -> None:
    report = run(server := Foreign(ours=ours))
    assert report.error is None
    assert (server.value, server.sent) == (5, sent)
    assert [call.summary for call in report.calls] == ["count to 5"]


def test_what_only_looks_speaks_of_no_calls() -> None:
    feature: Feature[int, int] = Feature(FEATURE.wanted, FEATURE.observe, None, FEATURE.result)
    report = reconcile(feature, 5, Counter(), FakeClock(), check_mode=False, timeout=30.0)
    assert report.presented() == {"changed": False, "number": 3, "warnings": []}
    failed = execute(feature, {"api_host": []}, check_mode=False).presented()
    assert failed.keys() == {"changed", "msg", "warnings"}


def test_what_others_must_do_first_is_told_and_looked_at_with_growing_pauses() -> None:
    """A line after two seconds and then now and then; looks are about a second apart for two minutes, two seconds in the end."""
    clock = FakeClock()
    looks: list[float] = []
    seen: list[Progress] = []

    def observe(wanted: int, reader: Reader, previous: int | None) -> int:
        looks.append(clock.now() - 1000.0)
        return 3 if looks[-1] < 300.0 else 5

    feature = replace(
        FEATURE,
        observe=observe,
        decide=lambda wanted, value, done: Plan(waiting="the lock 'backup' of VM 100" if value < 5 else None),
    )
    report = reconcile(feature, 5, Counter(), clock, check_mode=False, timeout=600.0, watch=seen.append)
    assert report.error is None
    pauses = [later - earlier for earlier, later in itertools.pairwise(looks)]
    assert pauses[0] <= 0.06
    assert all(pause <= 1.5 * at + 0.061 for at, pause in zip(looks[0:], pauses, strict=False))
    assert max(pause for at, pause in zip(looks, pauses, strict=False) if at < 120.0) <= 1.21
    assert 1.9 < max(pauses) <= 2.0
    assert {progress.what for progress in seen} == {"waiting for the lock 'backup' of VM 100"}
    assert [progress.seconds for progress in seen] == sorted({progress.seconds for progress in seen})
    assert 2.0 <= seen[0].seconds < 3.0
    assert 15 < len(seen) < 30


@pytest.mark.parametrize(("looks", "seconds"), [(LOOKS_BEFORE_START, 20.0), (PATIENT_LOOKS, 15.0)])
def test_what_is_counted_in_looks_is_meant_in_seconds(looks: int, seconds: float) -> None:
    waiting, now = _Waiting("", 0.0), 0.0
    for _look in range(looks):
        now += waiting.pause(now, None)
    assert now == pytest.approx(seconds, rel=0.2)


# Deeds that leave no trace, and what only an answer tells


class Program:
    """A server that runs a program and tells of it only in its answer."""

    def __init__(self, failure: ProxmoxError | None = None) -> None:
        self.failure = failure
        self.sent = 0
        self.looks: list[float] = []

    def get(self, path: str, /, **query: object) -> Any:
        return None

    def send(self, call: Call, *, deadline: float, wait: bool = True, since: int | None = None) -> Outcome:
        self.sent += 1
        if self.failure is not None:
            raise self.failure
        return Outcome({"pid": 7})


def running(code: int | None = 0, *, pause: float = 0.0) -> Feature[None, tuple[int | None, bool]]:
    """Return a feature that starts the program once; it ends with the code, or never.

    What is observed is the PID and whether the answer was lost.
    """

    def decide_to_run(wanted: None, observed: tuple[int | None, bool], done: Sequence[Call]) -> Plan:
        pid, _lost = observed
        if pid is None:
            return Plan({"ran": 0}, {"ran": 1}, [Call("POST", "/run", {}, "run it", once=True)], foretold={"rc": 0})
        if code is None:
            return Plan({"ran": 1}, {"ran": 1}, waiting="the end", pause=pause)
        return Plan({"ran": 1}, {"ran": 1}, failure=f"it ended with {code}" if code else None)

    return Feature(
        wanted=lambda options: None,
        observe=lambda wanted, reader, previous: previous or (None, False),
        decide=decide_to_run,
        result=lambda wanted, observed: {"pid": observed[0], "rc": None, "lost": observed[1]},
        answered=lambda observed, outcome: (None, True) if outcome is None else (7, False),
    )


def start(server: Program, feature: Any, clock: FakeClock | None = None, **more: Any) -> dict[str, Any]:
    options = {"check_mode": False, "timeout": 60.0, **more}
    return reconcile(feature, None, server, clock or FakeClock(), **options).shown()


def test_an_answer_is_observed() -> None:
    shown = start(Program(), running())
    assert (shown["pid"], shown["changed"], "msg" in shown) == (7, True, False)


def test_nobody_need_wait_for_what_comes_after_the_answer() -> None:
    shown = start(Program(), running(None), wait=False)
    assert (shown["pid"], shown["changed"], shown["diff"]["after"]) == (7, True, {"ran": 1})


def test_what_went_wrong_without_an_error_of_the_server_is_a_failure_with_its_result() -> None:
    shown = start(Program(), running(3))
    assert shown["msg"] == "it ended with 3. Done before that: run it."
    assert (shown["pid"], shown["changed"]) == (7, True)


def test_check_mode_foretells_what_the_result_holds() -> None:
    server = Program()
    shown = start(server, running(3), check_mode=True)
    assert (shown["rc"], shown["changed"], server.sent) == (0, True, 0)


def test_what_leaves_no_trace_is_not_sent_again() -> None:
    server = Program(failing(Effect.AMBIGUOUS))
    shown = start(server, running())
    assert server.sent == 1
    assert shown["changed"] is True
    assert "Whether this was done is not known: run it; look there before it is done again." in shown["msg"]


@pytest.mark.parametrize("effect", [Effect.NOT_EXECUTED, Effect.STALE])
def test_what_was_not_begun_is_sent_again_whatever_it_leaves(effect: Effect) -> None:
    server = Program(failing(effect))
    start(server, running())
    assert server.sent == ATTEMPTS[effect]


def test_a_look_that_costs_the_server_much_is_not_hurried() -> None:
    looks: list[float] = []
    clock = FakeClock()
    feature = running(None, pause=5.0)
    observe = feature.observe

    def noted(wanted: None, reader: Any, previous: Any) -> Any:
        looks.append(clock.now())
        return observe(wanted, reader, previous)

    shown = start(Program(), replace(feature, observe=noted), clock)
    assert "Gave up waiting for the end. Nothing was stopped; give it a longer timeout next time." in shown["msg"]
    assert all(later - earlier >= 5.0 for earlier, later in itertools.pairwise(looks[1:-1]))
