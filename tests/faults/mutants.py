"""Break the collection on purpose, one way at a time, and see that the tests of faults notice: `python -m tests.faults.mutants`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Mutant:
    """One text of one file of plugins/module_utils becomes another."""

    name: str
    file: str
    old: str
    new: str


MUTANTS = (
    Mutant(
        "a POST is repeated after a reset",
        "transport.py",
        'if error.effect is Effect.AMBIGUOUS and method != "GET":',
        "if False:",
    ),
    Mutant("the first of two guests of one name is taken", "guests.py", "    if len(found) > 1:\n", "    if False:\n"),
    Mutant("the digest is ignored", "config.py", 'params["digest"] = observed.digest', "pass"),
    Mutant(
        "every 500 is taken for transient",
        "phrases.py",
        "if re.search(pattern, text)), Effect.PERMANENT)",
        "if re.search(pattern, text)), Effect.CONTENDED)",
    ),
    Mutant(
        "a guest that has moved is not looked for again",
        "guests.py",
        "if error.effect is Effect.ABSENT:\n                break\n            if not unreachable(error):\n                raise\n",
        "raise\n",
    ),
    Mutant(
        "a task that was found is always the own one",
        "module.py",
        "if report.adopted is None or not call.same_deed(report.adopted):",
        "if True:",
    ),
    Mutant(
        "the token is logged",
        "transport.py",
        'request = f"{method} {path}"\n        in_query',
        'request = f"{method} {path}"\n        __import__("logging").debug("%s %s", request, headers)\n        in_query',
    ),
)


def main() -> int:
    print(f"{'mutant':48} {'noticed by':56} {'s':>4}", flush=True)
    missed = 0
    for mutant in MUTANTS:
        began = time.monotonic()
        noticed = tried(mutant)
        missed += noticed is None
        print(f"{mutant.name:48} {noticed or 'NOBODY':56} {time.monotonic() - began:4.0f}", flush=True)
    print(f"mutants: {len(MUTANTS) - missed} of {len(MUTANTS)} noticed")
    return 1 if missed else 0


def tried(mutant: Mutant) -> str | None:
    """Return the first test that fails on a copy of the repository with this mutant, None where none does."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as directory:
        copy = Path(directory) / "repository"
        shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(".git", ".cache", "__pycache__"))
        (copy / ".cache").mkdir()
        (copy / ".cache" / "schema").symlink_to(ROOT / ".cache" / "schema")
        path = copy / "plugins" / "module_utils" / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            raise SystemExit(f"{mutant.name}: the text to replace is {text.count(mutant.old)} times in {mutant.file}")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        # The quick ones first; the first failure is enough.
        tests = ["tests/faults/test_races.py", "tests/faults/test_faults.py"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", *tests],
            cwd=copy,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        found = re.search(r"^FAILED \S+::(.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
        if done.returncode not in (0, 1) or (done.returncode == 1 and found is None):
            raise SystemExit(f"{mutant.name}: pytest itself failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return found[1] if found else None


if __name__ == "__main__":
    sys.exit(main())
