"""Run in Ansible's worker or as an ordinary module: the same results for every module; and which of the two is taken when."""

from __future__ import annotations

import getpass
import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import modules

from .conftest import Run, Site, served
from .test_modules import BAD, LIFE, LOOKS, OTHER_CA

CANARY = "canary/se+cret 7"
HERE, HANDED_OVER = "runs in the worker", "Using module file"

# Named in the play's task but not part of the life of a guest in test_modules.
MORE: list[tuple[str, str, dict[str, Any]]] = [
    ("secret", "proxmox_vm_config", {"vmid": 101, "cipassword": "{{ canary }}", "update_password": "always"}),
    ("restart", "proxmox_vm_power", {"vmid": 101, "state": "restarted"}),
    ("no waiting", "proxmox_vm_power", {"vmid": 101, "state": "started", "wait": False}),
    ("option and alias", "proxmox_snapshot", {"vmid": 101, "snapname": "one", "snapshot": "two", "state": "absent"}),
    ("texts for numbers", "proxmox_vm_config", {"vmid": "101", "cores": "2", "tags": "web,prod", "onboot": "yes"}),
    (
        "key and value",
        "proxmox_vm_config",
        {"vmid": 101, "options": {"affinity": "0-1"}, "description": "{{ 6 * 7 }} ü\n"},
    ),
    ("secret in an error", "proxmox_vm_power", {"vmid": 9000, "state": "stopped", "api_token_secret": "{{ canary }}"}),
    ("secret of a wrong type", "proxmox_vm_power", {"state": "stopped", "api_password": ["{{ canary }}"], "vmid": "x"}),
    ("constraint", "proxmox_snapshot", {"vmid": 101, "state": "absent", "keep": 1, "pattern": "x"}),
]
# What differs between two runs of the same way too.
VOLATILE = {"uptime", "ctime", "snaptime", "digest", "time", "age", "points", "summary"}
UPID = re.compile(r"UPID:(\w+):[0-9A-F:]+:(\w+):(\w*):([^:]+):")
CREATED = re.compile(r"ctime=\d+|\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d")


# The cluster's list is up to ten seconds late; a slower run would see more of what came before.
SETTLED = {"name": "Let the list of the cluster catch up", "ansible.builtin.pause": {"seconds": 15}}


def tasks() -> list[dict[str, Any]]:
    """Each step foretold, done and repeated, then what fails."""
    found = []
    for name, module, options in [*LIFE, *MORE]:
        if name == "fleet-configure":
            found.append(SETTLED)
        for suffix, check in (("foretold", True), ("done", False), ("repeated", False)):
            found.append(
                {
                    "name": f"{name} {suffix}",
                    f"keel.proxmox.{module}": options,
                    "check_mode": check,
                    "diff": True,
                    "ignore_errors": True,
                }
            )
    found.append(SETTLED)
    for name, module, options in LOOKS:
        found.append({"name": name, f"keel.proxmox.{module}": options})
    for bad in BAD:
        found.append({"name": f"bad: {bad.name}", f"keel.proxmox.{bad.module}": bad.options, "ignore_errors": True})
    return found


PLAY = tasks()
TASKS = [task for task in PLAY if task is not SETTLED]


@dataclass(frozen=True)
class Way:
    """One run of all tasks, on a cluster of its own."""

    run: Run
    place: dict[str, str]

    def result(self, name: str) -> Any:
        """The outcome and result of a task, without what is never the same twice."""
        found = self.run.one(name)
        text = json.dumps([found.outcome, found.result], sort_keys=True)
        for found_here, said_instead in self.place.items():
            text = text.replace(found_here, said_instead)
        return steady(json.loads(CREATED.sub("then", UPID.sub(r"UPID:\1:\2:\3:\4:", text))))


def steady(value: Any) -> Any:
    if isinstance(value, dict):
        # Ansible's own mark for the result of an ordinary module; no callback shows it.
        return {key: steady(item) for key, item in value.items() if key not in {*VOLATILE, "_ansible_parsed"}}
    return [steady(item) for item in value] if isinstance(value, list) else value


