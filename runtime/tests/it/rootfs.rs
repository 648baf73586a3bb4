//! The root file system: mounts, masks, devices.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use serde_json::json;

use crate::rig::{Rig, can_run};

#[test]
fn masked_and_read_only_paths() {
    if !can_run() {
        return;
    }
    let script = "cat /etc/secret; ls /masked; touch /readonly/x; touch /masked/x; touch /tmp/ok && echo end";
    let rig = Rig::script(script).with(|config| {
        config["linux"]["maskedPaths"] = json!(["/etc/secret", "/masked", "/missing", "/etc/secret/below"]);
        config["linux"]["readonlyPaths"] = json!(["/readonly", "/missing"]);
    });
    for name in ["masked", "readonly"] {
        fs::create_dir(rig.rootfs().join(name)).unwrap();
        fs::write(rig.rootfs().join(name).join("file"), "secret").unwrap();
    }
    fs::write(rig.rootfs().join("etc/secret"), "secret").unwrap();
    let said = rig.runtime(&["run", "@c"]);
    assert_eq!(said.out, "end\n", "{said:?}");
    assert_eq!(said.err.matches("Read-only file system").count(), 2, "{said:?}");
}

#[test]
fn a_read_only_root() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("touch /x; touch /dev/shm/y && echo shm")
        .with(|config| config["root"]["readonly"] = true.into());
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.err.contains("Read-only file system"), "{said:?}");
    assert_eq!(said.out, "shm\n");
}

#[test]
fn bind_mounts_make_their_places() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("cat /new/deep/file /dir/file; touch /dir/x; grep ' /dir ' /proc/self/mountinfo");
    let source = rig.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "text\n").unwrap();
    let rig = rig.with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/new/deep/file", "source": source.join("file"), "options": ["bind"] }));
        mounts.push(json!({ "destination": "/dir", "source": source, "options": ["rbind", "ro", "nosuid", "rprivate"] }));
    });
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.err.contains("Read-only file system"), "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert_eq!(lines[..2], ["text", "text"]);
    let fields: Vec<&str> = lines[2].split(' ').collect();
    assert!(fields[5].starts_with("ro,nosuid"), "{fields:?}");
    assert_eq!(fields[6], "-", "private: no peer group: {fields:?}");
}

#[test]
fn a_read_only_tmpfs_is_filled_first() {
    if !can_run() {
        return;
    }
    // As podman's --read-only --read-only-tmpfs=false has it: devices, pts and more go into a /dev that is read-only.
    let script = "echo x >/dev/null && ls /dev/pts/ptmx; touch /dev/x /ro/x; ls /ro";
    let rig = Rig::script(script).with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        for mount in mounts.iter_mut().filter(|mount| mount["destination"] == "/dev") {
            mount["options"].as_array_mut().unwrap().push(json!("ro"));
        }
        mounts.push(json!({ "destination": "/ro", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] }));
        mounts.push(json!({ "destination": "/ro/in", "type": "tmpfs", "source": "tmpfs", "options": [] }));
    });
    let said = rig.runtime(&["run", "@c"]);
    assert_eq!(said.out, "/dev/pts/ptmx\nin\n", "{said:?}");
    assert_eq!(said.err.matches("Read-only file system").count(), 2, "{said:?}");
}

#[test]
fn tmpcopyup_starts_with_what_it_covers() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("cat /data/sub/file; readlink /data/link; stat -c '%a %u' /data/sub; touch /data/new").with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "mode=755"] }));
    });
    let sub = rig.rootfs().join("data/sub");
    fs::create_dir_all(&sub).unwrap();
    fs::write(sub.join("file"), "text\n").unwrap();
    std::os::unix::fs::symlink("/away", rig.rootfs().join("data/link")).unwrap();
    std::os::unix::fs::chown(&sub, Some(77), None).unwrap();
    fs::set_permissions(&sub, std::os::unix::fs::PermissionsExt::from_mode(0o751)).unwrap();
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "text\n/away\n751 77\n");
    assert!(!rig.rootfs().join("data/new").exists());
}

