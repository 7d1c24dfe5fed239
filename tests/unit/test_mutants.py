"""The texts by which the collection is broken on purpose are those of the collection."""

from __future__ import annotations

import pytest

from tests.faults.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_is_replaced_is_there_once(mutant: Mutant) -> None:
    path = ROOT / "plugins" / "module_utils" / mutant.file
    assert path.read_text(encoding="utf-8").count(mutant.old) == 1
