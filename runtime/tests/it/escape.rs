//! Ways out of a container that other runtimes had: what each case would have done there is in its CVE.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::{Value, json};

use crate::rig::{Background, Rig, can_run, run, runtime, wait_until};

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
    fs::set_permissions(rig.rootfs().join("bin/loop"), PermissionsExt::from_mode(0o755)).unwrap();
    rig.runtime(&["run", "-d", "@c"]).ok();
    for _ in 0..10 {
        rig.runtime(&["exec", "@c", "/bin/loop"]);
    }
    assert!(fs::read(runtime()).unwrap() == before, "the runtime's program was changed");
}

/// CVE-2019-5736 at the root: what `/proc/PID/exe` of a process that is still the runtime leads to is read-only, not only
/// busy while it runs. So it is also where the kernel does not let the runtime go on from another file, and it starts itself
/// again.
#[test]
fn the_runtimes_program_is_on_a_read_only_mount() {
    if !can_run() {
        return;
    }
    let refused = std::thread::spawn(|| {
        // For this thread, and what it starts.
        sys::seccomp::install(&refuse_to_change_the_file(), 0).unwrap();
        waits_on_a_read_only_mount(runtime());
    });
    waits_on_a_read_only_mount(runtime());
    refused.join().unwrap();
}

/// A dynamic program cannot go on from another file, and is executed again from its read-only mount.
const GOES_ON: bool = cfg!(target_feature = "crt-static");

/// Where the program is root's alone, the container's process, another user by then, goes on from a copy.
#[test]
fn a_program_that_only_root_may_execute_cannot_be_written() {
    if !can_run() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("runtime");
    fs::copy(runtime(), &own).unwrap();
    fs::set_permissions(&own, PermissionsExt::from_mode(0o700)).unwrap();
    let seals = waits_on_a_read_only_mount(own.to_str().unwrap());
    assert_eq!(seals.is_some_and(|seals| seals.contains(SealFlag::F_SEAL_WRITE)), GOES_ON, "{seals:?}");
}

/// Returns the seals of what the created container's process runs from, if it is a file in memory.
fn waits_on_a_read_only_mount(runtime: &str) -> Option<SealFlag> {
    let rig = Rig::new(&["/bin/true"]).with(|config| {
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
    });
    let with = |args: &[&str]| run(&mut rig.command_of(runtime, args)).ok();
    with(&["create", "--pid-file", "pid", "@c"]);
    let pid = fs::read_to_string(rig.bundle().join("pid")).unwrap();
    let link = format!("/proc/{pid}/exe");
    let seals = || {
        let bits = fcntl(fs::File::open(&link).unwrap(), FcntlArg::F_GET_SEALS).ok()?;
        Some(SealFlag::from_bits_truncate(bits))
    };
    // The process sees to it by itself, while `create` ends.
    wait_until("protected", || is_read_only(&link) || seals().is_some());
    assert!(!is_read_only(runtime), "else this shows nothing");
    // It is the same program all the same.
    assert!(fs::read(&link).unwrap() == fs::read(runtime).unwrap());
    let seals = seals();
    with(&["start", "@c"]);
    seals
}

/// CVE-2019-5736: an entry point that is the runtime itself is executed from there, too.
#[test]
fn an_entry_point_that_is_the_runtime_is_on_a_read_only_mount() {
    if !can_run() {
        return;
    }
    if !GOES_ON {
        eprintln!("SKIPPED: a dynamic runtime finds no interpreter in this root file system");
        return;
    }
    // It waits for somebody to write the configuration.
    let rig = Rig::new(&["/proc/self/exe", "create", "--bundle", "/", "x"]);
    mkfifo(&rig.rootfs().join("config.json"), Mode::S_IRWXU).unwrap();
    let child = Background(rig.command(&["run", "@c"]).stdout(Stdio::null()).spawn().unwrap());
    wait_until("its program", || rig.runtime(&["state", "@c"]).out.contains("running"));
    let state: Value = serde_json::from_str(&rig.runtime(&["state", "@c"]).ok()).unwrap();
    let (pid, ours) = (state["pid"].to_string(), child.0.id().to_string());
    assert_ne!(pid, ours);
    wait_until("the runtime in the container", || {
        fs::read(format!("/proc/{pid}/cmdline")).unwrap().starts_with(b"/proc/self/exe\0")
    });
    assert!(is_read_only(&format!("/proc/{pid}/exe")));
    assert!(!is_read_only(runtime()), "else this shows nothing");
    rig.runtime(&["delete", "-f", "@c"]).ok();
}