#[test]
fn devices() {
    if !can_run() {
        return;
    }
    let script = "stat -c '%F %t %T %a %u' /dev/null /dev/mine; readlink /dev/ptmx; readlink /dev/fd; stat -c %F /sub/fifo";
    let rig = Rig::script(script).with(|config| {
        config["linux"]["devices"] = json!([
            { "path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 9 },
            { "path": "/sub/fifo", "type": "p" },
        ]);
    });
    let out = rig.runtime(&["run", "@c"]).ok();
    assert_eq!(
        out,
        "character special file 1 3 666 0\ncharacter special file 1 5 640 9\npts/ptmx\n/proc/self/fd\nfifo\n"
    );
}

/// On cgroup version 2 the runtime makes `/dev` and more while the process makes its network namespace.
#[test]
fn what_is_made_ahead_is_as_if_it_were_not() {
    if !can_run() {
        return;
    }
    let script = "cd /dev; stat -c '%n %F %t %T %a %u' . * */*; readlink fd core; \
                  while read -r _ _ _ _ at options tag _; do echo $at $options ${tag%%:*}; done </proc/self/mountinfo";
    let of_null =
        json!({ "destination": "/dev/null", "type": "bind", "source": "/dev/null", "options": ["bind"] });
    let mine =
        json!({ "path": "/dev/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o646, "uid": 9 });
    let below = json!({ "path": "/dev/sub/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o606 });
    for (devices, mount, propagation, ahead) in [
        (json!([]), None, "", "3 mounts, devices: true"),
        (json!([]), None, "slave", "3 mounts, devices: true"),
        (json!([]), None, "private", "3 mounts, devices: true"),
        (json!([]), None, "shared", ""),
        (json!([mine]), None, "", "3 mounts, devices: true"),
        (json!([mine, below]), None, "", "3 mounts, devices: false"),
        (json!([]), Some(of_null), "", "3 mounts, devices: false"),
    ] {
        let rig = Rig::script(script).with(|config| {
            config["linux"]["devices"] = devices;
            config["linux"]["rootfsPropagation"] = propagation.into();
            config["mounts"].as_array_mut().unwrap().extend(mount);
            config["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "cgroup");
        });
        let with_network = rig.on_version_2(&["--debug", "run", "@c"]);
        let said = with_network.err.split_once("made ahead: ").map(|(_, said)| said.lines().next().unwrap());
        assert_eq!(said.unwrap_or_default(), ahead, "{with_network:?}");
        // Programs take the first one for the root.
        let first = with_network.out.lines().find(|line| line.starts_with('/'));
        assert!(first.is_some_and(|line| line.starts_with("/ ")), "{with_network:?}");
        let rig = rig.with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "network");
        });
        let without = rig.on_version_2(&["--debug", "run", "@c"]);
        assert!(!without.err.contains("made ahead"), "{without:?}");
        let sorted = |out: &str| {
            let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&with_network.out), sorted(&without.out), "{ahead} {propagation}");
        assert_eq!((with_network.code, without.code), (0, 0));
    }
}

#[test]
fn wrong_mounts_are_named() {
    if !can_run() {
        return;
    }
    let cases = [
        (json!({ "destination": "/x", "type": "bind", "source": "/missing" }), "/missing"),
        (json!({ "destination": "/x", "type": "nofs", "source": "x" }), "nofs"),
        (
            json!({ "destination": "/x", "type": "tmpfs", "source": "x", "options": ["size=oops"] }),
            "size=oops",
        ),
        (
            json!({ "destination": "/x", "type": "bind", "source": "/", "options": ["size=1"] }),
            "filesystem-specific",
        ),
        (json!({ "destination": "/proc/1", "type": "tmpfs", "source": "x" }), "inside /proc"),
    ];
    for (mount, text) in cases {
        let rig = Rig::new(&["/bin/true"])
            .with(|config| config["mounts"].as_array_mut().unwrap().push(mount.clone()));
        let line = rig.runtime(&["run", "@c"]).fails(125);
        assert!(line.contains(text), "{mount}: {line}");
        rig.is_clean();
    }
}

#[test]
fn a_long_overlay() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("cat /merged/a /merged/b");
    // One option longer than fsconfig(2) takes.
    let layer = |name: &str| {
        let path = rig.path().join(name.repeat(150));
        fs::create_dir(&path).unwrap();
        fs::write(path.join(name), format!("{name}\n")).unwrap();
        path.display().to_string()
    };
    let lower = format!("lowerdir={}:{}", layer("a"), layer("b"));
    let rig = rig.with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({ "destination": "/merged", "type": "overlay", "source": "overlay", "options": [lower, "ro"] }));
    });
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "a\nb\n");
}

