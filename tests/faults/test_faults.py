"""A share of all faults, small enough for every day; `python -m tests.faults` has them all.

Of each scenario and kind one request is struck; which one changes from kind to kind, so that together they cover all of them.
"""

from __future__ import annotations

import pytest

from tests.promises.scenarios import SCENARIOS, Scenario

from .cases import Case, Outcome, cases, reference, run, unique
from .kinds import KINDS


def share(scenario: Scenario) -> list[Case]:
    """Return one case of each kind."""
    chosen = []
    for number, kind in enumerate(KINDS):
        every = list(cases(scenario, (kind,), dull=True))
        if every:
            chosen.append(every[number * len(every) // len(KINDS)])
    return chosen


@pytest.mark.parametrize("scenario", unique(SCENARIOS), ids=str)
def test_cut_off_anywhere_it_converges(scenario: Scenario) -> None:
    outcomes = [run(case) for case in share(scenario)]
    assert len(outcomes) >= 20
    assert [told(outcome) for outcome in outcomes if outcome.violations] == []


WRITES = [
    scenario
    for scenario in unique(SCENARIOS)
    if str(scenario)
    in ("vm_clone-full", "vm_config-grow-and-more", "vm_power-restart-forced", "snapshot-keep", "migrate-online-local")
]


@pytest.mark.parametrize("scenario", WRITES, ids=str)
def test_a_write_is_struck_by_every_fault(scenario: Scenario) -> None:
    chosen = [
        case for case in cases(scenario) if reference(scenario, case.kind.password).requests[case.request - 1].writes
    ]
    outcomes = [run(case) for case in chosen]
    assert len(outcomes) >= 25
    assert [told(outcome) for outcome in outcomes if outcome.violations] == []


def told(outcome: Outcome) -> str:
    return f"{outcome.case}: {'; '.join(outcome.violations)}"
