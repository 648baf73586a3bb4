//! Labels of AppArmor and SELinux where the kernel has neither: what was asked for is missed, and named. (With AppArmor:
//! tests/vm/50-apparmor.)

use std::path::Path;

use crate::rig::{Rig, can_run};

#[test]
fn an_apparmor_profile_without_apparmor() {
    if !can_run() {
        return;
    }
    if Path::new("/sys/module/apparmor").exists() {
        eprintln!("SKIPPED: this kernel has AppArmor");
        return;
    }
    let rig =
        Rig::new(&["/bin/sleep", "1000"]).with(|config| config["process"]["apparmorProfile"] = "x".into());
    let line = rig.runtime(&["run", "@c"]).fails(125);
    assert!(line.contains("AppArmor profile x: this kernel has no AppArmor"), "{line}");
    rig.is_clean();
    // What is asked for is what there is.
    let rig = rig.with(|config| config["process"]["apparmorProfile"] = "unconfined".into());
    rig.runtime(&["run", "-d", "@d"]).ok();
    rig.runtime(&["exec", "--apparmor", "unconfined", "@d", "/bin/true"]).ok();
    let line = rig.runtime(&["exec", "--apparmor", "y", "@d", "/bin/true"]).fails(125);
    assert!(line.contains("AppArmor profile y"), "{line}");
}

#[test]
fn selinux_labels_without_selinux() {
    if !can_run() {
        return;
    }
    if Path::new("/sys/fs/selinux/enforce").exists() {
        eprintln!("SKIPPED: SELinux runs here");
        return;
    }
    let label = "system_u:system_r:container_t:s0";
    let rig =
        Rig::new(&["/bin/sleep", "1000"]).with(|config| config["process"]["selinuxLabel"] = label.into());
    let line = rig.runtime(&["run", "@c"]).fails(125);
    assert!(line.contains("SELinux is disabled"), "{line}");
    let rig = rig.with(|config| {
        config["process"].as_object_mut().unwrap().remove("selinuxLabel");
        config["linux"]["mountLabel"] = label.into();
    });
    let line = rig.runtime(&["run", "@c"]).fails(125);
    assert!(line.contains("linux.mountLabel: SELinux is disabled"), "{line}");
    rig.is_clean();
    let rig = rig.with(|config| _ = config["linux"].as_object_mut().unwrap().remove("mountLabel"));
    rig.runtime(&["run", "-d", "@d"]).ok();
    let line = rig.runtime(&["exec", "--process-label", label, "@d", "/bin/true"]).fails(125);
    assert!(line.contains("SELinux is disabled"), "{line}");
}
