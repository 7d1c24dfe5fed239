"""What the real commands show and leave behind: no secret, and nothing of the server's that a terminal or Ansible obeys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

from tests.playbooks.conftest import Run, Site, served
from tests.simulator import Behaviour

# With everything that one encoding or another changes, where such a secret can be.
SECRETS = {
    "TOKEN": "canary-token-5f3a91",
    "PASSWORD": "canary pass/w%C3&\"o'r\\d+ü",
    "WRONG": "canary wrong/%&\"'\\+ü",
    "OTP": "918273645",
    "CIPASSWORD": "canary ci %&\"'\\+pass",
    "NEWLINE": "canary-newline-71ab\n",
}
PROOF = "evaluated-49"


def forms(secret: str) -> set[str]:
    """Return the secret as outputs might hold it."""
    bare = secret.strip()
    shown = {json.dumps(bare)[1:-1], json.dumps(bare, ensure_ascii=False)[1:-1], repr(bare)[1:-1]}
    return {
        bare,
        quote(bare),
        quote(bare, safe=""),
        quote_plus(bare),
        json.dumps(bare)[1:-1].replace("\\", "\\\\"),
    } | shown


def leaks(text: str) -> list[str]:
    return sorted({name for name, secret in SECRETS.items() for form in forms(secret) if form in text})


def option(name: str) -> str:
    """A secret as plays have it: looked up, so that the play itself holds none."""
    return f"{{{{ lookup('ansible.builtin.env', 'CANARY_{name}') }}}}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster whose guests have names and texts that nobody should take at their word."""
    with served(tmp_path_factory.mktemp("site")) as site:
        access = site.cluster.access
        access.users["root@pam"].password = SECRETS["PASSWORD"]
        access.add_user("two@pve", SECRETS["PASSWORD"], totp_secret="JBSWY3DPEHPK3PXP")
        access.add_token("root@pam", "canary", secret=SECRETS["TOKEN"], privsep=False)
        marker = site.directory / "evaluated"
        texts = hostile(marker)
        site.cluster.add_vm(100, "web")
        site.cluster.add_vm(101, "db", behaviour=Behaviour(start_error=texts))
        site.cluster.guests[101].config.update(
            description=texts, name=texts.replace("\n", " "), tags="{{ 7*7 }};a\x1b[2J"
        )
        site.cluster.clock.advance(30.0)
        yield site
        assert not marker.exists(), "a text of the server was evaluated"


def hostile(marker: Path) -> str:
    """A text with everything that must not work."""
    return (
        f"\x1b]0;title\x07\x1b[31mred\x9b2J\r\b\x7f\u202e\u2028\x00 {{{{ 'evaluated-' ~ 7*7 }}}} "
        f"{{% for x in range(9) %}}x{{% endfor %}} {{{{ lookup('pipe', 'touch {marker}') }}}}\nfatal: [localhost]: FAILED!"
    )


def environment(site: Site) -> dict[str, str]:
    """Variables for a run that leaves everything it writes below the site's directory."""
    home = site.directory / "home"
    home.mkdir(exist_ok=True)
    return {
        **{f"CANARY_{name}": secret for name, secret in SECRETS.items()},
        **dict.fromkeys(("PROXMOX_USER", "PROXMOX_TOKEN_ID", "PROXMOX_TOKEN_SECRET"), ""),
        "HOME": str(home),
        "TMPDIR": str(home),
        "ANSIBLE_HOME": str(home / "ansible"),
        "ANSIBLE_LOCAL_TEMP": str(home / "local"),
        "ANSIBLE_REMOTE_TEMP": str(home / "remote"),
        "ANSIBLE_LOG_PATH": str(home / "ansible.log"),
    }


def check_outputs(site: Site, run: Run) -> None:
    """No secret in what was shown or left behind, and nothing in it that a terminal would obey."""
    assert leaks(run.stdout) == []
    assert leaks(run.stderr) == []
    for path in site.directory.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert leaks(path.read_text(encoding="utf-8", errors="replace")) == [], path
    for text in (run.stdout, run.stderr):
        bad = {one for one in text if one not in "\n\t\0" and (ord(one) < 32 or 127 <= ord(one) < 160)}
        assert not bad, sorted(bad)
        assert PROOF not in text


TOKEN = {"api_token_id": "root@pam!canary", "api_token_secret": option("TOKEN")}
PASSWORD = {"api_user": "root@pam", "api_password": option("PASSWORD")}