#[test]
fn ids_shifted_on_a_mount() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("stat -c '%u %g' /data/file");
    let data = rig.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("file"), "").unwrap();
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    let mount = json!({
        "destination": "/data", "type": "bind", "source": data, "options": ["bind"],
        "uidMappings": maps, "gidMappings": maps,
    });
    let rig = rig.with(|config| config["mounts"].as_array_mut().unwrap().push(mount));
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "100000 100000\n");
    let rig = rig.with(|config| {
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps.clone();
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    });
    assert_eq!(rig.runtime(&["run", "@d"]).ok(), "0 0\n");
}

#[test]
fn a_shared_root() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("grep -E '^[0-9]+ [0-9]+ [^ ]+ [^ ]+ / ' /proc/self/mountinfo")
        .with(|config| config["linux"]["rootfsPropagation"] = "shared".into());
    let out = rig.runtime(&["run", "@c"]).ok();
    assert!(out.contains(" shared:"), "{out}");
}

#[test]
fn without_pivot_root() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("ls /; readlink /proc/1/root; grep -c . /proc/self/mountinfo");
    let out = rig.runtime(&["run", "--no-pivot", "@c"]).ok();
    assert!(out.starts_with("bin\ndev\netc\nproc\nsys\ntmp\n/\n"), "{out}");
}

/// crun's words for links at either end of a bind mount.
#[test]
fn links_at_either_end_of_a_bind_mount() {
    if !can_run() {
        return;
    }
    let rig = Rig::script(
        "readlink /copied; readlink /itself; cat /mnt/covered; readlink /mnt/link || echo no link; cat /mnt/link",
    );
    let host = rig.path().join("host");
    fs::create_dir_all(rig.rootfs().join("mnt")).unwrap();
    fs::create_dir(&host).unwrap();
    fs::write(host.join("file"), "of the host\n").unwrap();
    symlink("/no/where", host.join("link")).unwrap();
    fs::write(rig.rootfs().join("mnt/covered"), "of the image\n").unwrap();
    symlink("covered", rig.rootfs().join("mnt/link")).unwrap();
    fs::write(rig.rootfs().join("itself"), "").unwrap();
    let rig = rig.with(|config| {
        let mut add = |destination: &str, source: &str, option: &str| {
            config["mounts"].as_array_mut().unwrap().push(json!({
                "destination": destination, "type": "bind", "source": host.join(source), "options": ["bind", option] }));
        };
        add("/copied", "link", "copy-symlink");
        add("/itself", "link", "src-nofollow");
        add("/mnt/link", "file", "dest-nofollow");
    });
    let said = rig.runtime(&["run", "@c"]);
    // The link that a mount covers is a file now; what it led to is as it was.
    assert_eq!(said.out, "/no/where\n/no/where\nof the image\nno link\nof the host\n", "{said:?}");
    // Something else in the link's place is an error; without the word its missing source is one.
    fs::remove_file(rig.rootfs().join("copied")).unwrap();
    fs::write(rig.rootfs().join("copied"), "").unwrap();
    assert!(rig.runtime(&["run", "@c"]).fails(125).contains("/copied"));
}

/// Ids are shifted on the mounts below, too, or on the first alone.
#[test]
fn ids_shifted_on_mounts_below() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("stat -c %u /mnt/f /mnt/below/f");
    let host = rig.path().join("host");
    fs::create_dir_all(host.join("below")).unwrap();
    let mount = |kind: &str, at: &std::path::Path| {
        let done = Command::new("mount").args(["-t", kind, kind]).arg(at).status().unwrap();
        assert!(done.success());
    };
    mount("tmpfs", &host);
    fs::create_dir(host.join("below")).unwrap();
    mount("tmpfs", &host.join("below"));
    for name in ["f", "below/f"] {
        fs::write(host.join(name), "").unwrap();
        std::os::unix::fs::chown(host.join(name), Some(5), None).unwrap();
    }
    let maps = json!([{ "containerID": 0, "hostID": 1000, "size": 100 }]);
    for (option, seen) in [("idmap", "1005\n5\n"), ("ridmap", "1005\n1005\n")] {
        let mut config = rig.config.clone();
        config["mounts"].as_array_mut().unwrap().push(json!({
            "destination": "/mnt", "type": "bind", "source": host, "options": ["rbind", option],
            "uidMappings": maps, "gidMappings": maps }));
        fs::write(rig.bundle().join("config.json"), config.to_string()).unwrap();
        let said = rig.runtime(&["run", "@c"]);
        assert_eq!(said.out, seen, "{option}: {said:?}");
    }
    assert!(Command::new("umount").arg("-R").arg(&host).status().unwrap().success());
}
