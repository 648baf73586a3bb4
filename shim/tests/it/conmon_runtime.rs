//! What conmon hands to the runtime and to the payload, and when it lets go of what was handed to it.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sys::seqpacket;

use crate::conmon::{Pod, line, pipe, received};
use crate::rig::{tool, wait_until};

/// Whether nobody holds the other end any more.
fn is_let_go(end: &OwnedFd) -> bool {
    let mut look = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
    poll(&mut look, PollTimeout::ZERO).unwrap();
    look[0].revents().unwrap().contains(PollFlags::POLLHUP)
}

/// A program in the runtime's place, which writes down how it was called.
fn recorder(pod: &Pod, then: &str) -> String {
    let path = pod.path("recorder");
    let (args, pid) = (pod.path("args"), pod.path("pid-told"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >{}\necho \"$LISTEN_PID $$\" >{}\n{then}\n",
        args.display(),
        pid.display()
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn podmans_reserved_ports_are_held_until_the_end_and_free_with_the_exit_file() {
    // Several, each looked at in the very moment in which its exit file is there.
    for _ in 0..5 {
        let pod = Pod::new(&["sleep", "1000"], |_| {});
        let (ours, leaked) = pipe();
        pod.start_with(&["--full-attach"], vec![leaked]);
        assert!(!is_let_go(&ours));
        pod.runtime(&["kill", &pod.id, "KILL"]);
        let file = pod.path("exits").join(&pod.id);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !file.exists() && std::time::Instant::now() < end {
            std::thread::yield_now();
        }
        assert!(is_let_go(&ours), "who sees the exit file may take the port");
        assert_eq!(pod.ended(), "137");
    }
}

#[test]
fn the_runtime_is_called_as_podman_and_crio_want_it() {
    let pod = Pod::new(&["echo"], |_| {});
    let recorder = recorder(&pod, &format!("exec {} \"$@\"", tool("runtime").display()));
    let flags = [
        "-r",
        &recorder,
        "--no-pivot",
        "--no-new-keyring",
        "--runtime-opt",
        "--preserve-fds",
        "--runtime-opt",
        "0",
    ];
    pod.start_with(&[&flags[..], &["--full-attach"]].concat(), vec![]);
    let path = |name: &str| pod.path(name).display().to_string();
    let expected = format!(
        "--root {} create --bundle {} --pid-file {} --no-pivot --no-new-keyring --preserve-fds 0 {}\n",
        path("state"),
        path("bundle"),
        path("pid"),
        pod.id
    );
    assert_eq!(pod.text("args"), expected);
    assert_eq!(pod.ended(), "0");
}

#[test]
fn sockets_of_systemd_are_passed_on_and_the_systemd_driver_is_asked_for() {
    let pod = Pod::new(&["echo"], |_| {});
    let recorder = recorder(&pod, "echo no words of its own >&2; exit 1");
    let (read, write) = pipe();
    let bundle = pod.path("bundle").display().to_string();
    let flags = ["--api-version", "-u", &pod.id, "-b", &bundle, "--full-attach", "-l", "none", "--sync"];
    let mut command =
        pod.conmon(&[&flags[..], &["-s", "-r", &recorder, "--replace-listen-pid"]].concat(), vec![write]);
    let status = command.env("_OCI_SYNCPIPE", "3").env("LISTEN_PID", "1").status().unwrap();
    let told = line(read);
    assert_eq!((status.code(), told["data"].as_i64()), (Some(1), Some(-1)));
    assert!(told["message"].as_str().unwrap().contains("no words of its own"), "{told}");
    assert!(pod.text("args").starts_with("--systemd-cgroup --root "), "{}", pod.text("args"));
    let pids = pod.text("pid-told");
    let (named, own) = pids.trim().split_once(' ').unwrap();
    assert_eq!(named, own, "LISTEN_PID is the runtime's");
}

#[test]
fn another_user_can_open_its_output_anew() {
    let script = "echo out >/dev/stdout; echo err >/dev/stderr";
    let pod = Pod::new(&["sh", "-c", script], |config| {
        config["process"]["user"] = serde_json::json!({ "uid": 1000, "gid": 1000 });
    });
    pod.start(&["--full-attach"]);
    assert_eq!(pod.ended(), "0");
    assert_eq!(
        (pod.logged("stdout"), pod.logged("stderr")),
        (vec!["F out".to_owned()], vec!["F err".to_owned()])
    );
}

#[test]
fn the_exit_command_waits_its_time_and_its_failure_is_conmons() {
    let pod = Pod::new(&["echo"], |_| {});
    let (read, write) = pipe();
    let path = |name: &str| pod.path(name).display().to_string();
    let (bundle, pid, exits, seen) = (path("bundle"), path("pid"), path("exits"), path("seen"));
    let touch = format!("touch {seen}; exit 5");
    let flags = ["--api-version", "-u", &pod.id, "-b", &bundle, "-p", &pid, "--full-attach", "-l", "none"];
    let more = ["--sync", "--exit-dir", &exits, "--exit-delay", "1", "--exit-command", "/bin/sh"];
    let last = ["--exit-command-arg", "-c", "--exit-command-arg", &touch];
    let mut command = pod.conmon(&[&flags[..], &more, &last].concat(), vec![write]);
    let mut child = command.env("_OCI_SYNCPIPE", "3").spawn().unwrap();
    drop(command);
    assert!(line(read)["data"].as_i64() > Some(0));
    pod.runtime(&["start", &pod.id]);
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    let waited = time(Path::new(&seen)).duration_since(time(&pod.path("exits").join(&pod.id))).unwrap();
    // The times of files are those of the last tick.
    assert!(waited.as_millis() >= 950, "{waited:?}");
}

#[test]
fn a_bundle_whose_path_no_socket_address_holds() {
    let long = tempfile::tempdir().unwrap();
    let parent = long.path().join("a".repeat(120));
    fs::create_dir(&parent).unwrap();
    let pod = Pod::within(&parent, &["cat"], |_| {});
    pod.start(&["-i", "--full-attach"]);
    let client = seqpacket::connect(&pod.path("bundle"), "attach").unwrap();
    seqpacket::send(&client, b"words\n").unwrap();
    assert!(wait_until(|| pod.logged("stdout") == ["F words"]));
    nix::sys::socket::shutdown(std::os::fd::AsRawFd::as_raw_fd(&client), nix::sys::socket::Shutdown::Write)
        .unwrap();
    assert_eq!(received(&client, 2), "words\n");
    assert_eq!(pod.ended(), "0");
}
