//! In a user namespace with one mapped id, by an ordinary user and by root, as `spec --rootless` has it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::rig::{Rig, Said, can_run, run, runtime};

/// Nobody in particular.
const USER: u32 = 65_534;

/// Gives a tree to the user. Links are left: they are only ever read.
fn give(path: &Path, user: u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    if meta.is_symlink() {
        return;
    }
    std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    if meta.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

/// Runs a shell script in a container that `user` makes.
fn as_user(user: u32, script: &str, change: impl FnOnce(&mut Value)) -> (Rig, Said) {
    let mut rig = Rig::new(&["/bin/true"]);
    fs::remove_file(rig.bundle().join("config.json")).unwrap();
    rig.runtime(&["spec", "--rootless"]).ok();
    let text = fs::read_to_string(rig.bundle().join("config.json")).unwrap();
    rig.config = serde_json::from_str(&text).unwrap();
    let mut rig = rig.with(|config| {
        config["process"]["terminal"] = false.into();
        config["process"]["args"] = json!(["/bin/sh", "-c", script]);
        for map in ["uidMappings", "gidMappings"] {
            config["linux"][map][0]["hostID"] = user.into();
        }
    });
    change(&mut rig.config);
    rig.save();
    // Where the test was built may be closed to others.
    let program = rig.path().join("runtime");
    fs::copy(runtime(), &program).unwrap();
    give(rig.path(), user);
    let mut command = std::process::Command::new(program);
    command.arg("--root").arg(rig.root()).arg("run").arg(rig.id("c")).current_dir(rig.bundle());
    command.stdin(std::process::Stdio::null()).uid(user).gid(user);
    let said = run(&mut command);
    (rig, said)
}

/// CVE-2014-8989: who may drop a group would get by denials that are for that group.
#[test]
fn groups_cannot_be_dropped() {
    if !can_run() {
        return;
    }
    let (_rig, said) = as_user(USER, "cat /proc/self/setgroups; cat /proc/self/uid_map", |_| {});
    let out = said.ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words, ["deny", "0", "65534", "1"]);
    // Groups that are not mapped are asked for in vain.
    let (_rig, said) = as_user(USER, "id", |config| config["process"]["user"]["additionalGids"] = json!([5]));
    let line = said.fails(125);
    assert!(line.contains("additionalGids: cannot be set"), "{line}");
}

/// CVE-2023-25809: without a cgroup namespace the host's hierarchy must not be writable: not even for one whose files they
/// are, which the host's root is in a user namespace too.
#[test]
fn the_hosts_cgroups_are_read_only() {
    if !can_run() {
        return;
    }
    let script = "for d in /sys/fs/cgroup /sys/fs/cgroup/*; do busybox mkdir $d/y && busybox rmdir $d/y && echo $d; done 2>/dev/null; echo done";
    let written = |options: Option<&[&str]>| {
        let (_rig, said) = as_user(0, script, |config| {
            let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
            let mounts = config["mounts"].as_array_mut().unwrap();
            let cgroups = mounts.iter_mut().find(|mount| mount["type"] == "cgroup").unwrap();
            if let Some(options) = options {
                cgroups["options"] = json!(options);
            }
        });
        said.ok()
    };
    assert_eq!(written(None), "done\n");
    // Where it is asked for, its own can be written to: the test above sees what it looks for.
    assert!(written(Some(&["rw"])).lines().count() > 1);
}

/// Runs a shell script as root of a user namespace, as `unshare` makes it: in `root`, with these words of environment.
fn in_user_namespace(rig: &Rig, script: &str, environment: &[(&str, &str)]) -> Said {
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "/bin/sh", "-c", script]);
    command.env_clear().envs(environment.iter().copied()).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    command.env("RUNTIME", runtime()).env("ID", rig.id("c")).current_dir(rig.bundle());
    run(command.stdin(std::process::Stdio::null()))
}

/// There is but one group to give a terminal to.
fn without_groups(config: &mut Value) {
    for mount in config["mounts"].as_array_mut().unwrap().iter_mut().filter(|mount| mount["type"] == "devpts")
    {
        mount["options"].as_array_mut().unwrap().retain(|option| option != "gid=5");
    }
}