def run_all(directory: Path, setting: str) -> Way:
    with served(directory) as site:
        directory.joinpath("other-ca.pem").write_text(OTHER_CA, encoding="ascii")
        # In a file of its own, since Ansible shows lines of the playbook beside an error.
        directory.joinpath("canary.yml").write_text(yaml.safe_dump({"canary": CANARY}), encoding="ascii")
        # Hundreds of ordinary modules start a Python each.
        settings = {"KEEL_PROXMOX_IN_WORKER": setting, "ANSIBLE_INJECT_INVOCATION": "1"}
        run = site.play(PLAY, "-vvv", "-e", "@canary.yml", seconds=1200.0, **settings)
        assert run.code == 0, run.stdout + run.stderr
        settings = site.environment()
        return Way(run, {settings["PROXMOX_CA_PATH"]: "ca.pem", settings["PROXMOX_PORT"]: "8006"})


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Way]:
    """All tasks in the worker and as ordinary modules, side by side."""
    with ThreadPoolExecutor(2) as pool:
        running = {
            name: pool.submit(run_all, tmp_path_factory.mktemp(name), setting)
            for name, setting in (("worker", "1"), ("module", "0"))
        }
        return {name: future.result() for name, future in running.items()}


def test_each_way_is_the_one_that_was_asked_for(ways: dict[str, Way]) -> None:
    worker, module = ways["worker"].run.stdout, ways["module"].run.stdout
    assert (worker.count(HERE), worker.count(HANDED_OVER)) == (len(TASKS), 0)
    assert (module.count(HERE), module.count(HANDED_OVER)) == (0, len(TASKS))


@pytest.mark.parametrize("name", [task["name"] for task in TASKS])
def test_same_result(ways: dict[str, Way], name: str) -> None:
    assert ways["worker"].result(name) == ways["module"].result(name)


def test_what_is_compared_is_not_all_the_same(ways: dict[str, Way]) -> None:
    """Changes, no changes, failures and warnings are all among it."""
    results = [ways["worker"].run.one(task["name"]) for task in TASKS]
    outcomes = {(result.outcome, result.changed) for result in results}
    assert outcomes >= {("ok", True), ("ok", False), ("failed", False)}
    (both,) = ways["worker"].run.one("option and alias done").result["warnings"]
    assert "snapname" in json.dumps(both)
    assert "snapshot" in json.dumps(both)
    assert {module for _name, module, _options in [*LIFE, *LOOKS]} == set(modules.names())


def test_secrets_are_in_no_output(ways: dict[str, Way]) -> None:
    for way in ways.values():
        shown = way.run.stdout + way.run.stderr + json.dumps([result.result for result in way.run.results])
        assert CANARY not in shown
        assert CANARY.replace("/", "%2F") not in shown
    arguments = ways["worker"].run.one("secret done").result["invocation"]["module_args"]
    assert arguments["cipassword"] == "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"


def test_every_module_has_an_action_plugin() -> None:
    directory = Path(modules.DIRECTORY).parent / "action"
    assert sorted(path.stem for path in directory.glob("*.py")) == modules.names()


POWER = "keel.proxmox.proxmox_vm_power"
STOPPED = {"vmid": 9000, "state": "stopped"}


def way_taken(text: str) -> str:
    """Which way a task took, by what it told at -vvv."""
    assert (HERE in text) != (HANDED_OVER in text), text
    return "worker" if HERE in text else "module"


@dataclass(frozen=True)
class Case:
    """A task's keywords or its surroundings, and which way it must take."""

    name: str
    way: str
    keywords: dict[str, Any]
    environment: dict[str, str]


