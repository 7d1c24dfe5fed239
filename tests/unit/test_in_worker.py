"""Clients that are kept for the items of a loop, and modules run in a process that is not theirs."""

from __future__ import annotations

import datetime
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.keel.proxmox.plugins.module_utils import client, transport
from ansible_collections.keel.proxmox.plugins.module_utils import module as shell
from ansible_collections.keel.proxmox.plugins.module_utils.argspec import AUTH
from ansible_collections.keel.proxmox.plugins.module_utils.clock import MonotonicClock
from ansible_collections.keel.proxmox.plugins.modules import (
    proxmox_snapshot,
    proxmox_vm,
    proxmox_vm_clone,
    proxmox_vm_power,
)
from ansible_collections.keel.proxmox.plugins.plugin_utils import in_worker

OPTIONS: dict[str, Any] = {"api_host": ["pve1"], "api_user": "root@pam", "api_token_id": "ci", "api_token_secret": "s"}
CLOCK = MonotonicClock()


class FakeClient:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeClient]:
    """The clients that were opened."""
    clients: list[FakeClient] = []

    def connect(options: object, clock: object) -> FakeClient:
        clients.append(FakeClient())
        return clients[-1]

    monkeypatch.setattr(shell, "connect", connect)
    return clients


def test_same_options_share_a_client(made: list[FakeClient]) -> None:
    kept = shell.Kept()
    for vmid in (100, 101):
        with kept.opened({**OPTIONS, "vmid": vmid}, CLOCK, surroundings=1):
            pass
    assert [client.closed for client in made] == [False]


@pytest.mark.parametrize(
    ("options", "surroundings"),
    [({**OPTIONS, "api_token_secret": "t"}, 1), ({**OPTIONS, "api_port": 1}, 1), (OPTIONS, 2)],
)
def test_other_options_open_another(made: list[FakeClient], options: dict[str, Any], surroundings: int) -> None:
    kept = shell.Kept()
    with kept.opened(OPTIONS, CLOCK, surroundings=1):
        pass
    with kept.opened(options, CLOCK, surroundings=surroundings):
        pass
    assert [client.closed for client in made] == [True, False]
    kept.close()
    assert made[1].closed


def test_a_client_that_was_interrupted_is_not_used_again(made: list[FakeClient]) -> None:
    kept = shell.Kept()
    with pytest.raises(KeyboardInterrupt), kept.opened(OPTIONS, CLOCK):
        raise KeyboardInterrupt
    with kept.opened(OPTIONS, CLOCK):
        pass
    assert [client.closed for client in made] == [True, False]


