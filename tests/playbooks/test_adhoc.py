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