ME = getpass.getuser()
CASES = [
    Case("plain", "worker", {}, {}),
    Case("asynchronous", "module", {"async": 30, "poll": 1}, {}),
    Case("variable off", "module", {"vars": {"keel_proxmox_in_worker": False}}, {}),
    Case("variable off, templated", "module", {"vars": {"no": "no", "keel_proxmox_in_worker": "{{ no }}"}}, {}),
    Case("environment off", "module", {}, {"KEEL_PROXMOX_IN_WORKER": "0"}),
    Case(
        "variable over environment",
        "worker",
        {"vars": {"keel_proxmox_in_worker": True}},
        {"KEEL_PROXMOX_IN_WORKER": "0"},
    ),
    Case("delegated", "worker", {"delegate_to": "localhost"}, {}),
    Case("strategy free", "worker", {}, {"ANSIBLE_STRATEGY": "free"}),
    Case("pipelining", "module", {"async": 30, "poll": 1}, {"ANSIBLE_PIPELINING": "1"}),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_which_way(site: Site, case: Case) -> None:
    run = site.play([{"name": "t", POWER: STOPPED, **case.keywords}], "-vvv", **case.environment)
    assert run.code == 0, run.stdout + run.stderr
    assert way_taken(run.stdout) == case.way
    assert run.one("t").result["guest"]["vmid"] == 9000


@pytest.mark.parametrize(("user", "way"), [(ME, "worker"), ("nobody", "module")])
def test_become(site: Site, user: str, way: str) -> None:
    """To become oneself is nothing to do; everybody else gets an ordinary module, which may or may not be allowed."""
    if way == "worker" or shutil.which("sudo"):
        keywords = {"become": True, "become_user": user, "ignore_errors": True}
        run = site.play([{"name": "t", POWER: STOPPED, **keywords}], "-vvv", ANSIBLE_PIPELINING="1")
        assert way_taken(run.stdout) == way


def test_another_machine(site: Site) -> None:
    """A task for a host that is reached over SSH is not run here, unless it is delegated to here."""
    book = [
        {
            "hosts": "far",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": "{{ ansible_playbook_python }}"},
            "tasks": [
                {"name": "near", POWER: STOPPED, "delegate_to": "localhost"},
                {"name": "t", POWER: STOPPED, "ignore_unreachable": True, "ignore_errors": True},
            ],
        }
    ]
    site.directory.joinpath("far.yml").write_text(yaml.safe_dump(book), encoding="utf-8")
    site.directory.joinpath("far.ini").write_text("far ansible_host=127.0.0.1 ansible_port=1 ansible_connection=ssh\n")
    run = site.run(["ansible-playbook", "-i", "far.ini", "far.yml", "-vvv"])
    near, far = run.stdout.split("TASK [t]")
    assert way_taken(near) == "worker"
    assert run.one("near").outcome == "ok"
    assert run.one("t").outcome in {"unreachable", "failed"}
    assert HERE not in far


def test_without_requests_the_module_is_asked(site: Site, tmp_path: Path) -> None:
    """An interpreter of its own may have what the controller lacks."""
    (tmp_path / "requests.py").write_text("raise ImportError('not here')\n", encoding="ascii")
    run = site.play(
        [{"name": "t", POWER: STOPPED, "environment": {"PYTHONPATH": ""}}], "-vvv", PYTHONPATH=str(tmp_path)
    )
    assert run.code == 0, run.stdout + run.stderr
    assert way_taken(run.stdout) == "module"


def test_invocation_is_shown_as_ansible_wants_it(site: Site) -> None:
    """Since ansible-core 2.21 it is left out unless it is asked for."""
    for setting in ("0", "1"):
        task = {"name": "t", POWER: STOPPED}
        worker, module = (
            site.play([task], KEEL_PROXMOX_IN_WORKER=way, ANSIBLE_INJECT_INVOCATION=setting).one("t").result
            for way in ("1", "0")
        )
        assert worker.get("invocation") == module.get("invocation")


def test_wrong_setting(site: Site) -> None:
    run = site.play([{"name": "t", POWER: STOPPED, "vars": {"keel_proxmox_in_worker": "perhaps"}}])
    assert run.one("t").outcome == "failed"
    assert "keel_proxmox_in_worker" in run.one("t").message


def test_environment_of_the_task(site: Site) -> None:
    """It counts for its own task or item, and for no other."""
    settings = site.environment()
    secret = settings.pop("PROXMOX_TOKEN_SECRET")
    run = site.play(
        [
            {
                "name": "loop",
                POWER: STOPPED,
                "environment": {"PROXMOX_TOKEN_SECRET": "{{ item }}"},
                "loop": [secret, "wrong", secret],
                "no_log": True,
                "ignore_errors": True,
                "register": "looped",
            },
            {"name": "after", POWER: STOPPED, "ignore_errors": True},
            {"name": "told", "ansible.builtin.debug": {"msg": "{{ looped.results | map(attribute='failed') | list }}"}},
        ],
        PROXMOX_TOKEN_SECRET="",
    )
    assert run.code == 0, run.stdout + run.stderr
    assert run.one("told").result["msg"] == [False, True, False]
    assert run.one("after").outcome == "failed"
    assert secret not in run.stdout + run.stderr


def test_defaults_and_short_names(site: Site) -> None:
    """Defaults for one module are for that module only; the keyword collections shortens names."""
    book = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "collections": ["keel.proxmox"],
            "module_defaults": {"keel.proxmox.proxmox_vm_power": {"vmid": 9000}},
            "tasks": [
                {"name": "t", "proxmox_vm_power": {"state": "stopped"}},
                {"name": "other", "proxmox_vm_config": {"cores": 1}, "ignore_errors": True},
            ],
        }
    ]
    site.directory.joinpath("defaults.yml").write_text(yaml.safe_dump(book), encoding="utf-8")
    run = site.run(["ansible-playbook", "defaults.yml", "-vvv"])
    assert run.code == 0, run.stdout + run.stderr
    assert way_taken(run.stdout) == "worker"
    assert run.one("t").outcome == "ok"
    assert run.one("other").outcome == "failed"


