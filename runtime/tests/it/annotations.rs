//! `run.oci.*`, and the flags that only crun has.

use std::fs;
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::rig::{Rig, can_run, run};

#[test]
fn hooks_print_into_the_files_of_the_annotations() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let (out, err) = (rig.path().join("out"), rig.path().join("err"));
    let hook = |word: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("cat >/dev/null; echo {word}; echo bad-{word} >&2")] }]);
    let rig = rig.with(|c| {
        c["annotations"] = json!({ "run.oci.hooks.stdout": out, "run.oci.hooks.stderr": err });
        c["hooks"] = json!({ "createRuntime": hook("first"), "createContainer": [], "poststart": hook("second"), "poststop": hook("third") });
    });
    let said = rig.runtime(&["run", "@c"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""), "{said:?}");
    assert_eq!(fs::read_to_string(out).unwrap(), "first\nsecond\nthird\n");
    assert_eq!(fs::read_to_string(err).unwrap(), "bad-first\nbad-second\nbad-third\n");
}

#[test]
fn a_pidfd_goes_to_the_receiver() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]);
    let socket = rig.path().join("receiver");
    let listener = UnixListener::bind(&socket).unwrap();
    let rig = rig.with(|c| c["annotations"] = json!({ "run.oci.pidfd_receiver": socket }));
    rig.runtime(&["run", "-d", "@c"]).ok();
    let (stream, _) = listener.accept().unwrap();
    let (_, fd) = sys::pass_fd::receive(&stream, &mut [0; 64]).unwrap();
    sys::pidfd::send_signal(fd.expect("a descriptor"), 9).unwrap();
    rig.wait_for_status("c", "stopped");
}

#[test]
fn groups_of_the_caller_are_kept_where_asked() {
    if !can_run() {
        return;
    }
    let grouped = |rig: &Rig| {
        let mut command = rig.command(&["run", "@c"]);
        let program = command.get_program().to_owned();
        let args: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = std::process::Command::new("setpriv");
        command.current_dir(rig.bundle()).args(["--groups", "77,78", "--"]).arg(program).args(args);
        run(&mut command).ok()
    };
    let rig = Rig::script("grep Groups /proc/self/status");
    assert_eq!(grouped(&rig).split_whitespace().count(), 1, "dropped");
    let rig = rig.with(|c| c["annotations"] = json!({ "run.oci.keep_original_groups": "1" }));
    assert_eq!(grouped(&rig).split_whitespace().collect::<Vec<_>>(), ["Groups:", "77", "78"]);
}

#[test]
fn what_only_crun_does_is_refused_by_name() {
    if !can_run() {
        return;
    }
    let library = "is not supported: it is a library, and a static program loads none";
    for (name, value, why, code) in [
        ("run.oci.handler", "krun", library, 7),
        ("run.oci.handler", "wasm\n\u{1b}[1m", library, 7),
        ("run.oci.seccomp.plugins", "/usr/lib/a.so:b.so", library, 7),
        ("run.oci.nosuch", "1", "unknown", 2),
    ] {
        let rig = Rig::new(&["/bin/true"]).with(|c| c["annotations"] = json!({ name: value }));
        let config = rig.bundle().join("config.json").display().to_string();
        let what = if why == library { format!("{value:?} {why}") } else { why.to_owned() };
        let line = format!("runtime: {config}: annotation {name}: {what}\n");
        for (verb, code) in [("create", code), ("run", 125)] {
            let said = rig.runtime(&[verb, "@c"]);
            assert!(said.code == code && said.err == line && said.out.is_empty(), "{line} but {said:?}");
        }
        rig.is_clean();
    }
}

/// Answers `mkdir(2)` with `verdict`, and allows all else.
#[cfg(target_arch = "x86_64")]
fn program_about_mkdir(verdict: u32) -> String {
    const ALLOW: u32 = 0x7fff_0000;
    // Operation, instructions to skip where it is so and where not, operand: load the number, compare, two returns.
    let mkdir = u32::try_from(nix::libc::SYS_mkdir).unwrap();
    let code: [(u16, [u8; 2], u32); 4] =
        [(0x20, [0, 0], 0), (0x15, [0, 1], mkdir), (0x06, [0, 0], verdict), (0x06, [0, 0], ALLOW)];
    let bytes = |(operation, jumps, operand): (u16, [u8; 2], u32)| {
        [&operation.to_ne_bytes()[..], &jumps, &operand.to_ne_bytes()].concat()
    };
    contracts::base64::encode(&code.map(bytes).concat())
}

/// In place of the whole section, whose own default would kill.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_filter_as_a_program() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("mkdir /tmp/x; exec sleep 1000");
    std::os::unix::fs::symlink("busybox", rig.rootfs().join("bin/mkdir")).unwrap();
    let refused = program_about_mkdir(0x0005_0000 | nix::libc::EDQUOT.cast_unsigned());
    let rig = rig.with(|c| {
        c["annotations"] = json!({ "run.oci.seccomp_bpf_data": refused });
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_KILL_PROCESS" });
    });
    rig.runtime(&["run", "-d", "@c"]).ok();
    let said = rig.runtime(&["exec", "@c", "mkdir", "/tmp/y"]);
    assert!(said.code == 1 && said.err.contains("quota exceeded"), "{said:?}");
    rig.wait_for_status("c", "running");
    assert!(!rig.rootfs().join("tmp/x").exists());
    let rig = rig.with(|c| _ = c["linux"].as_object_mut().unwrap().remove("seccomp"));
    rig.runtime(&["run", "-d", "@alone"]).ok();
    assert!(rig.runtime(&["exec", "@alone", "mkdir", "/tmp/y"]).err.contains("quota exceeded"));
    for wrong in ["?", "", "AAAA"] {
        let rig = Rig::new(&["/bin/true"])
            .with(|c| c["annotations"] = json!({ "run.oci.seccomp_bpf_data": wrong }));
        let said = rig.runtime(&["run", "@c"]);
        assert!(said.code == 125 && said.err.contains("seccomp"), "{said:?}");
        rig.is_clean();
    }
}