fn is_read_only(path: &str) -> bool {
    nix::sys::statvfs::statvfs(path).unwrap().flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY)
}

/// CVE-2019-5736: where somebody in the container may look at its process before that is its program, the runtime protects
/// itself first.
#[test]
fn nobody_looks_at_a_process_that_is_not_protected() {
    if !can_run() {
        return;
    }
    let namespaces = "/linux/namespaces";
    let hook = json!([{ "path": "/bin/true" }]);
    let ptrace = json!(["CAP_SYS_PTRACE"]);
    let limit = json!([{ "type": "RLIMIT_DATA", "soft": 1 << 30, "hard": 1 << 30 }]);
    let shared = json!([{ "type": "mount" }, { "type": "uts" }]);
    for (pointer, value, early) in [
        ("/process/rlimits", json!([]), false),
        ("/process/rlimits", limit, true),
        ("/process/capabilities/bounding", ptrace, true),
        ("/hooks/prestart", hook.clone(), true),
        ("/hooks/createRuntime", hook.clone(), true),
        ("/hooks/createContainer", hook.clone(), true),
        ("/hooks/startContainer", hook.clone(), true),
        ("/hooks/poststart", hook, false),
        (namespaces, shared, true),
    ] {
        let rig = Rig::new(&["/bin/sleep", "1000"]).with(|config| {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            if config.pointer(parent).is_none() {
                config[&parent[1..]] = json!({});
            }
            config.pointer_mut(parent).unwrap()[name] = value;
        });
        let child = Background(rig.command(&["run", "@c"]).stdout(Stdio::null()).spawn().unwrap());
        wait_until("its program", || rig.runtime(&["state", "@c"]).out.contains("running"));
        assert_eq!(is_read_only(&format!("/proc/{}/exe", child.0.id())), early || !GOES_ON, "{pointer}");
        rig.runtime(&["delete", "-f", "@c"]).ok();
    }
}