def test_ad_hoc(site: Site) -> None:
    run = site.run(["ansible", "localhost", "-m", POWER, "-a", "vmid=9000 state=stopped", "-vvv"])
    assert run.code == 0, run.stdout + run.stderr
    assert HERE in run.stdout
    assert "SUCCESS" in run.stdout


def test_texts_of_the_server_are_not_templates(site: Site) -> None:
    """A description that somebody wrote as a template must not be run when a later task shows it."""
    config = "keel.proxmox.proxmox_vm_config"
    site.directory.joinpath("unsafe.yml").write_text("unsafe: !unsafe '{{ 6 * 7 }}'\n", encoding="ascii")
    run = site.play(
        [
            {"name": "set", config: {"vmid": 9000, "description": "{{ unsafe }}"}, "register": "done"},
            {"name": "told", "ansible.builtin.debug": {"msg": "{{ done.calls[0].params.description }}"}},
        ],
        "-e",
        "@unsafe.yml",
    )
    assert run.code == 0, run.stdout + run.stderr
    assert run.one("told").result["msg"] == "{{ 6 * 7 }}"


def test_a_loop_shares_its_connection(site: Site) -> None:
    """Reading requests of all items go over one connection."""
    loop = {"name": "t", POWER: {**STOPPED, "node": "pve1"}, "loop": list(range(10))}
    before = site.server.connections
    assert site.play([loop]).code == 0
    assert site.server.connections - before == 1


def test_working_directory(site: Site) -> None:
    """A relative path is one beside the playbook, wherever Ansible was started."""
    shutil.copy(site.environment()["PROXMOX_CA_PATH"], site.directory / "relative-ca.pem")
    elsewhere = site.directory / "elsewhere"
    elsewhere.mkdir()
    site.play([{"name": "t", POWER: {**STOPPED, "ca_path": "relative-ca.pem"}}])
    for setting in ("0", "1"):
        run = Site(site.cluster, site.server, elsewhere).run(
            ["ansible-playbook", str(site.directory / "play.yml")], KEEL_PROXMOX_IN_WORKER=setting
        )
        assert run.code == 0, f"{setting}: {run.stdout}{run.stderr}"


@pytest.mark.parametrize(
    ("node", "requests"), [("pve1", 1), ("pve2", 3), ("nowhere", 3), (None, 2)], ids=["right", "wrong", "gone", "none"]
)
def test_a_host_of_the_inventory_is_not_searched(site: Site, node: str | None, requests: int) -> None:
    """Where it is costs no request if the inventory is right, one more if it is old; the result is the same, and unasked for."""
    variables = {"ansible_connection": "local", "proxmox_vmid": 9000, "proxmox_type": "qemu", "proxmox_node": node}
    hosts = {"all": {"hosts": {"debian": {name: value for name, value in variables.items() if value is not None}}}}
    site.directory.joinpath("hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    task = {"name": "t", POWER: {"vmid": "{{ proxmox_vmid }}", "state": "stopped"}}
    book = [{"hosts": "debian", "gather_facts": False, "tasks": [task]}]
    site.directory.joinpath("hinted.yml").write_text(yaml.safe_dump(book), encoding="utf-8")
    site.cluster.log.clear()
    run = site.run(["ansible-playbook", "-i", "hosts.yml", "hinted.yml"], ANSIBLE_INJECT_INVOCATION="1")
    assert run.code == 0, run.stdout + run.stderr
    assert len(site.cluster.log) == requests
    result = run.one("t").result
    assert result["guest"]["node"] == "pve1"
    assert (result["invocation"]["module_args"]["node"], result["invocation"]["module_args"]["type"]) == (None, None)
