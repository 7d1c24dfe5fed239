from __future__ import annotations
import re
import pytest
from tests.simulator import Fault
from .scenarios import Scenario, configs, container
from .world import make_world
EXTRA = [
  Scenario("proxmox_vm_config","import-grow",{"vmid":101,"disks":{"scsi1":{"storage":"local-lvm","size":3},"scsi0":{"size":12}},"cores":3}),
  Scenario("proxmox_vm_config","ci",{"vmid":100,"ciuser":"bob","ipconfig":{"ipconfig0":{"ip":"10.0.0.2/24"}}}),
  Scenario("proxmox_vm_config","ci-reboot",{"vmid":100,"ciuser":"bob","cores":4,"reboot":"if_required","disks":{"scsi0":{"size":20,"ssd":True}}}),
  Scenario("proxmox_vm_config","ct-all",{"vmid":200,"cores":2,"features":"nesting=1","disks":{"rootfs":{"size":8},"mp0":{"storage":"local-lvm","size":1,"mp":"/d"}},"reboot":"if_required"},setup=container),
  Scenario("proxmox_vm_config","cd-boot",{"vmid":101,"disks":{"ide0":{"cdrom":"none"}},"boot":["net0","scsi0"]}),
]
ALL=[s for s in configs() if s.name in ("net-new","reboot","grow-and-more")]+EXTRA
V=re.compile(r"BC:24:11:[0-9A-F:]+|disk-\d+|[0-9a-f]{8}-[0-9a-f-]{27}|ctime=\d+|[0-9a-f]{40}")
def final(w):
    w.settle()
    st=w.cluster.state()["guests"]
    return {f"{g} {part} {k}": V.sub("X",repr(v)) for g,d in st.items() for part in ("config","pending") for k,v in (d.get(part) or {}).items()}
@pytest.mark.parametrize("s",ALL,ids=str)
def test_faults(s, monkeypatch):
    w=make_world(monkeypatch,s.setup); r=w.run(s.module,dict(s.options)); assert not r["failed"],r["msg"]
    n=len(w.cluster.log); want=final(w)
    bad=[]
    for kind,when in (("reset","before"),("reset","after"),(596,"after"),("lock_timeout","before"),("no_worker_upid","before"),("active_lock","after")):
        for k in range(1,n+1):
            monkeypatch.undo(); w=make_world(monkeypatch,s.setup)
            w.cluster.add_fault(Fault(nth=k,when=when,kind=kind))
            r1=w.run(s.module,dict(s.options))
            w.cluster.faults.clear()
            r2=w.run(s.module,dict(s.options))
            if r2["failed"]: bad.append((kind,when,k,"again failed",r2["msg"])); continue
            f=final(w)
            d={x:(want.get(x),f.get(x)) for x in want.keys()|f.keys() if want.get(x)!=f.get(x)}
            if d: bad.append((kind,when,k,"differs",r1["failed"],r1.get("msg"),d))
            r3=w.run(s.module,dict(s.options))
            if r3["changed"]: bad.append((kind,when,k,"third changes",r3["calls"]))
    assert not bad, "\n".join(map(str,bad[:12]))
