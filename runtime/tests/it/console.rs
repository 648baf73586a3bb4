//! Devices of an image without a `/dev` of its own mount, which lead out of it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use serde_json::json;

use crate::rig::{Rig, Said, can_run};

/// A run whose `/dev/NAME` is a link to a file of the host; the file must be as it was.
fn with_link(name: &str, terminal: bool, readonly: bool, uid: u32) -> Said {
    let rig = Rig::new(&["/bin/true"]);
    let outside = rig.path().join("outside");
    fs::write(&outside, "host data").unwrap();
    fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
    fs::create_dir_all(rig.rootfs().join("dev/pts")).unwrap();
    symlink(format!("../../../../../../..{}", outside.display()), rig.rootfs().join("dev").join(name))
        .unwrap();
    let rig = rig.with(|config| {
        config["process"]["terminal"] = terminal.into();
        config["process"]["user"] = json!({ "uid": uid, "gid": uid });
        config["root"]["readonly"] = readonly.into();
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| {
            let place = mount["destination"].as_str().unwrap();
            !place.starts_with("/dev") || place == "/dev/pts"
        });
    });
    let said = rig.runtime(&["run", "@c"]);
    let meta = fs::symlink_metadata(&outside).unwrap();
    assert_eq!((meta.uid(), meta.mode() & 0o7777, meta.len()), (0, 0o600, 9), "{name}: {said:?}");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(outside.to_str().unwrap()));
    rig.is_clean();
    said
}

/// CVE-2025-52565, CVE-2026-88264: the terminal is mounted over what the image has at `/dev/console`.
#[test]
fn a_console_that_leads_out() {
    if !can_run() {
        return;
    }
    for readonly in [false, true] {
        for uid in [0, 1000] {
            let line = with_link("console", true, readonly, uid).fails(125);
            assert!(line.contains("/dev/console: it is a symbolic link"), "{line}");
            with_link("console", false, readonly, uid).ok();
        }
    }
}

/// CVE-2026-88265: the null device is opened for the program's input, and given to its user.
#[test]
fn a_null_device_that_leads_out() {
    if !can_run() {
        return;
    }
    for readonly in [false, true] {
        for uid in [0, 1000] {
            let line = with_link("null", false, readonly, uid).fails(125);
            assert!(line.contains("/dev/null: something else is there already"), "{line}");
        }
    }
}