/// A runtime that is root of a user namespace (in a container, or where podman without privileges starts it) makes
/// containers there, with cgroups or without; what the machine's root alone may do it leaves out.
#[test]
fn root_of_a_user_namespace_makes_containers() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("cat /proc/self/uid_map").with(|config| {
        config["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
        without_groups(config);
    });
    for prepare in ["", "mount -t tmpfs tmpfs /sys/fs/cgroup; "] {
        let said = in_user_namespace(&rig, &format!("{prepare}$RUNTIME --root \"$PWD/state\" run $ID"), &[]);
        let words: Vec<String> = said.ok().split_whitespace().map(str::to_owned).collect();
        assert_eq!(words, ["0", "0", "1"], "{prepare}");
    }
    // A limit cannot be had without a cgroup, and is missed.
    let rig = rig.with(|config| config["linux"]["resources"]["memory"] = json!({"limit": 33_554_432}));
    let script = "mount -t tmpfs tmpfs /sys/fs/cgroup; $RUNTIME --root \"$PWD/state\" run $ID";
    let line = in_user_namespace(&rig, script, &[]).fails(125);
    assert!(line.contains("limits are asked for"), "{line}");
}

/// Where the containers of such a root are, when nobody says: with the user's, unless it is called root.
#[test]
fn the_state_of_a_users_namespace_is_the_users() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]).with(without_groups);
    let own = rig.path().to_str().unwrap().to_owned();
    let script = "$RUNTIME run -d $ID </dev/null >/dev/null; $RUNTIME list -q; $RUNTIME delete --force $ID";
    assert_eq!(in_user_namespace(&rig, script, &[("XDG_RUNTIME_DIR", &own)]).ok().trim_end(), rig.id("c"));
    assert!(rig.path().join("bulkhead/runtime").is_dir());
    // A machine of its own, whose root is not told from the real one: its /run.
    let script = "mount -t tmpfs tmpfs /run; $RUNTIME run -d $ID </dev/null >/dev/null; ls /run/bulkhead/runtime; $RUNTIME delete --force $ID";
    let environment = [("XDG_RUNTIME_DIR", own.as_str()), ("USER", "root")];
    assert_eq!(in_user_namespace(&rig, script, &environment).ok().trim_end(), rig.id("c"));
}

/// Where the host's mounts are shared, as systemd has them, the copy of the root file system for a user namespace is cut
/// off from them: `pivot_root(2)` takes no shared root, and what is mounted in the container stays there.
#[test]
fn a_user_namespace_on_a_host_whose_mounts_are_shared() {
    if !can_run() {
        return;
    }
    for propagation in ["", "private", "slave", "shared"] {
        let rig = Rig::script("mount -t tmpfs tmpfs /tmp && touch /tmp/inside && echo done").with(|config| {
            let linux = &mut config["linux"];
            linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
            linux["uidMappings"] = json!([{"containerID": 0, "hostID": 0, "size": 100}]);
            linux["gidMappings"] = linux["uidMappings"].clone();
            if !propagation.is_empty() {
                linux["rootfsPropagation"] = propagation.into();
            }
            config["process"]["capabilities"] = json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]});
        });
        let mut command = std::process::Command::new("unshare");
        command.args(["--mount", "--propagation", "shared", "/bin/sh", "-c"]);
        command.arg("$RUNTIME --root \"$PWD/state\" run $ID && ls rootfs/tmp").env("ID", rig.id("c"));
        command.env("RUNTIME", runtime()).current_dir(rig.bundle()).stdin(std::process::Stdio::null());
        assert_eq!(run(&mut command).ok(), "done\n", "{propagation:?}");
    }
}

/// Who owns the user namespace but not the network's may not mount a fresh one (runc issue 5016).
#[test]
fn sys_is_the_hosts_where_the_network_is() {
    if !can_run() {
        return;
    }
    let script = "grep ' /sys' /proc/mounts; ls /sys/kernel >/dev/null && touch /sys/x";
    let rig = Rig::script(script);
    let rig = rig.with(|config| {
        let map = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|one| one["type"] != "network");
        list.push(json!({ "type": "user" }));
    });
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.code == 1 && said.out.contains(" /sys sysfs ro,"), "{said:?}");
    assert!(said.err.contains("Read-only file system"), "{said:?}");
    // With all that the host has mounted in it: for root of these ids some could be written to.
    assert!(
        said.out.lines().all(|line| line.split(' ').nth(3).is_some_and(|options| options.starts_with("ro"))),
        "{said:?}"
    );
    rig.is_clean();
}

/// On version 1 systemd can give an ordinary user nothing.
#[test]
fn systemd_on_version_1_is_roots() {
    if !can_run() || !Path::new("/sys/fs/cgroup/systemd").exists() {
        return;
    }
    let (rig, said) = as_user(USER, "true", |_| {});
    said.ok();
    let mut command = std::process::Command::new(rig.path().join("runtime"));
    command
        .arg("--root")
        .arg(rig.root())
        .args(["--systemd-cgroup", "run"])
        .arg(rig.id("c"))
        .current_dir(rig.bundle());
    command.stdin(std::process::Stdio::null()).uid(USER).gid(USER);
    assert!(run(&mut command).fails(125).contains("needs cgroup v2"));
    rig.is_clean();
}
