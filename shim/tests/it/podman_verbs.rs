//! The verbs that podman has and docker has not.

use std::path::Path;

use crate::rig::{Rig, kill, wait_until};

#[test]
fn exists_says_it_by_its_code_alone() {
    let rig = Rig::new();
    rig.ok(&["create", "--name", "made", "busybox"]);
    assert_eq!(rig.ok(&["container", "exists", "made"]), "");
    let done = rig.run(&["exists", "nosuch"]);
    assert_eq!((done.code, done.out.as_str(), done.err.as_str()), (1, "", ""));
    rig.ok(&["volume", "create", "data"]);
    rig.ok(&["volume", "exists", "data"]);
    assert_eq!(rig.run(&["volume", "exists", "other"]).code, 1);
    assert_eq!(rig.run(&["volume", "exists", "../data"]).code, 1);
}

#[test]
fn what_is_ready_begins_with_its_start() {
    let rig = Rig::new();
    let script = "echo begun; exec sleep 1000";
    let id =
        rig.ok(&["create", "--name", "cc", "--hostname", "ready", "--init", "busybox", "sh", "-c", script]);
    assert_eq!(rig.ok(&["init", "cc"]), "cc");
    assert_eq!(rig.inspect("cc", "{{.State.Status}} {{.State.Running}}"), "initialized true");
    assert!(rig.ok(&["ps", "--filter", "status=initialized"]).contains("Initialized"));
    // Its namespaces stand, with its name and its address, and nothing has run.
    let pid = rig.inspect("cc", "{{.State.Pid}}");
    let name = std::process::Command::new("nsenter").args(["-u", "-t", &pid, "hostname"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&name.stdout), "ready\n");
    assert_ne!(rig.inspect("cc", "{{.NetworkSettings.IPAddress}}"), "");
    assert_eq!(rig.ok(&["logs", "cc"]), "");
    assert!(rig.fails(4, &["init", "cc"]).contains("initialized"));
    assert!(rig.fails(125, &["exec", "cc", "true"]).contains("is not running"));
    // A supervisor that is killed meanwhile is followed by one that knows no more has happened.
    kill(rig.supervisor(&id));
    assert!(wait_until(
        || rig.inspect("cc", "{{.State.Status}} {{.State.Pid}}") == format!("initialized {pid}")
    ));
    assert_eq!(rig.ok(&["start", "cc"]), "cc");
    assert_eq!(rig.inspect("cc", "{{.State.Status}} {{.State.Pid}}"), format!("running {pid}"));
    assert!(wait_until(|| rig.ok(&["logs", "cc"]) == "begun"));
    let told = rig.ok(&["events", "--since", "1h", "--until", "0s", "--format", "{{.Action}}"]);
    assert_eq!(told.lines().collect::<Vec<_>>(), ["create", "init", "start"]);
    rig.ok(&["rm", "-f", "cc"]);
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
}