def test_a_fleet_that_is_refused_leaves_the_connection_to_the_next_item(
    made: list[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a one-time password a second login would be refused."""
    monkeypatch.setattr(in_worker, "_KEPT", {})
    monkeypatch.setattr(FakeClient, "get", lambda self, path, **query: [], raising=False)
    for options, says in (({"vmids": [100]}, "there is no guest 100"), ({"names": ["~x"]}, "No guest is meant")):
        # A secret of one letter would be masked in every word.
        given = {**OPTIONS, "api_token_secret": "0815", **options, "state": "started"}
        result = in_worker.run_here(proxmox_vm_power, "x", given, check_mode=False)
        assert result["failed"]
        assert result["results"] == []
        assert says in result["msg"]
    assert [client.closed for client in made] == [False]


def test_a_process_has_clients_of_its_own(made: list[FakeClient], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_worker, "_KEPT", {})
    for pid in (1, 2, 1):
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        with in_worker._client(OPTIONS, CLOCK):
            pass
    assert len(made) == 2


def test_environment_and_directory_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXMOX_USER", "before")
    before, there = dict(os.environ), os.getcwd()
    seen = []

    def use() -> None:
        with in_worker._surroundings({"PROXMOX_USER": "within", "PROXMOX_PORT": 8007}, str(tmp_path)):
            seen.extend([os.environ["PROXMOX_USER"], os.environ["PROXMOX_PORT"], os.getcwd()])
            raise KeyError

    with pytest.raises(KeyError):
        use()
    assert seen == ["within", "8007", str(tmp_path.resolve())]
    assert (dict(os.environ), os.getcwd()) == (before, there)


def test_arguments_are_what_json_makes_of_them() -> None:
    class Text(str):
        pass

    given = {"a": Text("x"), "b": ("y", {1: None}), "c": datetime.date(2026, 11, 21), "d": {"z"}}
    plain = in_worker._plain(given)
    assert plain == {"a": "x", "b": ["y", {"1": None}], "c": "2026-11-21", "d": ["z"]}
    assert plain["a"].__class__.__name__ == "str"


def test_both_option_and_alias_is_a_warning() -> None:
    given = {"vmid": 100, "snapname": "a", "snapshot": "bc", "state": "absent"}
    result = in_worker.run_here(proxmox_snapshot, "x", given, check_mode=False)
    assert result["warnings"] == ["Both option snapname and its alias snapshot are set."]
    assert "api_host" in result["msg"]


def test_a_bug_is_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **keywords: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(in_worker, "execute", broken)
    with pytest.raises(ZeroDivisionError):
        in_worker.run_here(proxmox_vm_power, "x", {"vmid": 1, "state": "started"}, check_mode=False)


def test_authorities_of_the_system_are_loaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = transport.Endpoint(("pve1",))
    first = transport.tls_context(endpoint)
    assert transport.tls_context(endpoint) is first
    assert (first.verify_mode, first.check_hostname) == (ssl.CERT_REQUIRED, True)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    assert transport.tls_context(endpoint) is not first


@pytest.mark.parametrize("option", ["api_fingerprint", "ca_path"])
def test_an_empty_option_does_not_switch_checks_off(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(client, "Transport", lambda endpoint, connections: seen.append(endpoint))
    blank = {"api_port": 8006, "api_timeout": 35.0, "validate_certs": True, "api_user": "a@pve", "api_token_id": "t"}
    client.connect({**blank, "api_host": ["pve1"], "api_token_secret": "s", option: ""})
    assert (seen[0].fingerprint, seen[0].ca_path) == (None, None)
    context = transport.tls_context(seen[0])
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize("option", sorted(AUTH))
def test_an_empty_variable_of_the_environment_says_nothing(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field of a credential that was left out is an empty variable in AWX."""
    for rules in AUTH.values():
        monkeypatch.delenv(rules["fallback"][1][0], raising=False)
    monkeypatch.setenv(AUTH[option]["fallback"][1][0], "")
    checked = ArgumentSpecValidator(AUTH).validate({})
    assert (checked.error_messages, checked.validated_parameters[option]) == ([], AUTH[option].get("default"))


@pytest.mark.parametrize("unchecked", [{"validate_certs": False}, {"fingerprint": "00"}])
def test_settings_that_check_nothing_are_never_the_shared_ones(unchecked: dict[str, Any]) -> None:
    shared = transport.tls_context(transport.Endpoint(("pve1",)))
    own = transport.tls_context(transport.Endpoint(("pve1",), **unchecked))
    assert (own.verify_mode, own.check_hostname) == (ssl.CERT_NONE, False)
    assert (shared.verify_mode, shared.check_hostname) == (ssl.CERT_REQUIRED, True)


HOST = {"proxmox_vmid": 100, "proxmox_node": "pve2", "proxmox_type": "lxc"}
HINT = {"node": "pve2", "type": "lxc"}


@pytest.mark.parametrize(
    ("module", "options", "host", "expected"),
    [
        (proxmox_vm_power, {"vmid": 100}, HOST, HINT),
        (proxmox_vm_power, {"vmid": 100, "type": "lxc"}, HOST, HINT),
        (proxmox_vm_power, {"vmid": 100}, {**HOST, "proxmox_vmid": "100"}, HINT),
        # Another guest, or one that is found by its name, or whose node or type the user names.
        (proxmox_vm_power, {"vmid": 101}, HOST, {}),
        (proxmox_vm_power, {"name": "web"}, HOST, {}),
        (proxmox_vm_power, {"vmid": 100, "node": "pve3"}, HOST, {}),
        (proxmox_vm_power, {"vmid": 100, "type": "qemu"}, HOST, {}),
        # No host of this inventory, or variables that somebody else made.
        (proxmox_vm_power, {"vmid": 100}, {}, {}),
        (proxmox_vm_power, {"name": "web"}, {**HOST, "proxmox_vmid": None}, {}),
        (proxmox_vm_power, {"vmid": 100}, {**HOST, "proxmox_node": "../../access"}, {}),
        (proxmox_vm_power, {"vmid": 100}, {**HOST, "proxmox_node": ["pve2"]}, {}),
        (proxmox_vm_power, {"vmid": 100}, {**HOST, "proxmox_type": "openvz"}, {}),
        (proxmox_vm_power, {"vmid": 100}, {**HOST, "proxmox_type": None}, {}),
        # A module whose VMID is that of a guest to be made.
        (proxmox_vm_clone, {"vmid": 100}, HOST, {}),
        # One whose node and type say where and what the guest is to be.
        (proxmox_vm, {"vmid": 100}, HOST, {}),
    ],
)
def test_the_inventory_knows_where_its_host_is(
    module: Any, options: dict[str, Any], host: dict[str, Any], expected: dict[str, str]
) -> None:
    blank = dict.fromkeys(("vmid", "name", "node", "type"))
    assert in_worker.whereabouts(module, {**blank, **options}, host) == expected
