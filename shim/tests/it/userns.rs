//! `--userns` and its kin: whose ids a container has, and that every verb still shows and writes the right owners.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::rig::Rig;

/// A rig whose machine gives these lines of subuid and subgid; for this thread alone.
fn rig(lines: &str) -> Rig {
    use nix::mount::{MsFlags, mount};
    let rig = Rig::new();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    for name in ["subuid", "subgid"] {
        let file = rig.path().join(name);
        fs::write(&file, lines).unwrap();
        let target = Path::new("/etc").join(name);
        assert!(target.exists(), "{} is missing", target.display());
        mount(Some(&file), &target, none, MsFlags::MS_BIND, none).unwrap();
    }
    rig
}

/// Numbers of /proc/PID/uid_map.
fn words(map: &str) -> String {
    map.split_whitespace().collect::<Vec<_>>().join(" ")
}

const MAP: &str = "0 300000 1024";

fn owner(path: &Path) -> (u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
    (meta.uid(), meta.gid())
}

#[test]
fn auto_gives_ids_that_nobody_else_has_and_takes_them_back() {
    let rig = rig("containers:300000:2500\nother:700000:10\n");
    rig.ok(&["create", "--name", "one", "--userns", "auto", "busybox", "cat", "/proc/self/uid_map"]);
    assert_eq!(words(&rig.ok(&["start", "-a", "one"])), MAP);
    rig.ok(&["create", "--name", "two", "--userns=auto:size=1400", "busybox", "true"]);
    let maps = "{{.HostConfig.UsernsMode}} {{json .HostConfig.IDMappings}}";
    assert_eq!(
        rig.ok(&["inspect", "-f", maps, "two"]),
        r#"auto:size=1400 {"GidMap":["0:301024:1400"],"UidMap":["0:301024:1400"]}"#
    );
    assert!(rig.fails(125, &["run", "--userns", "auto", "busybox", "true"]).contains("cannot find 1024 ids"));
    rig.ok(&["rm", "one"]);
    let map = rig.ok(&["run", "--rm", "--userns", "auto", "busybox", "cat", "/proc/self/gid_map"]);
    assert_eq!(words(&map), MAP);
    rig.ok(&["rm", "two"]);
    // As many as the container's own user needs; a fixed one stays out of the row.
    let line = &["run", "--rm", "--userns", "auto", "-u", "1050", "busybox", "cat", "/proc/self/uid_map"];
    assert_eq!(rig.ok(line).split_whitespace().last(), Some("1051"));
    assert!(crate::rig::wait_until(|| rig.left().is_empty()));
    let fixed = "auto:size=10,uidmapping=3:5000:1,gidmapping=3:5000:1";
    let map = rig.ok(&["run", "--rm", "--userns", fixed, "busybox", "cat", "/proc/self/uid_map"]);
    assert_eq!(words(&map), "0 300000 3 3 5000 1 4 300003 6");
}