/// `prctl(PR_SET_MM)` fails with `EPERM`, everything else works (seccomp(2)).
fn refuse_to_change_the_file() -> [sys::seccomp::Instruction; 6] {
    const PR_SET_MM: u32 = 35;
    let line = |code, jt, jf, k| sys::seccomp::Instruction { code, jt, jf, k };
    let load = |offset| line(0x20, 0, 0, offset);
    let skip_unless = |value, lines| line(0x15, 0, lines, value);
    let give = |action| line(0x06, 0, 0, action);
    [
        load(0),
        skip_unless(nix::libc::SYS_prctl.try_into().unwrap(), 3),
        load(16),
        skip_unless(PR_SET_MM, 1),
        give(0x0005_0000 | nix::libc::EPERM.cast_unsigned()),
        give(0x7fff_0000),
    ]
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
    // Nor where something is mounted on it that is ready by then.
    let rig = Rig::new(&["/bin/true"]);
    fs::rename(rig.rootfs().join("dev"), rig.rootfs().join("other")).unwrap();
    symlink("other", rig.rootfs().join("dev")).unwrap();
    for said in [rig.runtime(&["run", "@c"]), rig.on_version_2(&["run", "@c"])] {
        assert!(said.err.contains("it must be a directory"), "{said:?}");
        said.fails(125);
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
    // A link where the device belongs is refused, so a mask can never show what it points to.
    let said = rig.runtime(&["run", "@c"]).fails(125);
    assert!(said.contains("something else is there already"), "{said}");
    assert_eq!(fs::read_to_string(rig.rootfs().join("etc/secret")).unwrap(), "secret");
    assert_eq!(fs::read_to_string(rig.rootfs().join("etc/other")).unwrap(), "other");
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

/// CVE-2021-30465: a directory on the way to a mount's place turns into a link out while the runtime walks.
#[test]
fn links_that_change_during_the_walk_stay_inside() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let (volume, outside) = (rig.path().join("volume"), rig.path().join("outside"));
    fs::create_dir_all(volume.join("inside")).unwrap();
    fs::create_dir(&outside).unwrap();
    symlink("inside", volume.join("way")).unwrap();
    let rig = rig.with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(
            json!({ "destination": "/volume", "type": "bind", "source": volume, "options": ["rbind"] }),
        );
        for number in 0..8 {
            let place = format!("/volume/way/{number}");
            mounts.push(json!({ "destination": place, "type": "tmpfs", "source": "tmpfs" }));
        }
    });
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let next = volume.join("next");
            for target in [outside.as_path(), Path::new("inside")].into_iter().cycle() {
                symlink(target, &next).unwrap();
                fs::rename(&next, volume.join("way")).unwrap();
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for number in 0..25 {
            rig.runtime(&["run", &format!("@c{number}")]);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
}

/// CVE-2025-52881: what the runtime writes to `/proc` goes to the kernel, whatever is mounted there.
#[test]
fn parameters_reach_the_kernel_only() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/cat", "/proc/sys/kernel/shmmni"]);
    let victim = rig.path().join("victim");
    let fake = rig.path().join("fake/kernel");
    fs::create_dir_all(&fake).unwrap();
    fs::write(&victim, "mine").unwrap();
    symlink(&victim, fake.join("shmmni")).unwrap();
    let rig = rig.with(|config| {
        config["linux"]["sysctl"] = json!({ "kernel.shmmni": "4242" });
        config["linux"]["maskedPaths"] = json!([]);
        config["linux"]["readonlyPaths"] = json!([]);
        let source = fake.parent().unwrap();
        config["mounts"].as_array_mut().unwrap().push(
            json!({ "destination": "/proc/sys", "type": "bind", "source": source, "options": ["bind"] }),
        );
    });
    let said = rig.runtime(&["run", "@c"]);
    assert_eq!(said.code, 125, "{said:?}");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
}

/// CVE-2016-9962: a process of the container looks into those that the runtime is bringing in.
#[test]
fn nothing_of_the_host_can_be_seen_during_exec() {
    look_around(&[]);
}

/// The same by one that may look into every process of its PID namespace.
#[test]
fn nothing_of_the_host_can_be_seen_by_a_tracer() {
    look_around(&["CAP_SYS_PTRACE"]);
}

fn look_around(capabilities: &[&str]) {
    if !can_run() {
        return;
    }
    let script = "echo begun; while :; do for l in /proc/[0-9]*/exe /proc/[0-9]*/cwd /proc/[0-9]*/root /proc/[0-9]*/fd/*; do readlink $l; done; done";
    let rig = Rig::script(&format!("({script}) > /tmp/seen 2>/dev/null"));
    let rig = rig.with(|config| {
        config["linux"]["seccomp"] = json!(null);
        for set in ["bounding", "effective", "permitted"] {
            let set = config["process"]["capabilities"][set].as_array_mut().unwrap();
            set.extend(capabilities.iter().map(|name| json!(name)));
        }
    });
    rig.runtime(&["run", "-d", "@c"]).ok();
    let seen = || fs::read_to_string(rig.rootfs().join("tmp/seen")).unwrap_or_default();
    wait_until("it to look", || seen().contains("/bin/busybox"));
    for round in 0..30 {
        let said = rig.runtime(&["exec", "--pid-file", "pid", "@c", "/bin/sh", "-c", "exit 7"]);
        assert_eq!(said.code, 7, "round {round}: {said:?}");
    }
    // Our own program shows only as a path from nowhere: the mount it runs from is in no namespace.
    let host = [rig.root().display().to_string(), runtime().to_owned(), "/sys/fs/cgroup".to_owned()];
    let seen = seen();
    let found = seen.lines().find(|line| host.iter().any(|path| line.contains(path.as_str())));
    assert_eq!(found, None);
    assert!(capabilities.is_empty() || !seen.lines().any(|line| line == "/proc"), "the host's /proc is open");
}
