"""A served cluster, and commands run against it with everything counted that they ask."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tests.simulator import Cluster, Durations, RealClock, Server, serve

from .report import Figure, Sample, figure

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = ROOT / ".cache"
RIVAL_HOME = CACHE / "rival"
# Everything is run by the same Python, with the same ansible-core: only the collections differ.
BIN = RIVAL_HOME / "venv" / "bin"
LONGEST_SECONDS = 600
# So long ago the guests were started: their agents answer by now.
SETTLED_SECONDS = 60.0


class Failed(Exception):
    """A command did not do what it was to do, so that its time says nothing."""


@dataclass(frozen=True)
class Done:
    """A play's task that has ended: times in seconds since the epoch.

    :param changed: how often, over all items of a loop.
    """

    outcome: str
    task: str
    began: float
    ended: float
    changed: int
    message: str


@dataclass(frozen=True)
class Run:
    """What a command cost, and its play's tasks. :param memory: the most that one of its processes had at a time, in MiB."""

    seconds: float
    requests: int
    writes: int
    connections: int
    memory: int
    tasks: Sequence[Done]
    stdout: str

    @property
    def changed(self) -> int:
        return sum(task.changed for task in self.tasks)

    @property
    def worked(self) -> Sample:
        """The run as a sample of the time between the begin of its first task and the end of its last."""
        return self.sample(self.tasks[-1].ended - self.tasks[0].began)

    def sample(self, seconds: float | None = None) -> Sample:
        """Return the run as a sample of the whole command's time, or of these seconds instead."""
        return Sample(
            self.seconds if seconds is None else seconds,
            self.seconds,
            self.requests,
            self.writes,
            self.connections,
            self.memory,
        )


def launching(spent: Path) -> list[str]:
    """Return what comes before a command so that a file tells what it took; see launch.py."""
    return [sys.executable, str(HERE / "launch.py"), str(spent), str(LONGEST_SECONDS)]


@dataclass
class Site:
    """A cluster that is served by this process, and a directory for playbooks."""

    cluster: Cluster
    server: Server
    directory: Path

    def run(self, command: Sequence[str], *, code: int = 0, **environment: str) -> Run:
        """Run a command of the environment for comparisons; the cluster is in its surroundings.

        :raises Failed: another exit code than that, or requests that the simulator does not model.
        """
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        times, spent = directory / "times.jsonl", directory / "spent.json"
        log, before = self.cluster.log, len(self.cluster.log)
        connections = self.server.connections
        program, *arguments = command
        with (directory / "stdout").open("w+") as stdout, (directory / "stderr").open("w+") as stderr:
            done = subprocess.run(
                [*launching(spent), str(BIN / program), *arguments],
                cwd=self.directory,
                env={**self.environment(), "TIMES_FILE": str(times), **environment},
                stdout=stdout,
                stderr=stderr,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            stdout.seek(0)
            stderr.seek(0)
            said, errors = stdout.read(), stderr.read()
        if done.returncode != code:
            raise Failed(f"{' '.join(command)} ended with {done.returncode}: {said[:2500]}{errors[-1500:]}")
        if self.cluster.unmodelled:
            raise Failed(f"the simulator does not model {sorted(set(self.cluster.unmodelled))}")
        entries = log[before:]
        lines = times.read_text(encoding="utf-8").splitlines() if times.exists() else []
        took = json.loads(spent.read_text(encoding="utf-8"))
        return Run(
            took["seconds"],
            len(entries),
            sum(entry.method != "GET" for entry in entries),
            self.server.connections - connections,
            took["memory"],
            [Done(**json.loads(line)) for line in lines],
            said,
        )

    def environment(self) -> dict[str, str]:
        """The surroundings of a command: the cluster, both collections, nothing of the user's own."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "KEEL_", "PROXMOX_"))
        }
        # Compiled files make every start of Ansible faster, for both.
        kept.pop("PYTHONDONTWRITEBYTECODE", None)
        server = self.server.environment()
        return {
            **kept,
            **server,
            # The rival's inventory has no option for an authority, and an address of its own.
            "PROXMOX_URL": self.server.url,
            "REQUESTS_CA_BUNDLE": server["PROXMOX_CA_PATH"],
            "PATH": f"{BIN}:{kept.get('PATH', '')}",
            "ANSIBLE_HOME": str(self.directory / "home"),
            "ANSIBLE_CONFIG": str(CACHE / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": f"{CACHE / 'collections'}:{RIVAL_HOME / 'collections'}",
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "times",
            "ANSIBLE_LOCALHOST_WARNING": "0",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "0",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_NOCOWS": "1",
        }

    def play(
        self, tasks: Sequence[Mapping[str, Any]], *, hosts: Mapping[str, Mapping[str, Any]] | None = None, **rest: Any
    ) -> Run:
        """Run tasks with ansible-playbook, on localhost or on hosts that have variables; everything happens on this machine."""
        play = {
            "name": "Play",
            "hosts": "all" if hosts else "localhost",
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            "tasks": list(tasks),
        }
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        book = directory / "play.yml"
        book.write_text(yaml.safe_dump([play], sort_keys=False), encoding="utf-8")
        command = ["ansible-playbook", str(book)]
        if hosts:
            inventory = directory / "hosts.yml"
            inventory.write_text(yaml.safe_dump({"all": {"hosts": dict(hosts)}}), encoding="utf-8")
            command += ["-i", str(inventory)]
        return self.run(command, **rest)

    def bare(self, work: str, **options: Any) -> Run:
        """Run work of the script that talks to the API alone; its one task has the times of the work, without Python's start."""
        run = self.run(["python", str(HERE / "bare.py"), work, json.dumps(options)])
        times = json.loads(run.stdout)
        return replace(run, tasks=[Done("ok", work, times["began"], times["ended"], 0, "")])


@contextlib.contextmanager
def served(setup: Callable[[Cluster], None], durations: Durations | None = None, *, nodes: int = 3) -> Iterator[Site]:
    """Serve a cluster in real time while the block runs.

    :param setup: makes its guests.
    """
    cluster = Cluster(
        nodes=tuple(f"pve{number}" for number in range(1, nodes + 1)),
        clock=RealClock(time.time() - SETTLED_SECONDS),
        durations=durations or Durations(request=0.0),
    )
    setup(cluster)
    cluster.clock.advance(SETTLED_SECONDS)
    with tempfile.TemporaryDirectory(prefix="keel-bench-") as directory, serve(cluster) as server:
        yield Site(cluster, server, Path(directory))


Way = Callable[[], Sample]


def interleaved(ways: Mapping[str, Way], rounds: Mapping[str, int], *, warm: bool = True) -> dict[str, list[Sample]]:
    """Run the ways A B C A B C and return the samples of each.

    :param rounds: how often each is run; those with fewer take part in the first rounds.
    :param warm: whether each is run once before that, uncounted.
    """
    if warm:
        for way in ways.values():
            way()
    found: dict[str, list[Sample]] = {name: [] for name in ways}
    for number in range(max(rounds[name] for name in ways)):
        for name, way in ways.items():
            if number < rounds[name]:
                found[name].append(way())
    return found


def above(samples: Mapping[str, list[Sample]], base: str) -> dict[str, Figure]:
    """Return the figures of all but the base, less the base's time in the same round."""
    floor = samples[base]
    return {
        name: figure([replace(one, seconds=one.seconds - floor[at].seconds) for at, one in enumerate(some)])
        for name, some in samples.items()
        if name != base and some
    }