#[test]
fn every_verb_keeps_the_owners() {
    let rig = rig("containers:300000:5000\n");
    let script = "id -u; touch /new; stat -c %u:%g /new /bin/busybox /etc/hosts /v /v/f; hostname -i; echo x > /v/f; sleep 1000";
    let volume = ["-v", "data:/v", "--name", "box", "--userns", "auto", "--net", "none", "-w", "/made/here"];
    rig.ok(&[&["run", "-d"][..], &volume, &["busybox", "sh", "-c", script]].concat());
    assert!(crate::rig::wait_until(|| rig.ok(&["exec", "box", "ls", "/v"]) == "f"));
    let pid = rig.ok(&["inspect", "-f", "{{.State.Pid}}", "box"]);
    let inside = Path::new("/proc").join(pid.trim()).join("root");
    assert_eq!(owner(&inside.join("new")), (300_000, 300_000));
    assert_eq!(
        rig.ok(&[
            "exec",
            "box",
            "stat",
            "-c",
            "%u:%g",
            "/new",
            "/bin/busybox",
            "/etc/hosts",
            "/made",
            "/made/here",
            "/v",
            "/v/f"
        ]),
        ["0:0"; 7].join("\n")
    );
    // On disk the volume's files have the ids of the containers.
    let data = rig.store().join("volumes/data/_data");
    assert_eq!(owner(&data.join("f")), (0, 0));
    assert_eq!(
        rig.ok(&["exec", "-u", "33", "box", "sh", "-c", "id -u; touch /tmp/mine 2>/dev/null; id -g"]),
        "33\n33"
    );

    // cp: into it, into its volume, out of it with and without owners, as an archive.
    fs::write(rig.path().join("f"), "hello").unwrap();
    nix::unistd::chown(&rig.path().join("f"), Some(33.into()), Some(33.into())).unwrap();
    rig.ok(&["cp", "f", "box:/plain"]);
    rig.ok(&["cp", "-a", "f", "box:/kept"]);
    rig.ok(&["cp", "-a", "f", "box:/v/kept"]);
    rig.ok(&["cp", "f", "box:/v/plain"]);
    let shown = rig.ok(&["exec", "box", "stat", "-c", "%u:%g", "/plain", "/kept", "/v/kept", "/v/plain"]);
    assert_eq!(shown, "0:0\n33:33\n33:33\n0:0");
    assert_eq!(owner(&data.join("kept")), (33, 33));
    rig.ok(&["cp", "-a", "box:/kept", "back"]);
    assert_eq!(owner(&rig.path().join("back")), (33, 33));
    rig.ok(&["cp", "box:/kept", "ours"]);
    assert_eq!(owner(&rig.path().join("ours")), (0, 0));

    // Another container with other ids sees the same owners in the volume; one without a namespace, too.
    for more in [&["--userns", "auto"][..], &[]] {
        let all = [
            &["run", "--rm", "-v", "data:/v"][..],
            more,
            &["busybox", "stat", "-c", "%u:%g", "/v/f", "/v/kept"],
        ]
        .concat();
        assert_eq!(rig.ok(&all), "0:0\n33:33", "{more:?}");
    }

    // Stopped, copied to, started again; what changed; an image of it.
    rig.ok(&["stop", "-t", "0", "box"]);
    rig.ok(&["cp", "-a", "f", "box:/kept2"]);
    let diff = rig.ok(&["diff", "box"]);
    for line in ["A /new", "A /kept", "A /kept2", "A /plain"] {
        assert!(diff.lines().any(|known| known == line), "{line}: {diff}");
    }
    rig.ok(&["commit", "box", "kept:1"]);
    let line = ["run", "--rm", "kept:1", "stat", "-c", "%u:%g", "/new", "/kept", "/kept2", "/bin/busybox"];
    assert_eq!(rig.ok(&line), "0:0\n33:33\n33:33\n0:0");
    let tar = rig.shim(&["export", "box"]).output().unwrap().stdout;
    let mut archive = tar::Archive::new(&tar[..]);
    let owners: Vec<_> =
        archive.entries().unwrap().map(|entry| entry.unwrap().header().uid().unwrap()).collect();
    assert!(owners.iter().all(|uid| *uid < 1000), "{owners:?}");
    rig.ok(&["start", "box"]);
    assert_eq!(rig.ok(&["exec", "box", "stat", "-c", "%u", "/kept2"]), "33");
    rig.ok(&["restart", "-t", "0", "box"]);
    assert_eq!(words(&rig.ok(&["exec", "box", "cat", "/proc/self/uid_map"])), MAP);
    rig.ok(&["rm", "-f", "box"]);
}

#[test]
fn the_container_owns_its_network() {
    let rig = rig("containers:300000:5000\n");
    // Its root may change the network, listen below 1024, and has a /sys of its own.
    let script = "ip addr add 10.9.8.7/32 dev lo && ip addr show dev lo | grep -c 10.9.8.7; grep -c '/sys sysfs' /proc/mounts; \
                  ls -ld /sys | cut -c1-10; (echo hi | timeout 5 nc -l -p 80 & sleep 1; nc 10.9.8.7 80 </dev/null)";
    let out =
        rig.ok(&["run", "--rm", "--userns", "auto", "--cap-add", "NET_ADMIN", "busybox", "sh", "-c", script]);
    assert_eq!(out, "1\n1\ndr-xr-xr-x\nhi");
    // With the host's network it has its own ids all the same.
    let map =
        rig.ok(&["run", "--rm", "--userns", "auto", "--net", "host", "busybox", "cat", "/proc/self/uid_map"]);
    assert!(words(&map).starts_with("0 30") && words(&map).ends_with(" 1024"), "{map}");
    assert!(!rig.state().join("net/userns").exists(), "a user namespace stayed mounted");
}

