"""`ansible -m` and module_defaults: the ways in beside a playbook's plain task."""

from __future__ import annotations

from .conftest import Site


def test_ad_hoc(site: Site) -> None:
    interpreter = ["-e", "ansible_python_interpreter={{ ansible_playbook_python }}"]
    run = site.run(
        [
            "ansible",
            "localhost",
            "-m",
            "keel.proxmox.proxmox_vm_clone",
            "-a",
            "source=debian-13 name=adhoc01",
            *interpreter,
        ]
    )
    assert run.code == 0, run.stdout + run.stderr
    assert "CHANGED" in run.stdout
    assert '"name": "adhoc01"' in run.stdout
    assert site.server.token_secret not in run.stdout


def test_a_fleet_ad_hoc(site: Site) -> None:
    for vmid in (150, 151):
        site.cluster.add_vm(vmid, f"fleet{vmid}", node="pve2", disk="shared:1", config={"tags": "fleet"})
    command = [
        "ansible",
        "localhost",
        "-m",
        "keel.proxmox.proxmox_snapshot",
        "-a",
        "tags=fleet snapname=before-upgrade",
    ]
    for changed in ("CHANGED", "SUCCESS"):
        run = site.run(command)
        assert run.code == 0, run.stdout + run.stderr
        assert changed in run.stdout
    assert [site.cluster.guests[vmid].snapshots.keys() for vmid in (150, 151)] == [{"before-upgrade"}] * 2
    shown = site.run([*command[:-1], "tags=fleet snapname=before-upgrade state=absent", "--check", "--diff"])
    assert "--- before: VM 150 (fleet150)" in shown.stdout
    assert "+++ after: VM 151 (fleet151)" in shown.stdout


def test_results_of_a_fleet_are_there_for_later_tasks(site: Site) -> None:
    for vmid, bridge in ((160, "vmbr0"), (161, "vmbr77")):
        net = f"virtio=BC:24:11:00:01:{vmid - 100},bridge={bridge}"
        site.cluster.add_vm(vmid, f"some{vmid}", disk="shared:1", config={"tags": "some", "net0": net})
    run = site.play(
        [
            {
                "name": "start",
                "keel.proxmox.proxmox_vm_power": {"tags": ["some"], "state": "started"},
                "register": "fleet",
                "ignore_errors": True,
            },
            {
                "name": "told",
                "ansible.builtin.debug": {
                    "msg": "{{ fleet.results | rejectattr('failed') | map(attribute='guest.name') | list }}"
                },
            },
        ]
    )
    start = run.one("start")
    assert start.outcome == "failed"
    assert start.changed
    assert start.message.startswith("1 of 2 guests failed. VM 161 (some161):")
    assert "vmbr77" in start.message
    assert run.one("told").result["msg"] == ["some160"]


def test_action_group_gives_defaults(site: Site) -> None:
    """The connection set once for all modules; without it there is no host to talk to."""
    settings = site.environment()
    play = [
        {
            "name": "With defaults",
            "module_defaults": {
                "group/keel.proxmox.proxmox": {
                    "api_host": settings["PROXMOX_HOST"],
                    "api_port": int(settings["PROXMOX_PORT"]),
                    "api_user": settings["PROXMOX_USER"],
                    "api_token_id": settings["PROXMOX_TOKEN_ID"],
                    "api_token_secret": settings["PROXMOX_TOKEN_SECRET"],
                    "ca_path": settings["PROXMOX_CA_PATH"],
                }
            },
            "block": [
                {"name": "stop", "keel.proxmox.proxmox_vm_power": {"vmid": 9000, "state": "stopped"}},
            ],
        }
    ]
    nothing = dict.fromkeys(settings, "")
    run = site.play(play, **nothing)
    assert run.code == 0, run.stdout + run.stderr
    assert not run.one("stop").changed


def test_result_is_complete_and_without_secrets(site: Site) -> None:
    run = site.play(
        [{"name": "clone", "keel.proxmox.proxmox_vm_clone": {"source": "debian-13", "name": "adhoc02"}}], "-vvv"
    )
    assert run.code == 0, run.stdout + run.stderr
    result = run.one("clone").result
    assert result["guest"]["name"] == "adhoc02"
    assert {"vmid", "name", "node", "type", "status", "lock", "tags", "pool"} <= set(result["guest"])
    assert all(call.keys() >= {"method", "path", "params", "summary"} for call in result["calls"])
    assert all(upid.startswith("UPID:") for upid in result["tasks"])
    assert site.server.token_secret not in run.stdout + run.stderr
