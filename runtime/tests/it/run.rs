//! `run`.

use std::fs::File;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::rig::{Rig, can_run, wait_until};

#[test]
fn ends_with_the_programs_code_and_leaves_nothing() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("echo out; echo err >&2; exit 7");
    let said = rig.runtime(&["run", "@c"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"));
    rig.is_clean();
}

#[test]
fn a_signal_is_128_and_its_number() {
    if !can_run() {
        return;
    }
    // Not the first process of a PID namespace, which a signal of its own making cannot kill.
    let rig = Rig::script("kill -9 $$").with(|config| {
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.retain(|namespace| namespace["type"] != "pid");
    });
    assert_eq!(rig.runtime(&["run", "@c"]).code, 137);
    rig.is_clean();
}

#[test]
fn programs_that_cannot_run() {
    if !can_run() {
        return;
    }
    let cases: [(&str, i32, &str); 5] = [
        ("missing", 127, "exec: \"missing\": executable file not found in $PATH"),
        ("/missing", 127, "no such file or directory"),
        ("/etc/passwd", 126, "exec: \"/etc/passwd\": permission denied"),
        ("/bin", 126, "permission denied"),
        ("/bin/garbage", 126, "exec format error"),
    ];
    for (program, code, text) in cases {
        let rig = Rig::new(&[program]);
        std::fs::write(rig.rootfs().join("bin/garbage"), "\x01\x02 garbage").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(rig.rootfs().join("bin/garbage"), mode).unwrap();
        let line = rig.runtime(&["run", "@c"]).fails(code);
        assert!(line.contains(text), "{line}");
        rig.is_clean();
    }
}

#[test]
fn detached_it_runs_on() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    let pid_file = rig.path().join("pid");
    rig.runtime(&["run", "-d", "--pid-file", pid_file.to_str().unwrap(), "@c"]).ok();
    assert_eq!(rig.status("c"), "running");
    let pid: i32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
    rig.runtime(&["delete", "--force", "@c"]).ok();
    rig.is_clean();
}

#[test]
fn kept_it_can_be_looked_at() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]);
    rig.runtime(&["run", "--keep", "@c"]).ok();
    assert_eq!(rig.status("c"), "stopped");
    rig.runtime(&["delete", "@c"]).ok();
    rig.is_clean();
}

#[test]
fn a_terminal_is_shown() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("tty; stty size; [ -c /dev/console ] && echo console").with(|config| {
        config["process"]["terminal"] = true.into();
        config["process"]["consoleSize"] = json!({ "height": 40, "width": 100 });
    });
    for name in ["tty", "stty"] {
        std::os::unix::fs::symlink("busybox", rig.rootfs().join("bin").join(name)).unwrap();
    }
    let out = rig.runtime(&["run", "@c"]).ok();
    assert_eq!(out, "/dev/pts/0\r\n40 100\r\nconsole\r\n");
}

#[test]
fn the_bundle_can_come_from_stdin() {
    if !can_run() {
        return;
    }
    use std::io::Write as _;
    let rig = Rig::new(&["/bin/cat"]);
    let mut command = rig.command(&["run", "--bundle", "-", "@c"]);
    command.current_dir("/").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(format!("{}\nthe rest\n", rig.bundle().display()).as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    // What follows the path belongs to the container, byte for byte.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the rest\n");
}

#[test]
fn another_container_of_its_id_outlives_it() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    let mut first = rig.command(&["run", "@c"]).stdin(Stdio::null()).spawn().unwrap();
    let directory = rig.root().join(rig.id("c"));
    wait_until("the first to run", || {
        let free = File::open(&directory).is_ok_and(|directory| directory.try_lock().is_ok());
        free && rig.runtime(&["state", "@c"]).out.contains("running")
    });
    let pid = Pid::from_raw(first.id().cast_signed());
    kill(pid, Signal::SIGSTOP).unwrap();
    rig.runtime(&["delete", "--force", "@c"]).ok();
    rig.runtime(&["create", "@c"]).ok();
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(first.wait().unwrap().code(), Some(137));
    assert_eq!(rig.status("c"), "created");
    rig.runtime(&["delete", "--force", "@c"]).ok();
    rig.is_clean();
}

#[test]
fn hooks_run_in_their_order() {
    if !can_run() {
        return;
    }
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    let rig = Rig::new(&["/bin/true"]).with(|config| {
        for kind in kinds {
            let script = format!("echo {kind}; case $(cat) in *'\"status\":\"'*) ;; *) exit 1;; esac");
            config["hooks"][kind] =
                json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"] }]);
        }
    });
    let out = rig.runtime(&["run", "@c"]).ok();
    assert_eq!(out.lines().collect::<Vec<_>>(), kinds);
    rig.is_clean();
}