#[test]
fn maps_by_hand_names_and_those_of_others() {
    let rig = rig("someone:400000:3000\nsomeone:500000:10\n");
    let map = |args: &[&str]| {
        let all =
            [&["run", "--rm"][..], args, &["busybox", "cat", "/proc/self/uid_map", "/proc/self/gid_map"]]
                .concat();
        words(&rig.ok(&all))
    };
    assert_eq!(map(&["--uidmap", "0:1000:2000", "--gidmap", "0:2000:2000"]), "0 1000 2000 0 2000 2000");
    assert_eq!(
        map(&["--subuidname", "someone"]),
        "0 400000 3000 3000 500000 10 0 400000 3000 3000 500000 10"
    );
    assert_eq!(map(&["--userns", "private"]), "0 0 4294967295 0 0 4294967295");
    rig.ok(&["run", "-d", "--name", "first", "--uidmap", "0:1000:2000", "busybox", "sleep", "1000"]);
    assert_eq!(map(&["--userns", "container:first"]), "0 1000 2000 0 1000 2000");
    let pid = rig.ok(&["inspect", "-f", "{{.State.Pid}}", "first"]);
    let path = format!("ns:/proc/{}/ns/user", pid.trim());
    assert_eq!(map(&["--userns", &path]), "0 1000 2000 0 1000 2000");
    // Who joined finds the other's new process when both start again.
    rig.ok(&[
        "run",
        "-d",
        "--name",
        "second",
        "--userns",
        "container:first",
        "--pid",
        "container:first",
        "busybox",
        "sleep",
        "1000",
    ]);
    rig.ok(&["stop", "-t", "0", "second", "first"]);
    assert!(rig.fails(4, &["start", "second"]).contains("first"));
    rig.ok(&["start", "first"]);
    rig.ok(&["start", "second"]);
    for kind in ["/proc/self/ns/user", "/proc/self/ns/pid"] {
        let own = |name: &str| rig.ok(&["exec", name, "readlink", kind]);
        assert_eq!(own("first"), own("second"));
    }
    rig.ok(&["rm", "-f", "first", "second"]);
}

#[test]
fn mounts_with_other_ids() {
    let rig = rig("containers:300000:5000\n");
    let dir = rig.path().join("d");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("f"), "").unwrap();
    nix::unistd::chown(&dir.join("f"), Some(7.into()), Some(8.into())).unwrap();
    let stat = |more: &[&str]| {
        rig.ok(&[&["run", "--rm"][..], more, &["busybox", "stat", "-c", "%u:%g", "/d/f"]].concat())
    };
    let bind = format!("{}:/d", dir.display());
    let with = |options: &str| format!("{bind}:{options}");
    assert_eq!(stat(&["--userns", "auto", "-v", &bind]), "65534:65534", "a bind shows what is on the host");
    assert_eq!(stat(&["--userns", "auto", "-v", &with("idmap")]), "7:8");
    assert_eq!(stat(&["-v", &with("idmap=uids=7-70-1;gids=8-80-1")]), "70:80");
    assert_eq!(stat(&["--userns", "auto", "-v", &with("ro,idmap=uids=@7-70-1;gids=@8-80-1")]), "70:80");
    let mount = format!("type=bind,src={},dst=/d,idmap", dir.display());
    assert_eq!(stat(&["--userns", "auto", "--mount", &mount]), "7:8");
    assert!(
        rig.fails(125, &["run", "-v", &with("idmap"), "busybox", "true"])
            .contains("idmap: the container has no user namespace")
    );
    // Shared memory, a tmpfs, an image and an init all belong to the container's root.
    let all = [
        "run",
        "--rm",
        "--userns",
        "auto",
        "--ipc",
        "shareable",
        "--init",
        "--tmpfs",
        "/t",
        "--mount",
        "type=image,src=busybox,dst=/i",
    ];
    let line = ["busybox", "stat", "-c", "%u:%g", "/dev/shm", "/t", "/i/bin/busybox"];
    assert_eq!(rig.ok(&[&all[..], &line].concat()), "0:0\n0:0\n0:0");
    // What is refused is refused by name.
    assert!(
        rig.fails(7, &["create", "--userns", "keep-id", "busybox"])
            .contains("only supported in rootless mode")
    );
}
