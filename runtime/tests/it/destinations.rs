//! Where mounts go, and what they take over from what is there.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use serde_json::{Value, json};

use crate::rig::{Rig, can_run};

fn add(config: &mut Value, mount: Value) {
    config["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn a_link_to_what_is_missing_is_followed_inside() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("cat /tmp/foo/bar/baz/hosts; ls /srv/x; stat -c %F /etc/hosts").with(|config| {
        add(
            config,
            json!({ "destination": "/etc/hosts", "source": "hosts", "type": "bind", "options": ["bind"] }),
        );
        add(
            config,
            json!({ "destination": "/relative", "source": "dir", "type": "bind", "options": ["bind"] }),
        );
    });
    fs::write(rig.bundle().join("hosts"), "127.0.0.1 here\n").unwrap();
    fs::create_dir(rig.bundle().join("dir")).unwrap();
    fs::write(rig.bundle().join("dir/inside"), "").unwrap();
    symlink("/tmp/foo/bar", rig.rootfs().join("jump")).unwrap();
    symlink("/jump/baz/hosts", rig.rootfs().join("etc/hosts")).unwrap();
    symlink("../../../srv/x", rig.rootfs().join("relative")).unwrap();
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "127.0.0.1 here\ninside\nsymbolic link\n");
    assert!(rig.rootfs().join("srv/x").is_dir());
}

#[test]
fn a_tmpfs_has_the_mode_of_what_it_covers() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("stat -c %a /private /said /new/dir").with(|config| {
        for (destination, options) in
            [("/private", json!(["nosuid"])), ("/said", json!(["mode=1500"])), ("/new/dir", json!([]))]
        {
            add(
                config,
                json!({ "destination": destination, "source": "tmpfs", "type": "tmpfs", "options": options }),
            );
        }
    });
    for name in ["private", "said"] {
        fs::create_dir(rig.rootfs().join(name)).unwrap();
        fs::set_permissions(rig.rootfs().join(name), fs::Permissions::from_mode(0o2710)).unwrap();
    }
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "2710\n1500\n1777\n");
}

#[test]
fn recursive_options_hold_for_new_file_systems_too() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("grep ' /t ' /proc/self/mounts; touch /t/x").with(|config| {
        add(
            config,
            json!({ "destination": "/t", "source": "tmpfs", "type": "tmpfs", "options": ["rro", "rnoexec"] }),
        );
    });
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.out.contains("tmpfs ro,") && said.out.contains("noexec"), "{said:?}");
    assert!(said.err.contains("Read-only file system"), "{said:?}");
}

#[test]
fn the_root_itself_is_no_destination() {
    if !can_run() {
        return;
    }
    for destination in ["/", "/x/.."] {
        let rig = Rig::new(&["/bin/true"]).with(|config| {
            add(config, json!({ "destination": destination, "source": "tmpfs", "type": "tmpfs" }));
        });
        let line = rig.runtime(&["run", "@c"]).fails(125);
        assert!(line.contains("is the root file system itself"), "{line}");
        rig.is_clean();
    }
}

#[test]
fn the_root_file_systems_own_path_is_taken_off() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/cat", "/final/x/file"]);
    let rootfs = fs::canonicalize(rig.rootfs()).unwrap();
    fs::create_dir_all(rig.bundle().join("src/x")).unwrap();
    fs::write(rig.bundle().join("src/x/file"), "found\n").unwrap();
    // The second one's source is what the first one has put there.
    let mut rig = rig.with(|config| {
        for (source, destination) in
            [("src".into(), rootfs.join("mnt")), (rootfs.join("mnt"), rootfs.join("final"))]
        {
            add(
                config,
                json!({ "destination": destination, "source": source, "type": "bind", "options": ["rbind"] }),
            );
        }
    });
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "found\n");
    let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    // Also with ids of its own.
    rig.config["process"]["args"] = json!(["/bin/stat", "-c", "%u", "/final/x/file"]);
    let last = rig.config["mounts"].as_array_mut().unwrap().last_mut().unwrap();
    last["uidMappings"] = maps.clone();
    last["gidMappings"] = maps.clone();
    rig.save();
    assert_eq!(rig.runtime(&["run", "@i"]).ok(), "100000\n");
    let last = rig.config["mounts"].as_array_mut().unwrap().last_mut().unwrap().as_object_mut().unwrap();
    last.retain(|key, _| !key.ends_with("Mappings"));
    rig.config["process"]["args"] = json!(["/bin/cat", "/final/x/file"]);
    rig.config["linux"]["uidMappings"] = maps.clone();
    rig.config["linux"]["gidMappings"] = maps;
    rig.config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    rig.save();
    assert_eq!(rig.runtime(&["run", "@d"]).ok(), "found\n");
    // A link in the tree leads nowhere else than the container's own would.
    fs::remove_dir_all(rig.rootfs().join("mnt")).unwrap();
    symlink(rig.bundle().join("src"), rig.rootfs().join("link")).unwrap();
    let mounts = rig.config["mounts"].as_array_mut().unwrap();
    mounts.truncate(mounts.len() - 2);
    mounts.push(json!({ "destination": "/final", "source": rootfs.join("link"), "type": "bind", "options": ["rbind"] }));
    rig.save();
    rig.runtime(&["run", "@e"]).fails(125);
}

#[test]
fn a_missing_working_directory_is_made() {
    if !can_run() {
        return;
    }
    for read_only in [false, true] {
        let rig = Rig::script("pwd; stat -c %u:%a .").with(|config| {
            config["process"]["cwd"] = "/not/there".into();
            config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
            config["root"]["readonly"] = read_only.into();
        });
        assert_eq!(rig.runtime(&["run", "@c"]).ok(), "/not/there\n0:755\n");
    }
}

/// As long as a whole procfs is in the mount namespace, another may be mounted in a user namespace.
#[test]
fn without_pivot_root_no_bare_procfs_is_left() {
    if !can_run() {
        return;
    }
    let script = "busybox unshare -Urmpf /bin/sh -c 'mount -t proc none /proc && echo mounted'";
    let rig = Rig::script(script).with(|config| {
        for set in ["bounding", "permitted", "effective"] {
            let list = config["process"]["capabilities"][set].as_array_mut().unwrap();
            list.extend([json!("CAP_SETFCAP"), json!("CAP_SYS_ADMIN")]);
        }
    });
    for arguments in [&["run", "@c"][..], &["run", "--no-pivot", "@c"]] {
        let said = rig.runtime(arguments);
        assert_eq!(said.out, "", "{said:?}");
        assert!(said.code != 0 && said.err.to_lowercase().contains("permission denied"), "{said:?}");
    }
}