# name -> module, options, whether it fails
TASKS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "token": ("proxmox_vm_power", {**TOKEN, "vmid": 100, "state": "stopped"}, False),
    "password": ("proxmox_vm_power", {**PASSWORD, "vmid": 100, "state": "stopped"}, False),
    "cipassword": (
        "proxmox_vm_config",
        {**TOKEN, "vmid": 100, "cipassword": option("CIPASSWORD"), "ciuser": "me"},
        False,
    ),
    "cipassword again": (
        "proxmox_vm_config",
        {**PASSWORD, "vmid": 100, "cipassword": option("CIPASSWORD"), "update_password": "always"},
        False,
    ),
    "wrong password": (
        "proxmox_vm_power",
        {**PASSWORD, "api_password": option("WRONG"), "vmid": 100, "state": "stopped"},
        True,
    ),
    "wrong secret": (
        "proxmox_vm_power",
        {**TOKEN, "api_token_id": "root@pam!keel", "vmid": 100, "state": "stopped"},
        True,
    ),
    "secret with a line break": (
        "proxmox_vm_power",
        {**TOKEN, "api_token_secret": option("NEWLINE") + "\n", "vmid": 100, "state": "stopped"},
        True,
    ),
    "secret beyond ASCII": (
        "proxmox_vm_power",
        {**TOKEN, "api_token_secret": option("PASSWORD"), "vmid": 100, "state": "stopped"},
        True,
    ),
    "wrong otp": (
        "proxmox_vm_power",
        {
            "api_user": "two@pve",
            "api_password": option("PASSWORD"),
            "api_otp": option("OTP"),
            "vmid": 100,
            "state": "stopped",
        },
        True,
    ),
    "nobody there": ("proxmox_vm_power", {**PASSWORD, "api_port": 1, "vmid": 100, "state": "stopped"}, True),
    "no such host": (
        "proxmox_vm_power",
        {**TOKEN, "api_host": ["x\x1b[31m.invalid"], "vmid": 100, "state": "stopped"},
        True,
    ),
    "no such option": (
        "proxmox_vm_config",
        {**TOKEN, "vmid": 100, "options": {"cipassword": option("CIPASSWORD")}},
        True,
    ),
    "refused with the secret in it": (
        "proxmox_vm_config",
        {**TOKEN, "vmid": 100, "cipassword": option("CIPASSWORD"), "options": {"nonsense": option("TOKEN")}},
        True,
    ),
    "secret as a name": ("proxmox_vm_power", {**TOKEN, "name": option("TOKEN"), "state": "started"}, True),
    "hostile log": ("proxmox_vm_power", {**TOKEN, "vmid": 101, "state": "started"}, True),
    "hostile name": ("proxmox_vm_power", {**TOKEN, "vmid": 101, "name": "other", "state": "started"}, True),
    "hostile description": ("proxmox_vm_config", {**TOKEN, "vmid": 101, "description": "mine", "tags": ["b"]}, False),
}


@pytest.fixture(scope="module")
def played(site: Site) -> Run:
    """Every task in one run of ansible-playbook, as talkative as it gets."""
    tasks: list[dict[str, Any]] = [
        {"name": name, f"keel.proxmox.{module}": options, "register": "answer", "ignore_errors": True, "no_log": False}
        for name, (module, options, _fails) in TASKS.items()
    ]
    tasks.append({"name": "told", "ansible.builtin.debug": {"msg": "{{ answer.diff.before }} {{ answer.guest.name }}"}})
    return site.play(tasks, "-vvvv", "--diff", **environment(site))


@pytest.mark.parametrize("name", TASKS)
def test_tasks_end_as_they_should(played: Run, name: str) -> None:
    result = played.one(name)
    assert (result.outcome == "failed") is TASKS[name][2], result.message
    assert "Traceback" not in json.dumps(result.result)


def test_no_secret_and_no_control_character_is_shown_or_left_behind(site: Site, played: Run) -> None:
    assert played.code == 0, played.stdout[-3000:] + played.stderr[-3000:]
    check_outputs(site, played)


def test_messages_say_what_was_wrong_without_obeying_it(played: Run) -> None:
    failed = played.one("hostile log")
    assert "\\x1b[31mred" in failed.message
    assert "{{ 'evaluated-'" in failed.message
    assert failed.message.isprintable()
    assert all(line.isprintable() for line in failed.result["log"])
    assert "line break" in played.one("secret with a line break").message
    assert "VALUE_SPECIFIED" in json.dumps(played.one("cipassword").result["calls"])


@pytest.mark.parametrize("arguments", [["--list"], ["--graph", "--vars"], ["--list", "--yaml"]], ids=" ".join)
def test_inventory_shows_texts_as_they_are(site: Site, arguments: list[str]) -> None:
    path = inventory(site, facts=["config"], api_token_id="root@pam!canary", api_token_secret=option("TOKEN"))
    run = site.run(["ansible-inventory", "-i", str(path), "-vvvv", *arguments], **environment(site))
    assert run.code == 0, run.stderr
    check_outputs(site, run)
    if arguments == ["--list"]:
        listed = json.loads(run.stdout[run.stdout.index("{") :])["_meta"]["hostvars"]
        (variables,) = [one for one in listed.values() if one["proxmox_vmid"] == 101]
        assert "49" not in variables["proxmox_tags"]


@pytest.mark.parametrize(
    "options",
    [
        {"api_user": "root@pam", "api_password": option("WRONG")},
        {"api_token_id": "root@pam!keel", "api_token_secret": option("TOKEN")},
        {"api_token_id": "root@pam!keel", "api_token_secret": option("PASSWORD")},
        {"api_user": "two@pve", "api_password": option("PASSWORD"), "api_otp": option("OTP")},
        {"api_user": "root@pam", "api_password": option("PASSWORD"), "api_host": ["pve.invalid"]},
    ],
    ids=["password", "secret", "secret beyond ASCII", "otp", "host"],
)
def test_inventory_that_fails_shows_no_secret(site: Site, options: dict[str, Any]) -> None:
    path = inventory(site, **options)
    run = site.run(
        ["ansible-inventory", "-i", str(path), "-vvvv", "--list"],
        **environment(site),
        ANSIBLE_INVENTORY_UNPARSED_FAILED="1",
    )
    assert run.code != 0
    check_outputs(site, run)


def test_the_cache_holds_no_secret(site: Site) -> None:
    cache = site.directory / "cache"
    path = inventory(
        site,
        cache=True,
        cache_plugin="jsonfile",
        cache_connection=str(cache),
        facts=["config"],
        **PASSWORD,
    )
    run = site.run(["ansible-inventory", "-i", str(path), "--list"], **environment(site))
    assert run.code == 0, run.stderr
    assert list(cache.iterdir())
    check_outputs(site, run)


def inventory(site: Site, **options: Any) -> Path:
    path = site.directory / "canary.proxmox.yml"
    path.write_text(yaml.safe_dump({"plugin": "keel.proxmox.proxmox", **options}), encoding="utf-8")
    return path
