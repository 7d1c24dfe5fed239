"""A served cluster and the real command-line tools, for tests that see the collection as a user does."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.simulator import Cluster, RealClock, Server, serve
from tests.simulator.populate import populate

# A task that every cluster here has run some time ago.
ENDED = "UPID:pve1:00000321:00065374:5F00AB00:vzdump:9000:backup@pve:"

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True)
class Result:
    """What one play's task came to."""

    outcome: str
    task: str
    host: str
    result: Mapping[str, Any]

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))

    @property
    def message(self) -> str:
        return str(self.result.get("msg", ""))


@dataclass(frozen=True)
class Run:
    """What a command left behind: exit code, both outputs, and the results of the play's tasks."""

    code: int
    stdout: str
    stderr: str
    results: list[Result] = field(default_factory=list)

    def one(self, task: str) -> Result:
        (found,) = [result for result in self.results if result.task == task]
        return found


@dataclass
class Site:
    """A served cluster, and Ansible's commands run against it."""

    cluster: Cluster
    server: Server
    directory: Path

    def environment(self) -> dict[str, str]:
        """The cluster's address and token as a user exports them."""
        return dict(self.server.environment())

    def run(self, command: Sequence[str], *, seconds: float = 300.0, **environment: str) -> Run:
        """Run one of Ansible's commands, no longer than `seconds`; the cluster comes from the environment."""
        results = self.directory / "results.jsonl"
        results.unlink(missing_ok=True)
        program, *arguments = command
        done = subprocess.run(
            [str(Path(sys.executable).parent / program), *arguments],
            cwd=self.directory,
            env={
                **os.environ,
                **self.environment(),
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
                "ANSIBLE_CALLBACKS_ENABLED": "results",
                "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
                "ANSIBLE_LOCALHOST_WARNING": "0",
                "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
                "RESULTS_FILE": str(results),
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
        return Run(done.returncode, done.stdout, done.stderr, [Result(**json.loads(line)) for line in lines])

    def play(self, tasks: list[dict[str, Any]], *arguments: str, seconds: float = 300.0, **environment: str) -> Run:
        """Run tasks on localhost with the real ansible-playbook."""
        book = self.directory / "play.yml"
        play = {
            "name": "Play",
            "hosts": "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            "tasks": tasks,
        }
        book.write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
        return self.run(["ansible-playbook", str(book), *arguments], seconds=seconds, **environment)

    def writes(self) -> int:
        """How many writing requests the cluster has seen."""
        return len(self.cluster.log.writes())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster of three nodes that the tests of a file share."""
    with served(tmp_path_factory.mktemp("site")) as site:
        yield site


@contextlib.contextmanager
def served(directory: Path) -> Iterator[Site]:
    """Serve a cluster of three nodes with the templates debian-13 (a VM) and alpine (a container).

    At the end it must have understood every request.
    """
    cluster = Cluster(clock=RealClock(time.time(), speed=5.0))
    cluster.durations.backup_seconds_per_gib = 0.1
    populate(cluster, guests=0, template=9000)
    cluster.add_ct(9001, "alpine", disk="shared:1", config={"net0": "name=eth0,bridge=vmbr0,ip=dhcp"}, template=True)
    cluster.tasks.put(ENDED, lines=["INFO: starting new backup job"])
    server = serve(cluster)
    try:
        yield Site(cluster, server, directory)
    finally:
        server.stop()
    assert not cluster.unmodelled, f"the simulator does not model {cluster.unmodelled}"
