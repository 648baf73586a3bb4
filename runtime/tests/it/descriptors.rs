//! What passes between the caller, the runtime and the program: descriptors, sockets, agents.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

use crate::rig::{PATIENCE, Rig, can_run, run, runtime, wait_until};

const LIST: &str = "for fd in 3 4 5 6; do readlink /proc/self/fd/$fd; done; echo $LISTEN_FDS $LISTEN_PID";

/// The runtime, started by a shell that opens descriptors first.
fn with_descriptors(rig: &Rig, before: &str, flags: &str) -> Command {
    let line =
        format!("{before} exec {} --root {} run {flags} {}", runtime(), rig.root().display(), rig.id("c"));
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &line]).current_dir(rig.bundle()).stdin(Stdio::null());
    command
}

/// What the program sees of descriptors 3 and on.
fn seen(rig: &Rig, before: &str, flags: &str) -> String {
    run(&mut with_descriptors(rig, before, flags)).ok()
}

#[test]
fn descriptors_are_kept_as_told() {
    if !can_run() {
        return;
    }
    let rig = Rig::script(LIST);
    let open = "exec 3</dev/zero 4</dev/full 5</dev/null;";
    assert_eq!(seen(&rig, open, ""), "\n");
    assert_eq!(seen(&rig, open, "--preserve-fds 1"), "/dev/zero\n\n");
    assert_eq!(seen(&rig, &format!("{open} export LISTEN_FDS=1 LISTEN_PID=$$;"), ""), "/dev/zero\n1 1\n");
    assert_eq!(
        seen(&rig, &format!("{open} export LISTEN_FDS=1 LISTEN_PID=$$;"), "--preserve-fds 1"),
        "/dev/zero\n/dev/full\n1 1\n"
    );
    assert_eq!(seen(&rig, &format!("{open} export LISTEN_FDS=1 LISTEN_PID=1;"), ""), "\n", "not for us");
    let line = run(&mut with_descriptors(&rig, "", "--preserve-fds 1")).fails(125);
    assert!(line.contains("descriptor 3 is not open"), "{line}");
}

#[test]
fn a_pidfd_for_who_asks() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    let path = rig.path().join("pidfd");
    let listener = UnixListener::bind(&path).unwrap();
    rig.runtime(&["run", "-d", "--pidfd-socket", path.to_str().unwrap(), "@c"]).ok();
    let (socket, _) = listener.accept().unwrap();
    let (_, pidfd) = sys::pass_fd::receive(&socket, &mut [0; 64]).unwrap();
    sys::pidfd::send_signal(pidfd.unwrap(), nix::libc::SIGKILL).unwrap();
    rig.wait_for_status("c", "stopped");
}

/// The agent's end of a filter: it sees the call coming, and hangs up, which the kernel answers with ENOSYS.
#[test]
fn an_agent_for_a_filter() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("mkdir /tmp/made; exec sleep 1000");
    std::os::unix::fs::symlink("busybox", rig.rootfs().join("bin/mkdir")).unwrap();
    let path = rig.path().join("agent");
    let rig = rig.with(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": path,
            "listenerMetadata": "about it",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
        });
    });
    let listener = UnixListener::bind(&path).unwrap();
    let out = rig.path().join("out");
    let file = fs::File::create(&out).unwrap();
    let mut command = rig.command(&["run", "-d", "@c"]);
    let mut child = command.stdout(Stdio::null()).stderr(file).spawn().unwrap();
    let agent = || -> (Value, OwnedFd) {
        let (socket, _) = listener.accept().unwrap();
        let mut bytes = vec![0; 16 << 10];
        let (length, fd) = sys::pass_fd::receive(&socket, &mut bytes).unwrap();
        (serde_json::from_slice(&bytes[..length]).unwrap(), fd.unwrap())
    };
    let (said, notifications) = agent();
    assert!(child.wait().unwrap().success());
    assert_eq!((&said["fds"], &said["metadata"]), (&json!(["seccompFd"]), &json!("about it")));
    assert_eq!(said["state"]["id"], rig.id("c"));
    let wait = u16::try_from(PATIENCE.as_millis()).unwrap();
    let mut waiting = [PollFd::new(notifications.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut waiting, wait).unwrap(), 1, "the call is announced");
    drop(notifications);
    wait_until("the program to be refused", || {
        fs::read_to_string(&out).unwrap().contains("Function not implemented")
    });
    assert!(!rig.rootfs().join("tmp/made").exists());
}

/// Whoever waits for the end of a pipe must not wait for `start`.
#[test]
fn a_created_container_keeps_nothing_of_the_callers() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    let line = format!(
        "exec 7</etc/hostname; exec {} --root {} create --pid-file pid {}",
        runtime(),
        rig.root().display(),
        rig.id("c")
    );
    let mut command = Command::new("/bin/sh");
    run(command.args(["-c", &line]).current_dir(rig.bundle()).stdin(Stdio::null())).ok();
    let pid = fs::read_to_string(rig.bundle().join("pid")).unwrap();
    let open = || -> Vec<String> {
        let list = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        list.filter(|entry| entry.file_name().to_str().unwrap().parse::<i32>().unwrap() > 2)
            .filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.display().to_string()))
            .collect()
    };
    // The FIFOs by which it waits.
    wait_until("the others to be closed", || open().len() == 2);
    assert!(open().iter().all(|path| path.ends_with("/start") || path.ends_with("/answer")), "{:?}", open());
    rig.runtime(&["start", "@c"]).ok();
    rig.wait_for_status("c", "stopped");
}

/// Else the first files that are opened are what the program reads and writes.
#[test]
fn standard_streams_that_are_closed_are_null() {
    if !can_run() {
        return;
    }
    let script =
        "exec 5>/tmp/streams; for fd in 0 1 2; do link=$(readlink /proc/$$/fd/$fd); echo $link >&5; done";
    let rig = Rig::script(script);
    let line = format!("exec {} --root {} run {} <&- >&- 2>&-", runtime(), rig.root().display(), rig.id("c"));
    run(Command::new("/bin/sh").args(["-c", &line]).current_dir(rig.bundle())).ok();
    let said = fs::read_to_string(rig.rootfs().join("tmp/streams")).unwrap();
    assert_eq!(said.lines().filter(|line| line.ends_with("/null")).count(), 3, "{said}");
}

#[test]
fn few_descriptors_are_enough() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("ulimit -n; ulimit -Hn").with(|config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 8, "hard": 9 }]);
    });
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "8\n9\n");
    rig.runtime(&["create", "@d"]).ok();
    rig.runtime(&["start", "@d"]).ok();
    rig.wait_for_status("d", "stopped");
}