#[test]
fn a_supervisor_that_dies_over_the_start_is_followed_by_one_that_does_it() {
    let rig = Rig::new();
    let id = rig.ok(&["create", "--name", "cc", "--network", "none", "busybox", "sleep", "1000"]);
    rig.ok(&["init", "cc"]);
    let supervisor = nix::unistd::Pid::from_raw(rig.supervisor(&id));
    // It is there, but does not get to what it is asked.
    nix::sys::signal::kill(supervisor, nix::sys::signal::Signal::SIGSTOP).unwrap();
    let start = rig.shim(&["start", "cc"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let waits_in = format!("/proc/{}/wchan", start.id());
    let asks = || std::fs::read_to_string(&waits_in).is_ok_and(|call| call.contains("skb_wait"));
    assert!(wait_until(asks));
    kill(supervisor.as_raw());
    let done = start.wait_with_output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert_eq!(rig.inspect("cc", "{{.State.Status}}"), "running");
    rig.ok(&["rm", "-f", "cc"]);
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
}

#[test]
fn what_is_ready_loses_no_byte_of_a_foreground_start_and_can_be_stopped_and_removed() {
    let rig = Rig::new();
    rig.ok(&["create", "--name", "fore", "--network", "none", "busybox", "sh", "-c", "echo out; exit 7"]);
    rig.ok(&["init", "fore"]);
    let done = rig.run(&["start", "-a", "fore"]);
    assert_eq!((done.code, done.out.as_str()), (7, "out\n"), "{}", done.err);
    // Again, from its end; then all that are not yet.
    rig.ok(&["create", "--name", "other", "--network", "none", "-t", "busybox", "sleep", "1000"]);
    rig.ok(&["init", "--all"]);
    assert_eq!(rig.inspect("fore", "{{.State.Status}}"), "initialized");
    assert_eq!(rig.ok(&["stop", "other"]), "other");
    assert_eq!(rig.inspect("other", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    rig.ok(&["init", "other"]);
    rig.ok(&["start", "--all"]);
    assert_eq!(rig.inspect("other", "{{.State.Status}}"), "running");
    rig.ok(&["create", "--name", "never", "--network", "none", "busybox", "sleep", "1000"]);
    rig.ok(&["init", "never"]);
    assert_eq!(rig.ok(&["rm", "never"]), "never", "nothing of it runs");
    rig.ok(&["rm", "-f", "other", "fore"]);
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
}

#[test]
fn files_are_mounted_for_as_long_as_somebody_holds_them() {
    let rig = Rig::new();
    let id = rig.sleeper("cc", &[]);
    rig.ok(&["exec", "cc", "sh", "-c", "echo inside >/file"]);
    let at = rig.ok(&["mount", "cc"]);
    let read = || std::fs::read_to_string(Path::new(&at).join("file")).unwrap_or_default();
    assert_eq!(read(), "inside\n");
    assert_eq!(rig.ok(&["mount", "--no-trunc"]), format!("{id}\t{at}"));
    assert_eq!(rig.ok(&["mount", "--format", "{{.Names}}"]), "cc");
    // Held twice: it outlives the container's run and one of the two.
    rig.ok(&["mount", "cc"]);
    rig.ok(&["stop", "-t", "0", "cc"]);
    rig.ok(&["cleanup", "cc"]);
    assert_eq!(read(), "inside\n");
    assert_eq!(rig.ok(&["unmount", "cc"]), "cc");
    assert_eq!(read(), "inside\n");
    assert_eq!(rig.ok(&["umount", "cc"]), "cc");
    assert_eq!((read(), rig.ok(&["mount"])), (String::new(), String::new()));
    // What was written here is there at the next start.
    rig.ok(&["mount", "cc"]);
    std::fs::write(Path::new(&at).join("file"), "outside\n").unwrap();
    rig.ok(&["unmount", "--force", "cc"]);
    rig.ok(&["start", "cc"]);
    assert_eq!(rig.ok(&["exec", "cc", "cat", "/file"]), "outside");
    assert!(rig.fails(4, &["unmount", "cc"]).contains("it is running"));
    assert_eq!(rig.ok(&["unmount", "--all"]), "");
    rig.ok(&["mount", "--all"]);
    rig.ok(&["rm", "-f", "cc"]);
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
}

#[test]
fn cleanup_is_for_what_has_ended() {
    let rig = Rig::new();
    let id = rig.sleeper("cc", &[]);
    assert!(rig.fails(4, &["container", "cleanup", "cc"]).contains("refusing to clean up"));
    assert_eq!(rig.ok(&["cleanup", "--stopped-only", "cc"]), "");
    assert_eq!(rig.ok(&["cleanup", "--all"]), "");
    // Of a killed supervisor and its payload nothing is left after it, and with --rm not even the container.
    let pid = rig.inspect("cc", "{{.State.Pid}}").parse().unwrap();
    kill(rig.supervisor(&id));
    kill(pid);
    assert!(wait_until(|| rig.run(&["cleanup", "cc"]).code == 0));
    assert_eq!(rig.ok(&["mount"]), "");
    assert_eq!(rig.ok(&["cleanup", "--rm", "cc"]), "cc");
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
}

#[test]
fn a_clone_has_what_the_original_was_made_with() {
    let rig = Rig::new();
    let flags = ["-e", "A=1", "-v", "data:/data", "-l", "k=v", "-w", "/tmp", "--memory", "64m"];
    let script = "echo $A >/data/$(hostname | wc -c); sleep 1000";
    let mut args = vec!["run", "-d", "--name", "web", "--network", "none"];
    args.extend(flags);
    args.extend(["busybox", "sh", "-c", script]);
    let id = rig.ok(&args);
    rig.ok(&["exec", "web", "touch", "/changed"]);
    let new = rig.ok(&["clone", "--memory", "128m", "--run", "web"]);
    assert_ne!(new, id);
    let shown = "{{.Name}} {{.State.Status}} {{.HostConfig.Memory}} {{.Config.Labels.k}} {{.Config.WorkingDir}} {{.Args}}";
    assert_eq!(rig.inspect(&new, shown), format!("/web-clone running 134217728 v /tmp [-c {script}]"));
    assert_eq!(rig.inspect(&new, "{{.Config.Hostname}}"), new[..12]);
    assert_eq!(rig.run(&["exec", "web-clone", "test", "-e", "/changed"]).code, 1, "as the image has it");
    assert!(wait_until(|| rig.ok(&["exec", "web-clone", "ls", "/data"]) == "13"), "the same volume");
    // The next name; another image under the same command; in place of the original.
    rig.ok(&["clone", "web"]);
    assert_eq!(rig.inspect("web-clone1", "{{.State.Status}}"), "created");
    rig.build("other", "FROM busybox\nENV A=image B=image\nRUN echo other >/etc/image\nCMD [\"false\"]\n");
    assert!(rig.fails(4, &["clone", "--destroy", "web", "moved", "other"]).contains("it runs"));
    rig.ok(&["clone", "--destroy", "--force", "--run", "web", "moved", "other"]);
    assert_eq!(rig.run(&["exists", "web"]).code, 1);
    assert_eq!(rig.ok(&["exec", "moved", "sh", "-c", "echo $A $B $(cat /etc/image)"]), "1 image other");
    assert_eq!(rig.inspect("moved", "{{.Config.Image}} {{.Args}}"), format!("other [-c {script}]"));
    assert!(rig.fails(4, &["clone", "moved", "web-clone"]).contains("already in use"));
    rig.ok(&["rm", "-f", "moved", "web-clone", "web-clone1"]);
    assert!(wait_until(|| rig.left().is_empty()), "{:?}", rig.left());
    assert_eq!(rig.ok(&["volume", "ls", "-q"]), "data");
}

#[test]
fn a_volume_goes_into_a_tar_and_comes_back() {
    let rig = Rig::new();
    let host = rig.path().join("srv");
    std::fs::create_dir(&host).unwrap();
    rig.ok(&[
        "volume",
        "create",
        "-o",
        "type=none",
        "-o",
        "o=bind",
        "-o",
        &format!("device={}", host.display()),
        "bound",
    ]);
    rig.ok(&["volume", "create", "to"]);
    let write = "mkdir /d/deep && echo x >/d/deep/f && chown 12:34 /d/deep/f && ln -s deep/f /d/l";
    rig.ok(&["run", "--rm", "--network", "none", "-v", "from:/d", "busybox", "sh", "-c", write]);
    rig.ok(&["volume", "export", "-o", "v.tar", "from"]);
    rig.ok(&["volume", "import", "to", "v.tar"]);
    let look = "cat /d/l; stat -c %u:%g /d/deep/f";
    let seen = rig.ok(&["run", "--rm", "--network", "none", "-v", "to:/d", "busybox", "sh", "-c", look]);
    assert_eq!(seen, "x\n12:34");
    // Compressed, from stdin, into a volume that is a directory of the host's.
    assert!(std::process::Command::new("gzip").arg(rig.path().join("v.tar")).status().unwrap().success());
    let packed = std::fs::File::open(rig.path().join("v.tar.gz")).unwrap();
    let done = rig.shim(&["volume", "import", "bound", "-"]).stdin(packed).status().unwrap();
    assert!(done.success());
    assert_eq!(std::fs::read_to_string(host.join("deep/f")).unwrap(), "x\n");
    let listed = rig.shim(&["volume", "export", "bound"]).output().unwrap();
    assert!(listed.status.success() && String::from_utf8_lossy(&listed.stdout).contains("deep/f"));
    assert!(!std::fs::read_to_string("/proc/self/mounts").unwrap().contains("bound/_data"));
    rig.fails(3, &["volume", "export", "nosuch"]);
    rig.fails(3, &["volume", "import", "nosuch", "v.tar.gz"]);
    std::fs::write(rig.path().join("no.tar"), "this is no archive at all").unwrap();
    rig.fails(1, &["volume", "import", "to", "no.tar"]);
}

#[test]
fn lists_in_the_order_that_is_asked_for() {
    let rig = Rig::new();
    for name in ["bb", "aa", "cc"] {
        rig.ok(&["create", "--name", name, "busybox"]);
    }
    let names = |sort| rig.ok(&["ps", "-a", "--sort", sort, "--format", "{{.Names}}"]).replace('\n', " ");
    assert_eq!((names("names"), names("created")), ("aa bb cc".to_owned(), "bb aa cc".to_owned()));
    let table = rig.ok(&["ps", "-a", "--noheading"]);
    assert_eq!((table.lines().count(), table.contains("CONTAINER ID")), (3, false));
}

#[test]
fn a_health_check_and_variables_are_changed_while_the_container_runs() {
    let rig = Rig::new();
    rig.sleeper("cc", &["--stop-timeout", "1", "-e", "A=1", "-e", "B=1"]);
    let health = || rig.inspect("cc", "{{with .State.Health}}{{.Status}}{{end}}");
    assert_eq!(health(), "");
    assert!(rig.fails(2, &["update", "--health-interval", "1s", "cc"]).contains("--health-cmd"));
    rig.ok(&[
        "update",
        "--health-cmd",
        "test -e /tmp/ok",
        "--health-interval",
        "100ms",
        "--health-retries",
        "1",
        "cc",
    ]);
    assert!(wait_until(|| health() == "unhealthy"));
    rig.ok(&["exec", "cc", "touch", "/tmp/ok"]);
    assert!(wait_until(|| health() == "healthy"));
    // One thing at a time; what is not said stays.
    rig.ok(&["update", "--health-cmd", "false", "--health-on-failure", "stop", "cc"]);
    let shown = "{{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}}";
    assert_eq!(rig.inspect("cc", shown), "[CMD-SHELL false] 100000000");
    assert!(wait_until(|| rig.inspect("cc", "{{.State.Status}}") == "exited"));
    rig.ok(&["update", "--no-healthcheck", "--env", "A=2", "--env", "C=3", "--unsetenv", "B", "cc"]);
    rig.ok(&["start", "cc"]);
    let env = rig.ok(&["exec", "cc", "sh", "-c", "tr '\\0' '\\n' </proc/1/environ | grep -E '^[ABC]='"]);
    assert_eq!(env, "A=2\nC=3");
    assert_eq!(
        (health(), rig.inspect("cc", "{{.Config.Healthcheck.Test}}")),
        (String::new(), "[NONE]".into())
    );
}