#[test]
fn a_failing_or_hanging_hook_stops_it() {
    if !can_run() {
        return;
    }
    for (kind, script) in [
        ("createRuntime", "exit 3"),
        ("createContainer", "exit 3"),
        ("startContainer", "exit 3"),
        ("prestart", "sleep 60"),
    ] {
        let rig = Rig::script("echo must not run").with(|config| {
            config["hooks"][kind] =
                json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 1, "env": ["PATH=/bin"] }]);
        });
        let said = rig.runtime(&["run", "@c"]);
        assert_eq!(said.out, "", "{kind}");
        let line = said.fails(125);
        assert!(line.contains(&format!("error running {kind} hook #0: /bin/sh: ")), "{line}");
        rig.is_clean();
    }
}

#[test]
fn a_failing_hooks_words_are_in_the_error() {
    if !can_run() {
        return;
    }
    for kind in ["prestart", "startContainer", "poststart"] {
        let rig = Rig::new(&["/bin/sleep", "100"]).with(|config| {
            let script = "echo all is well; echo one >&2; echo two >&2; exit 3";
            config["hooks"][kind] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        });
        let said = rig.runtime(&["run", "@c"]);
        assert_eq!(said.code, 125, "{said:?}");
        let line = format!("error running {kind} hook #0: /bin/sh: exit status 3, stderr: one; two");
        assert!(said.err.lines().last().unwrap().ends_with(&line), "{said:?}");
        rig.is_clean();
    }
}

/// A process that a hook leaves behind keeps its standard error open.
#[test]
fn what_a_hook_leaves_behind_is_not_waited_for() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/echo", "done"]).with(|config| {
        let script = "sleep 30 >/dev/null & echo begun >&2";
        config["hooks"]["createRuntime"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    });
    let begin = std::time::Instant::now();
    let said = rig.runtime(&["run", "--no-subreaper", "@c"]);
    assert_eq!((said.out.as_str(), said.err.as_str()), ("done\n", "begun\n"), "{said:?}");
    // Nor is one heard out that never stops: it ends when nobody listens any more.
    let pid_file = rig.path().join("left");
    let rig = rig.with(|config| {
        let script =
            format!("(while :; do echo more; done) >&2 & echo $! > {}; echo begun >&2", pid_file.display());
        config["hooks"]["createRuntime"] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
    });
    let said = rig.runtime(&["run", "--no-subreaper", "@d"]);
    assert_eq!((said.code, said.out.as_str()), (0, "done\n"));
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    let process = std::path::PathBuf::from(format!("/proc/{}", pid.trim()));
    crate::rig::wait_until("its end", || !process.exists());
    assert!(begin.elapsed().as_secs() < 20);
}

#[test]
fn hooks_without_an_environment() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]).with(|config| {
        config["process"]["env"] = json!(["PATH=/bin", "FOO=container"]);
        for kind in ["createRuntime", "createContainer", "startContainer", "poststop"] {
            let script = format!(
                "echo {kind} $FOO $HOME; grep SigBlk /proc/self/status | grep -v 0000000000000000; true"
            );
            config["hooks"][kind] = json!([{ "path": "/bin/sh", "args": ["sh", "-c", script] }]);
        }
        config["hooks"]["poststart"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo poststart $FOO"], "env": [] }]);
    });
    let out =
        crate::rig::run(rig.command(&["run", "@c"]).env_clear().envs([("FOO", "ours"), ("HOME", "/h")])).ok();
    let lines: Vec<_> = out.lines().collect();
    let expected = [
        "createRuntime ours /h",
        "createContainer",
        "startContainer container /root",
        "poststart",
        "poststop ours /h",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_container_goes_with_its_poststart_hook() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "100"]).with(|config| {
        config["hooks"]["poststart"] = json!([{ "path": "/bin/false" }]);
        config["hooks"]["poststop"] =
            json!([{ "path": "/bin/sh", "args": ["sh", "-c", "echo stopped"], "env": ["PATH=/bin"] }]);
    });
    rig.runtime(&["create", "@c"]).ok();
    let said = rig.runtime(&["start", "@c"]);
    assert_eq!(said.out, "stopped\n", "{said:?}");
    assert!(said.fails(1).contains("error running poststart hook #0: /bin/false: exit status 1"));
    rig.is_clean();
}

#[test]
fn create_container_hooks_begin_in_the_root_file_system() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]).with(|config| {
        config["hooks"]["createContainer"] = json!([{ "path": "/bin/pwd" }]);
    });
    let rootfs = std::fs::canonicalize(rig.rootfs()).unwrap();
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), format!("{}\n", rootfs.display()));
}
