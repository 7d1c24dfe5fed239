"""What a person sees of a task that takes long, where it is shown, and when it is not."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Run, Site, served

CLONE = "keel.proxmox.proxmox_vm_clone"
ON = {"KEEL_PROXMOX_PROGRESS": "1"}
LINE = re.compile(r"^\[localhost\] (.*)$", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster that takes four seconds for a full clone; a new guest for each."""
    with served(tmp_path_factory.mktemp("slow")) as site:
        site.cluster.durations.clone_seconds_per_gib = 4.0 * 5.0 / 3
        yield site


VMIDS = iter(range(200, 300))


def clone(site: Site, keywords: dict[str, Any] | None = None, *arguments: str, **environment: str) -> tuple[int, Run]:
    vmid = next(VMIDS)
    options = {"source": "debian-13", "vmid": vmid, "name": f"web{vmid}", "full": True}
    run = site.play([{"name": "t", CLONE: options, **(keywords or {})}], *arguments, **environment)
    assert run.code == 0, run.stdout + run.stderr
    return vmid, run


def test_a_long_clone_is_shown_beside_the_output(site: Site) -> None:
    vmid, run = clone(site, **ON)
    (line,) = LINE.findall(run.stderr)
    told = re.fullmatch(
        rf"clone VM 9000 to VM {vmid} 'web{vmid}': scsi0, (\d+)% \(\d\.\d GiB of 3\.0 GiB\), [23] s",
        line,
    )
    assert told is not None, line
    assert 30 <= int(told[1]) <= 99
    assert LINE.findall(run.stdout) == []


@pytest.mark.parametrize(
    ("keywords", "environment"),
    [
        ({}, {}),
        ({}, {"KEEL_PROXMOX_PROGRESS": "no"}),
        ({"vars": {"keel_proxmox_progress": False}}, ON),
        ({"no_log": True}, ON),
        ({"vars": {"keel_proxmox_in_worker": False}}, ON),
    ],
    ids=["no terminal", "environment off", "variable off", "no_log", "ordinary module"],
)
def test_nothing_is_shown_where_nobody_wants_it(
    site: Site, keywords: dict[str, Any], environment: dict[str, str]
) -> None:
    """Nor is the log asked for."""
    site.cluster.log.clear()
    _vmid, run = clone(site, keywords, **environment)
    assert LINE.findall(run.stderr + run.stdout) == []
    assert [entry for entry in site.cluster.log if entry.template.endswith("/log")] == []


def test_the_variable_wins_over_the_environment(site: Site) -> None:
    _vmid, run = clone(site, {"vars": {"keel_proxmox_progress": "{{ 1 == 1 }}"}}, KEEL_PROXMOX_PROGRESS="0")
    assert len(LINE.findall(run.stderr)) == 1


def test_output_for_machines_stays_whole(site: Site) -> None:
    _vmid, run = clone(site, ANSIBLE_STDOUT_CALLBACK="as_json", **ON)
    assert json.loads(run.stdout) == {"changed": [True]}
    assert len(LINE.findall(run.stderr)) == 1
    vmid = next(VMIDS)
    arguments = f"source=debian-13 vmid={vmid} name=web{vmid} full=true"
    run = site.run(["ansible", "localhost", "-o", "-m", CLONE, "-a", arguments], **ON)
    assert run.code == 0
    assert re.fullmatch(r"localhost \| CHANGED => \{.*\}\n", run.stdout), run.stdout
    assert len(LINE.findall(run.stderr)) == 1


def test_the_log_file_of_ansible_stays_as_it_was(site: Site, tmp_path: Path) -> None:
    _vmid, run = clone(site, ANSIBLE_LOG_PATH=str(tmp_path / "log"), **ON)
    assert len(LINE.findall(run.stderr)) == 1
    logged = (tmp_path / "log").read_text(encoding="utf-8")
    assert "TASK [t]" in logged
    assert "[localhost] clone" not in logged


def test_a_terminal_shows_it_without_being_asked(site: Site) -> None:
    vmid = next(VMIDS)
    ours, theirs = pty.openpty()
    arguments = f"source=debian-13 vmid={vmid} name=web{vmid} full=true"
    program = Path(sys.executable).parent / "ansible"
    with subprocess.Popen(
        [str(program), "localhost", "-m", CLONE, "-a", arguments],
        env={**os.environ, **site.environment(), "ANSIBLE_LOCALHOST_WARNING": "0", "TERM": "dumb"},
        cwd=site.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ) as process:
        assert process.wait(120) == 0
        os.close(theirs)
        shown = os.read(ours, 100_000).decode()
        os.close(ours)
    assert len(re.findall(rf"\[localhost\] clone .*{vmid}.*%", shown)) == 1, shown


def test_no_secret_is_shown(site: Site) -> None:
    """One that somebody put into a name."""
    secret = site.environment()["PROXMOX_TOKEN_SECRET"]
    vmid = next(VMIDS)
    options = {"source": "debian-13", "vmid": vmid, "name": f"x{secret}", "full": True}
    run = site.play([{"name": "t", CLONE: options}], **ON)
    assert run.code == 0, run.stdout + run.stderr
    assert len(LINE.findall(run.stderr)) == 1
    assert secret not in run.stdout + run.stderr
