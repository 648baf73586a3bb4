//! `exec`.

use serde_json::json;

use crate::rig::{Rig, can_run};

fn running() -> Rig {
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    rig
}

#[test]
fn runs_inside_and_ends_with_its_code() {
    if !can_run() {
        return;
    }
    let rig = running();
    let said = rig.runtime(&[
        "exec",
        "-e",
        "A=b",
        "--cwd",
        "/tmp",
        "@c",
        "/bin/sh",
        "-c",
        "echo $A $PWD $HOME; exit 5",
    ]);
    assert_eq!((said.code, said.out.as_str()), (5, "b /tmp /root\n"));
    // Same namespaces as the first process.
    let links = |of: &str| {
        let script = format!("for n in mnt pid net ipc uts cgroup; do readlink /proc/{of}/ns/$n; done");
        rig.runtime(&["exec", "@c", "/bin/sh", "-c", &script]).ok()
    };
    assert_eq!(links("1"), links("self"));
    assert_eq!(rig.runtime(&["exec", "@c", "missing"]).code, 127);
    assert_eq!(rig.runtime(&["exec", "@c", "/etc/passwd"]).code, 126);
}

#[test]
fn users_are_numbers_and_never_names() {
    if !can_run() {
        return;
    }
    let rig = running();
    // /etc/passwd of the rig calls a user "1000" whose uid is 0 (CVE-2016-3697).
    let id = |user: &str| rig.runtime(&["exec", "-u", user, "@c", "/bin/sh", "-c", "id -u; id -g"]);
    assert_eq!(id("1000").ok(), "1000\n0\n");
    assert_eq!(id("1:1").ok(), "1\n1\n");
    assert_eq!(id("01").ok(), "1\n0\n");
    for wrong in ["root", "-1", "4294967295", ":1", "1:"] {
        let said = rig.runtime(&["exec", &format!("--user={wrong}"), "@c", "/bin/true"]);
        assert_eq!(said.code, 125, "{wrong}: {said:?}");
    }
}

#[test]
fn capabilities_are_never_inheritable() {
    if !can_run() {
        return;
    }
    let rig = running();
    let out =
        rig.runtime(&["exec", "--cap", "CAP_CHOWN", "@c", "/bin/grep", "Cap", "/proc/self/status"]).ok();
    let set = |name: &str| out.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(set("CapInh:"), "0000000000000000");
    assert_eq!(set("CapAmb:"), "0000000000000000");
    assert_eq!(set("CapEff:"), "0000000020000421");
}

#[test]
fn takes_a_process_from_a_file() {
    if !can_run() {
        return;
    }
    let rig = running();
    let file = rig.path().join("process.json");
    let process = json!({ "args": ["/bin/sh", "-c", "echo $X; id -u"], "cwd": "/", "env": ["X=y", "PATH=/bin"], "user": { "uid": 7 } });
    std::fs::write(&file, process.to_string()).unwrap();
    assert_eq!(rig.runtime(&["exec", "-p", file.to_str().unwrap(), "@c"]).ok(), "y\n7\n");
    std::fs::write(&file, "{").unwrap();
    rig.runtime(&["exec", "-p", file.to_str().unwrap(), "@c"]).fails(125);
}

#[test]
fn detached_with_a_pid_file() {
    if !can_run() {
        return;
    }
    let rig = running();
    let file = rig.path().join("pid");
    rig.runtime(&["exec", "-d", "--pid-file", file.to_str().unwrap(), "@c", "/bin/sleep", "999"]).ok();
    let pid: i32 = std::fs::read_to_string(file).unwrap().parse().unwrap();
    let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(line, "/bin/sleep\u{0}999\u{0}");
}

#[test]
fn a_terminal() {
    if !can_run() {
        return;
    }
    let rig = running();
    assert_eq!(rig.runtime(&["exec", "-t", "@c", "/bin/busybox", "tty"]).ok(), "/dev/pts/0\r\n");
}

#[test]
fn only_where_it_runs() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["exec", "nobody", "true"]).fails(125);
    rig.runtime(&["run", "--keep", "@c"]).ok();
    let line = rig.runtime(&["exec", "@c", "true"]).fails(125);
    assert!(line.contains("cannot exec in a stopped container"), "{line}");
}

#[test]
fn in_a_cgroup_below() {
    if !can_run() {
        return;
    }
    let rig = running();
    let state: serde_json::Value = serde_json::from_str(&rig.runtime(&["state", "@c"]).ok()).unwrap();
    let lists = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
    let unified = if std::path::Path::new("/sys/fs/cgroup/unified").exists() { "unified" } else { "" };
    for line in lists.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let hierarchy = parts.next().unwrap().trim_start_matches("name=");
        let hierarchy = if hierarchy.is_empty() { unified } else { hierarchy };
        let path = parts.next().unwrap().trim_start_matches('/');
        let own = std::path::Path::new("/sys/fs/cgroup").join(hierarchy).join(path);
        let below = own.join("below");
        std::fs::create_dir(&below).unwrap();
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // Version 1 lets no process into a cgroup that has no processors.
            if let Ok(list) = std::fs::read(own.join(file)) {
                let _ = std::fs::write(below.join(file), list);
            }
        }
    }
    let out = rig.runtime(&["exec", "--cgroup", "below", "@c", "/bin/cat", "/proc/self/cgroup"]).ok();
    assert!(out.lines().filter(|line| !line.ends_with("/..")).all(|line| line.ends_with(":/below")), "{out}");
    let line = rig.runtime(&["exec", "--cgroup", "../..", "@c", "/bin/true"]);
    assert_eq!(line.code, 125, "{line:?}");
    rig.runtime(&["delete", "--force", "@c"]).ok();
    rig.is_clean();
}

/// In a chroot the root of a mount namespace is not its processes' root, and `setns` goes to the former.
#[test]
fn a_runtime_in_a_chroot_enters_the_container_all_the_same() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    std::fs::create_dir(rig.path().join("jail")).unwrap();
    let jail = rig.path().join("jail");
    let words = |args: &[&str]| {
        let command = rig.command(args);
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
        words.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
    };
    let bundle = rig.bundle().display().to_string();
    let run = words(&["run", "-d", "--bundle", &bundle, "@c"]);
    let exec = words(&["exec", "@c", "/bin/ls", "/"]);
    let delete = words(&["delete", "--force", "@c"]);
    let script = format!("{run} </dev/null >/dev/null 2>&1 && {exec}; {delete}");
    let mut chroot = std::process::Command::new("unshare");
    let mount =
        format!("mount --rbind / {jail} && exec chroot {jail} sh -c '{script}'", jail = jail.display());
    chroot.args(["--mount", "sh", "-c", &mount]);
    let listing = crate::rig::run(&mut chroot).ok();
    let inside: std::collections::BTreeSet<_> = listing.lines().map(str::to_owned).collect();
    let expected = std::fs::read_dir(rig.rootfs()).unwrap();
    let expected = expected.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(inside, expected);
}
