//! Ways out of a container that other runtimes had: what each case would have done there is in its CVE.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::rig::{Rig, can_run, runtime};

/// CVE-2024-21626: a descriptor of the host as working directory.
#[test]
fn a_working_directory_outside() {
    if !can_run() {
        return;
    }
    for number in 3..12 {
        let cwd = format!("/proc/self/fd/{number}");
        let rig = Rig::script("cat ../../../../../../../etc/shadow; ls")
            .with(|config| config["process"]["cwd"] = cwd.clone().into());
        let said = rig.runtime(&["run", "@c"]);
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{cwd}: {said:?}");
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    for number in 3..12 {
        let said = rig.runtime(&["exec", "--cwd", &format!("/proc/self/fd/{number}"), "@c", "/bin/ls"]);
        assert_eq!((said.code, said.out.as_str()), (125, ""), "{number}: {said:?}");
    }
}

/// CVE-2019-5736: the runtime's own program, executed inside through a link.
#[test]
fn the_runtimes_program_cannot_be_written() {
    if !can_run() {
        return;
    }
    let before = fs::read(runtime()).unwrap();
    // `exec` of the link runs the runtime itself in the container, while a process there tries to write to it.
    let rig = Rig::script("while :; do for p in /proc/[0-9]*; do echo evil > $p/exe; done 2>/dev/null; done");
    fs::write(rig.rootfs().join("bin/loop"), "#!/proc/self/exe --help\n").unwrap();
    fs::set_permissions(rig.rootfs().join("bin/loop"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    rig.runtime(&["run", "-d", "@c"]).ok();
    for _ in 0..10 {
        rig.runtime(&["exec", "@c", "/bin/loop"]);
    }
    assert!(fs::read(runtime()).unwrap() == before, "the runtime's program was changed");
}

/// CVE-2019-19921, CVE-2023-27561: `/proc` as a link.
#[test]
fn proc_must_be_a_directory() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    fs::remove_dir(rig.rootfs().join("proc")).unwrap();
    symlink("/tmp", rig.rootfs().join("proc")).unwrap();
    let line = rig.runtime(&["run", "@c"]).fails(125);
    assert!(line.contains("must be mounted on an ordinary directory"), "{line}");
}

/// CVE-2026-41579, CVE-2026-47766: `/dev` as a link and nothing mounted there.
#[test]
fn dev_must_be_a_directory() {
    if !can_run() {
        return;
    }
    for terminal in [false, true] {
        let rig = Rig::new(&["/bin/true"]).with(|config| {
            config["process"]["terminal"] = terminal.into();
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
        });
        let target = rig.path().join("target");
        fs::create_dir(&target).unwrap();
        fs::remove_dir(rig.rootfs().join("dev")).unwrap();
        symlink(format!("../../../../../../..{}", target.display()), rig.rootfs().join("dev")).unwrap();
        rig.runtime(&["run", "@c"]).fails(125);
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    }
}

/// CVE-2025-31133: the container's `/dev/null` as the mask.
#[test]
fn a_mask_is_the_hosts_null() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("cat /etc/secret; stat -c '%t %T' /etc/secret").with(|config| {
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/dev");
        config["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev/"));
        config["linux"]["maskedPaths"] = json!(["/etc/secret"]);
    });
    fs::write(rig.rootfs().join("etc/secret"), "secret").unwrap();
    fs::write(rig.rootfs().join("etc/other"), "other").unwrap();
    symlink("/etc/other", rig.rootfs().join("dev/null")).unwrap();
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.out.is_empty() || said.out == "1 3\n", "{said:?}");
}

/// CVE-2019-18837 and its like: links on the way to a mount's place.
#[test]
fn links_on_the_way_stay_inside() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("ls /inside");
    let outside = rig.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, rig.rootfs().join("absolute")).unwrap();
    symlink("../../outside", rig.rootfs().join("relative")).unwrap();
    for link in ["absolute", "relative"] {
        let rootfs = rig.rootfs();
        let config = {
            let mut config = rig.config.clone();
            config["mounts"]
                .as_array_mut()
                .unwrap()
                .push(json!({ "destination": format!("/{link}/made"), "type": "tmpfs", "source": "tmpfs" }));
            config
        };
        fs::write(rig.bundle().join("config.json"), config.to_string()).unwrap();
        rig.runtime(&["run", "@c"]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{link}");
        assert!(rootfs.exists());
    }
}

/// CVE-2016-9962 and the like: what the runtime has open is not the program's.
#[test]
fn no_descriptor_is_inherited() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("ls /proc/self/fd; sleep 1000");
    let inner = "for fd in /proc/self/fd/*; do readlink $fd; done; true";
    rig.runtime(&["run", "-d", "@c"]).ok();
    let out = rig.runtime(&["exec", "@c", "/bin/sh", "-c", inner]).ok();
    assert!(out.lines().count() <= 4, "{out}");
    assert!(!out.contains("state.json") && !out.contains("cgroup") && !out.contains("/proc"), "{out}");
}

/// CVE-2021-43784: more maps than a short length could hold.
#[test]
fn very_many_arguments() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("echo ${#BIG}").with(|config| {
        let big = format!("BIG={}", "x".repeat(70 << 10));
        config["process"]["env"].as_array_mut().unwrap().push(big.into());
    });
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), format!("{}\n", 70 << 10));
}
