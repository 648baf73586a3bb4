//! `linux.netDevices`, `linux.intelRdt`: what a container takes of the host beside files.

use std::process::Command;

use serde_json::json;

use crate::rig::{Rig, can_run};

fn ip(line: &str) {
    let done = Command::new("ip").args(line.split(' ')).output().expect("iproute2");
    assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
}

fn exists(name: &str) -> bool {
    Command::new("ip").args(["link", "show", name]).output().unwrap().status.success()
}

#[test]
fn a_device_moves_with_its_addresses_and_a_new_name() {
    if !can_run() {
        return;
    }
    ip("link add nd-out type veth peer name nd-in");
    ip("addr add 10.99.1.2/24 dev nd-in");
    ip("addr add 2001:db8:9::2/64 dev nd-in nodad");
    ip("link set nd-in up");
    ip("link set nd-out up");
    let rig =
        Rig::script("busybox ip addr show dev eth7; busybox ip -6 addr show dev eth7; ls /sys/class/net")
            .with(|c| c["linux"]["netDevices"] = json!({ "nd-in": { "name": "eth7" } }));
    let said = rig.runtime(&["run", "@c"]).ok();
    for wanted in ["inet 10.99.1.2/24", "inet6 2001:db8:9::2/64", "UP"] {
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
    // A veth goes with the namespace it is in, and its peer with it.
    crate::rig::wait_until("the peer to go", || !exists("nd-out"));
    rig.is_clean();
}

#[test]
fn a_device_keeps_its_name_where_none_is_given() {
    if !can_run() {
        return;
    }
    ip("link add nk-out type veth peer name nk-in");
    let rig =
        Rig::script("busybox ip link show nk-in").with(|c| c["linux"]["netDevices"] = json!({ "nk-in": {} }));
    assert!(rig.runtime(&["run", "@c"]).ok().contains("nk-in"));
    rig.is_clean();
}

#[test]
fn devices_that_cannot_move_are_named_and_nothing_is_left() {
    if !can_run() {
        return;
    }
    let devices =
        |value: serde_json::Value| Rig::new(&["/bin/true"]).with(|c| c["linux"]["netDevices"] = value);
    let rig = devices(json!({ "nosuch7": {} }));
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.err.contains("nosuch7") && said.err.contains("not found"), "{said:?}");
    rig.is_clean();
    let rig = devices(json!({ "a/b": {} }));
    assert!(rig.runtime(&["run", "@c"]).err.contains("invalid network device name"));
    // The name is taken inside: the device stays where it was.
    ip("link add nt-out type veth peer name nt-in");
    let rig = devices(json!({ "nt-in": { "name": "lo" } }));
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.err.contains("nt-in") && exists("nt-in"), "{said:?}");
    rig.is_clean();
    ip("link del nt-out");
    let rig = devices(json!({ "nt-in": {} })).with(|c| {
        let list = c["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|one| one["type"] != "network");
    });
    assert!(rig.runtime(&["run", "@c"]).err.contains("private network namespace"));
}

#[test]
fn rdt_without_the_file_system_is_refused_by_name() {
    if !can_run() || std::path::Path::new("/sys/fs/resctrl/info").exists() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    let said = rig.runtime(&["update", "--l3-cache-schema", "L3:0=f", "@c"]);
    assert!(said.code != 0 && said.err.contains("Intel RDT is not enabled"), "{said:?}");
    let rig =
        Rig::new(&["/bin/true"]).with(|c| c["linux"]["intelRdt"] = json!({ "l3CacheSchema": "L3:0=f" }));
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.code != 0 && said.err.contains("linux.intelRdt: Intel RDT is not enabled"), "{said:?}");
    rig.is_clean();
}