/// Nobody can say of a program whether it notifies: who is named listens.
#[test]
#[cfg(target_arch = "x86_64")]
fn an_agent_for_a_program() {
    if !can_run() {
        return;
    }
    const NOTIFY: u32 = 0x7fc0_0000;
    let rig = Rig::script("mkdir /tmp/x; exec sleep 1000");
    std::os::unix::fs::symlink("busybox", rig.rootfs().join("bin/mkdir")).unwrap();
    let socket = rig.path().join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let by_annotation = json!({ "run.oci.seccomp_bpf_data": program_about_mkdir(NOTIFY), "run.oci.seccomp.receiver": socket });
    for (name, annotations, variable) in [
        ("annotated", by_annotation, "/nowhere"),
        ("c", json!({ "run.oci.seccomp_bpf_data": program_about_mkdir(NOTIFY) }), socket.to_str().unwrap()),
    ] {
        let mut config = rig.config.clone();
        config["annotations"] = annotations;
        fs::write(rig.bundle().join("config.json"), config.to_string()).unwrap();
        let mut command = rig.command(&["run", "-d", &format!("@{name}")]);
        let mut child = command.env("RUN_OCI_SECCOMP_RECEIVER", variable).spawn().unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut state = vec![0; 16 << 10];
        let (length, fd) = sys::pass_fd::receive(&stream, &mut state).unwrap();
        assert!(String::from_utf8_lossy(&state[..length]).contains(&rig.id(name)));
        drop(fd.expect("the notifications"));
        assert!(child.wait().unwrap().success());
    }
    rig.wait_for_status("c", "running");
    assert!(!rig.rootfs().join("tmp/x").exists());
}

#[test]
fn calls_that_nobody_knows_are_passed_over_or_refused() {
    if !can_run() {
        return;
    }
    let rule = json!({ "names": ["nosuchcall"], "action": "SCMP_ACT_ERRNO" });
    let rig = Rig::new(&["/bin/true"]).with(|c| {
        c["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    });
    rig.runtime(&["run", "@c"]).ok();
    let rig = rig.with(|c| c["annotations"] = json!({ "run.oci.seccomp_fail_unknown_syscall": "1" }));
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.code != 0 && said.err.contains("nosuchcall"), "{said:?}");
    rig.is_clean();
}

#[test]
fn the_hierarchy_of_systemd_alone() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("ls /sys/fs/cgroup; grep name=systemd /proc/self/cgroup");
    let rig = rig.with(|c| {
        c["annotations"] = json!({ "run.oci.systemd.force_cgroup_v1": "/sys/fs/cgroup" });
        let mounts = c["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        mounts.push(json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }));
    });
    let said = rig.runtime(&["run", "@c"]);
    if !fs::read_to_string("/proc/self/cgroup").unwrap().contains("name=systemd") {
        return assert!(said.err.contains("name=systemd"), "{said:?}");
    }
    let lines: Vec<_> = said.out.lines().map(str::to_owned).collect();
    assert_eq!(lines[0], "systemd", "{said:?}");
    assert!(lines[1].ends_with("name=systemd:/"), "{said:?}");
    let rig = rig.with(|c| c["annotations"] = json!({ "run.oci.systemd.force_cgroup_v1": "/nowhere" }));
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.code == 125 && said.err.contains("/nowhere"), "{said:?}");
    rig.is_clean();
}

/// What it does where cgroups are of version 2 is in `vm/22-annotations`.
#[test]
fn a_delegated_cgroup_needs_version_2() {
    if !can_run() {
        return;
    }
    let has_v1 = std::path::Path::new("/sys/fs/cgroup/memory").exists();
    for (value, fails) in [("../x", true), ("x", has_v1)] {
        let annotations = json!({ "run.oci.delegate-cgroup": value });
        let rig = Rig::new(&["/bin/true"]).with(|c| c["annotations"] = annotations);
        let said = rig.runtime(&["run", "@c"]);
        let wanted = if fails { 125 } else { 0 };
        assert!(said.code == wanted && fails == said.err.contains("delegate-cgroup"), "{said:?}");
        rig.is_clean();
    }
}

#[test]
fn a_container_without_a_cgroup_of_its_own() {
    if !can_run() {
        return;
    }
    let limits = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    let rig = Rig::new(&["/bin/cat", "/proc/self/cgroup"]).with(|c| {
        c["linux"]["resources"] = limits;
        let list = c["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|one| one["type"] != "cgroup");
    });
    let said = rig.runtime(&["--cgroup-manager", "disabled", "run", "@c"]).ok();
    assert_eq!(said, fs::read_to_string("/proc/self/cgroup").unwrap());
    let rig = rig.with(|c| c["linux"]["resources"] = json!({ "pids": { "limit": 7 } }));
    let said = rig.runtime(&["--cgroup-manager", "disabled", "run", "@c"]);
    assert!(said.code == 125 && said.err.contains("limits are asked for"), "{said:?}");
    rig.is_clean();
}

#[test]
fn logs_go_where_they_are_sent() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let log = format!("file:{}", rig.path().join("log").display());
    rig.runtime(&["--log", &log, "state", "nobody"]).fails(3);
    assert!(fs::read_to_string(rig.path().join("log")).unwrap().contains("nobody"));
    assert!(rig.runtime(&["--log", "syslog:", "state", "nobody"]).fails(2).contains("identifier"));
}
