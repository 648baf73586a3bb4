//! What may stand at `/proc`, and where writes to it go.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::rig::{Rig, can_run};

/// CVE-2019-16884: with a `/proc` of the image's making, labels would be written to its files.
#[test]
fn only_proc_covers_proc() {
    if !can_run() {
        return;
    }
    let fake = tempfile::tempdir().unwrap();
    for (place, mount) in [
        ("/proc", json!({ "type": "bind", "source": fake.path(), "options": ["rbind"] })),
        ("/proc", json!({ "type": "tmpfs", "source": "tmpfs" })),
        ("/proc/", json!({ "type": "tmpfs", "source": "tmpfs" })),
        ("/etc/../proc", json!({ "type": "bind", "source": fake.path(), "options": ["rbind"] })),
        ("/proc/self/attr", json!({ "type": "bind", "source": fake.path(), "options": ["rbind"] })),
        ("/etc/../proc/sys", json!({ "type": "tmpfs", "source": "tmpfs" })),
    ] {
        let mut mount = mount;
        mount["destination"] = place.into();
        let rig = Rig::new(&["/bin/true"])
            .with(|config| config["mounts"].as_array_mut().unwrap().push(mount.clone()));
        let line = rig.runtime(&["run", "@c"]).fails(125);
        assert!(line.contains("/proc"), "{mount}: {line}");
        rig.is_clean();
    }
    // The host's own is proc.
    let rig = Rig::new(&["/bin/cat", "/proc/self/comm"]).with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/proc");
        mounts
            .push(json!({ "destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"] }));
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
    });
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "cat\n");
}

/// The same through a link of the image: a volume lands on `/proc`, and the runtime's writes do not.
#[test]
fn a_link_to_proc_does_not_redirect_writes() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/cat", "/data/sys/kernel/shmmni"]);
    let volume = rig.path().join("volume");
    fs::create_dir_all(volume.join("sys/kernel")).unwrap();
    fs::write(volume.join("sys/kernel/shmmni"), "mine\n").unwrap();
    symlink("/proc", rig.rootfs().join("data")).unwrap();
    let rig = rig.with(|config| {
        config["linux"]["sysctl"] = json!({ "kernel.shmmni": "4242" });
        let mount = json!({ "destination": "/data", "type": "bind", "source": volume, "options": ["rbind"] });
        config["mounts"].as_array_mut().unwrap().push(mount);
    });
    let said = rig.runtime(&["run", "@c"]);
    assert_eq!((said.code, said.out.as_str()), (0, "mine\n"), "{said:?}");
    assert_eq!(fs::read_to_string(volume.join("sys/kernel/shmmni")).unwrap(), "mine\n");
}
