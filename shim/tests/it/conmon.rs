//! `shim conmon` as podman and CRI-O call it, without either: what the contract between them says, step by step.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use sys::command::with_descriptors;
use sys::retry::uninterrupted;
use sys::seqpacket;

use crate::rig::{bundle, done, tool, wait_until};

/// A container's bundle, and where conmon puts things.
pub struct Pod {
    dir: tempfile::TempDir,
    pub id: String,
}

impl Pod {
    pub fn new(args: &[&str], change: impl FnOnce(&mut Value)) -> Self {
        Self::within(&std::env::temp_dir(), args, change)
    }

    /// With everything somewhere below `parent`.
    pub fn within(parent: &Path, args: &[&str], change: impl FnOnce(&mut Value)) -> Self {
        let dir = tempfile::tempdir_in(parent).unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        let pod = Self { dir, id: format!("conmon-{name}") };
        for dir in ["exits", "persist", "bundle/notify", "sockets"] {
            fs::create_dir_all(pod.path(dir)).unwrap();
        }
        bundle(&pod.path("bundle"), args, change);
        pod
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// conmon for the container, with the descriptors 3, 4, ….
    pub fn conmon(&self, flags: &[&str], descriptors: Vec<OwnedFd>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shim"));
        command.arg("conmon").args(["-c", &self.id, "-n", "name"]).arg("-r").arg(tool("runtime"));
        command.arg("--runtime-arg=--root").arg(format!("--runtime-arg={}", self.path("state").display()));
        command.args(flags).current_dir(self.dir.path()).stdin(Stdio::null());
        with_descriptors(&mut command, descriptors);
        command
    }

    /// As podman: `--api-version 1` is a switch and a word that means nothing.
    pub fn start(&self, flags: &[&str]) -> i32 {
        self.start_with(flags, Vec::new())
    }

    /// As [`Self::start`], with more descriptors from 4 on.
    pub fn start_with(&self, flags: &[&str], more: Vec<OwnedFd>) -> i32 {
        let (read, write) = pipe();
        let descriptors = std::iter::once(write).chain(more).collect();
        let path = |name: &str| self.path(name).display().to_string();
        let (bundle, pid, log) = (path("bundle"), path("pid"), format!("k8s-file:{}", path("log")));
        let (exits, persist, sockets) = (path("exits"), path("persist"), path("sockets"));
        let mut all = vec!["--api-version", "1", "-u", &self.id, "-b", &bundle, "-p", &pid, "-l", &log];
        all.extend(["--exit-dir", &exits, "--persist-dir", &persist, "--socket-dir-path", &sockets]);
        all.extend(flags);
        let conmon = self.conmon(&all, descriptors).env("_OCI_SYNCPIPE", "3").stdout(Stdio::null()).status();
        assert!(conmon.unwrap().success());
        let told = line(read);
        let pid = told["data"].as_i64().unwrap();
        assert!(pid > 0 && self.text("pid") == pid.to_string(), "{told}");
        self.runtime(&["start", &self.id]);
        i32::try_from(pid).unwrap()
    }

    pub fn runtime(&self, args: &[&str]) {
        let mut command = Command::new(tool("runtime"));
        let done = done(command.arg("--root").arg(self.path("state")).args(args).output().unwrap());
        assert_eq!(done.code, 0, "runtime {args:?}: {}", done.err);
    }

    pub fn ended(&self) -> String {
        let file = format!("exits/{}", self.id);
        assert!(wait_until(|| self.path(&file).exists()));
        self.text(&file)
    }

    /// What the log has of a stream: `F text`.
    pub fn logged(&self, stream: &str) -> Vec<String> {
        let text = self.text("log");
        let lines = text.lines().filter_map(|line| line.split_once(&format!(" {stream} ")));
        lines.map(|(_, text)| text.to_owned()).collect()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let mut command = Command::new(tool("runtime"));
        let _ = command.arg("--root").arg(self.path("state")).args(["delete", "-f", &self.id]).output();
    }
}

pub fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

/// The one line of a pipe.
pub fn line(pipe: OwnedFd) -> Value {
    let mut line = String::new();
    BufReader::new(File::from(pipe)).read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line:?}"))
}

/// Everything until the connection ends; without the kind of each packet, which must be `kind`.
pub fn received(socket: &OwnedFd, kind: u8) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 10_000]);
    loop {
        match seqpacket::receive(socket, &mut buffer).unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            length => {
                assert!(buffer[0] == kind && length <= 8193);
                text.extend(&buffer[1..length]);
            }
        }
    }
}

#[test]
fn pid_log_exit_files_and_exit_command() {
    let script = "echo out; echo err >&2; printf unfinished; exit 42";
    let pod = Pod::new(&["sh", "-c", script], |_| {});
    let seen = pod.path("seen").display().to_string();
    let pid_file = pod.path("conmon.pid").display().to_string();
    let written = format!("cat exits/{} > {seen}.new; mv {seen}.new {seen}", pod.id);
    let mut flags = vec!["--full-attach", "--conmon-pidfile", &pid_file, "--exit-command", "/bin/sh"];
    for word in ["-c", &written] {
        flags.extend(["--exit-command-arg", word]);
    }
    pod.start(&flags);
    assert_eq!(pod.ended(), "42");
    assert_eq!(pod.text("persist/exit"), "42");
    assert!(wait_until(|| pod.path("seen").exists()));
    assert_eq!(pod.text("seen"), "42");
    assert_eq!(pod.logged("stdout"), ["F out", "P unfinished"]);
    assert_eq!(pod.logged("stderr"), ["F err"]);
    let conmon = pod.text("conmon.pid");
    assert!(conmon.parse::<i32>().is_ok() && !conmon.ends_with('\n'), "{conmon:?}");
    assert!(wait_until(|| !pod.path("bundle/attach").exists()), "the socket goes at the end");
}

#[test]
fn a_container_that_cannot_be_made_is_told_with_the_runtimes_words() {
    let pod = Pod::new(&["/bin/nosuch"], |_| {});
    let (read, write) = pipe();
    let bundle = pod.path("bundle").display().to_string();
    let flags = ["--api-version", "-u", &pod.id, "-b", &bundle, "--full-attach", "-l", "none", "--sync"];
    let status = pod.conmon(&flags, vec![write]).env("_OCI_SYNCPIPE", "3").output().unwrap().status;
    let told = line(read);
    assert_eq!((told["data"].as_i64(), status.code()), (Some(-1), Some(1)), "{told}");
    assert!(told["message"].as_str().unwrap().contains("/bin/nosuch"), "{told}");
}

#[test]
fn what_is_wrong_on_the_command_line_is_said_in_conmons_words() {
    let pod = Pod::new(&["sh"], |_| {});
    let runtime = tool("runtime").display().to_string();
    let all = ["-c", "x", "-u", "x", "-r", &runtime, "-b", "/tmp", "-l", "none"];
    for (without, more, words) in [
        ("-c", &[][..], "Container ID not provided. Use --cid"),
        ("-u", &[], "Container UUID not provided. Use --cuuid"),
        ("-r", &[], "Runtime path not provided. Use --runtime"),
        ("-r", &["-r", "/nonexistent"], "Runtime path /nonexistent is not valid"),
        ("-l", &[], "Log driver not provided. Use --log-path"),
        ("-l", &["-l", "bogus:x"], "No such log driver bogus"),
        ("-l", &["-l", ""], "log-path must not be empty"),
        ("-l", &["-l", "k8s-file:"], "k8s-file requires a filename"),
        ("-l", &["-l", "/nonexistent/log"], "Failed to open log file"),
        ("", &["-e", "--restore", "x"], "Cannot use 'exec' and 'restore' at the same time"),
        ("", &["--exec-attach"], "Attach can only be specified with exec"),
        ("", &["-e", "--exec-attach"], "Attach can only be specified for a non-legacy exec session"),
        ("", &["-e"], "Exec process spec path not provided. Use --exec-process-spec"),
        (
            "",
            &["--exit-delay", "-1"],
            "Delay before invoking exit command must be greater than or equal to 0",
        ),
        ("", &["--log-level", "bogus"], "No such log level bogus"),
        ("", &["--bogus"], "option parsing failed"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shim"));
        let kept = all.chunks(2).filter(|pair| pair[0] != without).flatten();
        let said =
            done(command.arg("conmon").args(kept).args(more).current_dir(pod.dir.path()).output().unwrap());
        assert_eq!(said.code, 1, "{words}: {}", said.err);
        assert!(said.err.contains(words), "{words}: {}", said.err);
    }
    let version = Command::new(env!("CARGO_BIN_EXE_shim")).args(["conmon", "--version"]).output().unwrap();
    assert!(done(version).out.starts_with("conmon version 2."));
}

/// What CRI-O's ExecSync calls: no bundle, no version, the older key.
#[test]
fn a_legacy_exec_tells_its_exit_code_and_a_timeout() {
    let pod = Pod::new(&["sleep", "1000"], |_| {});
    pod.start(&[]);
    let exec = |name: &str, script: &str, more: &[&str]| {
        let path = |suffix: &str| pod.path(&format!("{name}.{suffix}")).display().to_string();
        let process = json!({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
        fs::write(path("json"), process.to_string()).unwrap();
        let (read, write) = pipe();
        let (spec, pid, log) = (path("json"), path("pid"), path("log"));
        let mut flags = vec!["-e", "--exec-process-spec", &spec, "-p", &pid, "-l", &log];
        flags.extend(more);
        let status = pod.conmon(&flags, vec![write]).env("_OCI_SYNCPIPE", "3").status().unwrap();
        (line(read), status.code(), pod.text(&format!("{name}.log")))
    };
    let (told, code, log) = exec("e1", "echo in; exit 3", &["--sync"]);
    assert_eq!((told, code), (json!({"exit_code": 3}), Some(3)));
    assert!(log.ends_with(" stdout F in\n"), "{log}");
    let (told, ..) = exec("e2", "sleep 1000", &["-T", "1"]);
    assert_eq!(told, json!({"exit_code": -1, "message": "command timed out"}));
    let (_, code, log) = exec("e3", "seq 1 100000", &["--sync", "--log-global-size-max", "1000"]);
    assert!(code == Some(0) && log.len() < 200_000, "no more is written once there is enough: {}", log.len());
}

#[test]
fn attached_clients_feed_stdin_and_its_end() {
    let pod = Pod::new(&["cat"], |_| {});
    // Without --full-attach the bundle is found by the container's id, through a link.
    pod.start(&["-i"]);
    let link = pod.path("sockets").join(&pod.id);
    assert!(link.is_symlink());
    let clients = [(); 2].map(|()| seqpacket::connect(&link, "attach").unwrap());
    seqpacket::send(&clients[0], b"words\n").unwrap();
    let mut buffer = [0; 100];
    assert_eq!(
        (seqpacket::receive(&clients[1], &mut buffer).unwrap(), &buffer[..7]),
        (7, &b"\x02words\n"[..])
    );
    nix::sys::socket::shutdown(
        std::os::fd::AsRawFd::as_raw_fd(&clients[0]),
        nix::sys::socket::Shutdown::Write,
    )
    .unwrap();
    assert_eq!(pod.ended(), "0", "cat's stdin ended with its client's");
    assert_eq!(received(&clients[0], 2), "words\n");
    assert_eq!(pod.logged("stdout"), ["F words"]);
    assert!(wait_until(|| !link.is_symlink()));
}

#[test]
fn stdin_stays_open_where_that_is_asked_for() {
    let pod = Pod::new(&["sh", "-c", "read a; read b; echo $a $b"], |_| {});
    pod.start(&["-i", "--leave-stdin-open", "--full-attach"]);
    for word in ["one\n", "two\n"] {
        let client = seqpacket::connect(&pod.path("bundle"), "attach").unwrap();
        seqpacket::send(&client, word.as_bytes()).unwrap();
    }
    assert_eq!(pod.ended(), "0");
    assert_eq!(pod.logged("stdout"), ["F one two"]);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_and_gets_everything_later() {
    let pod = Pod::new(&["sh", "-c", "read go; seq 1 300000"], |_| {});
    pod.start(&["-i", "--full-attach"]);
    let late = seqpacket::connect(&pod.path("bundle"), "attach").unwrap();
    seqpacket::send(&late, b"go\n").unwrap();
    assert_eq!(pod.ended(), "0");
    assert_eq!(pod.logged("stdout").iter().filter(|line| line.starts_with("F ")).count(), 300_000);
    // conmon itself has gone: another process sends what is left.
    let expected: String = (1..=300_000).map(|number| format!("{number}\n")).collect();
    assert!(received(&late, 2) == expected);
}

#[test]
fn the_control_fifo_sizes_the_terminal_and_opens_the_log_anew() {
    let script = "until [ \"$(stty size)\" = '30 99' ]; do sleep 0.02; done; echo sized; read x; echo got $x";
    let pod = Pod::new(&["sh", "-c", script], |config| config["process"]["terminal"] = true.into());
    pod.start(&["-t", "--full-attach"]);
    let control = |line: &str| {
        File::options().write(true).open(pod.path("bundle/ctl")).unwrap().write_all(line.as_bytes()).unwrap();
    };
    // What makes no sense is passed over; a line may come in pieces.
    control("1 5000 10\nbogus\n1 30");
    control(" 99\n");
    assert!(wait_until(|| pod.logged("stdout").iter().any(|line| line.starts_with("F sized"))));
    fs::rename(pod.path("log"), pod.path("log.1")).unwrap();
    control("2 0 0\n");
    assert!(wait_until(|| pod.path("log").exists()));
    let client = seqpacket::connect(&pod.path("bundle"), "attach").unwrap();
    seqpacket::send(&client, b"words\n").unwrap();
    assert_eq!(pod.ended(), "0");
    assert!(pod.logged("stdout").iter().any(|line| line.starts_with("F got words")), "{}", pod.text("log"));
    assert!(pod.text("log.1").contains("sized") && !pod.text("log").contains("sized"));
}

#[test]
fn a_log_stays_below_its_limit_and_signals_reach_the_container() {
    let pod = Pod::new(&["sh", "-c", "seq 1 2000; trap 'exit 9' TERM; while :; do sleep 0.02; done"], |_| {});
    let pid_file = pod.path("conmon.pid").display().to_string();
    pod.start(&["--log-size-max", "5000", "--conmon-pidfile", &pid_file]);
    assert!(wait_until(|| pod.text("log").ends_with(" 2000\n")));
    assert!(pod.text("log").len() <= 5000 && !pod.path("log.1").exists());
    let conmon = nix::unistd::Pid::from_raw(pod.text("conmon.pid").parse().unwrap());
    // Before its trap is set the shell ignores it, as the first process of its namespace.
    let ended = pod.path("exits").join(&pod.id);
    assert!(wait_until(|| {
        let _ = nix::sys::signal::kill(conmon, nix::sys::signal::Signal::SIGTERM);
        ended.exists()
    }));
    assert_eq!(pod.ended(), "9");
}

#[test]
fn a_timeout_ends_the_container() {
    let pod = Pod::new(&["sleep", "1000"], |_| {});
    pod.start(&["--timeout", "1"]);
    assert_eq!(pod.ended(), "-1");
}

#[test]
fn only_harmless_words_are_passed_on_to_systemd() {
    let pod = Pod::new(&["sleep", "1000"], |_| {});
    let host = UnixDatagram::bind(pod.path("host.sock")).unwrap();
    host.set_read_timeout(Some(std::time::Duration::from_secs(60))).unwrap();
    pod.start(&["--sdnotify-socket", pod.path("host.sock").to_str().unwrap()]);
    let inside = UnixDatagram::unbound().unwrap();
    inside
        .send_to(b"MAINPID=1\nFDSTORE=1\nREADY=1\nSTATUS=up", pod.path("bundle/notify/notify.sock"))
        .unwrap();
    let mut all = String::new();
    while !all.contains("STATUS=up") {
        let mut buffer = [0; 1000];
        let length = uninterrupted(|| host.recv(&mut buffer)).unwrap();
        all += &String::from_utf8_lossy(&buffer[..length]);
        all.push('\n');
    }
    assert!(all.contains("READY=1") && !all.contains("MAINPID") && !all.contains("FDSTORE"), "{all}");
}

#[test]
fn podmans_exec_begins_when_its_client_is_there() {
    let pod = Pod::new(&["sleep", "1000"], |_| {});
    pod.start(&["--full-attach"]);
    let session = pod.path("session");
    fs::create_dir_all(session.join("exit")).unwrap();
    let process =
        json!({"args": ["echo", "first"], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    fs::write(session.join("spec"), process.to_string()).unwrap();
    let ((sync, theirs_sync), (theirs_start, start), (attach, theirs_attach)) = (pipe(), pipe(), pipe());
    let path = |name: &str| session.join(name).display().to_string();
    let (bundle, pid, exits, spec) = (session.display().to_string(), path("pid"), path("exit"), path("spec"));
    let mut flags = vec!["--api-version", "1", "-u", "session", "-b", &bundle, "-p", &pid, "-l", "none"];
    flags.extend([
        "--exit-dir",
        &exits,
        "--full-attach",
        "-e",
        "--exec-attach",
        "--exec-process-spec",
        &spec,
    ]);
    let mut command = pod.conmon(&flags, vec![theirs_sync, theirs_start, theirs_attach]);
    for (number, name) in ["_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"].iter().enumerate() {
        command.env(name, (number + 3).to_string());
    }
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut start = File::from(start);
    start.write_all(b"1").unwrap();
    assert_eq!(line(attach), json!({"data": 0}));
    let client = seqpacket::connect(Path::new(&bundle), "attach").unwrap();
    assert!(!session.join("pid").exists(), "nothing runs before the second word");
    start.write_all(b"1").unwrap();
    assert_eq!(received(&client, 2), "first\n");
    assert!(child.wait().unwrap().success());
    let mut told = String::new();
    File::from(sync).read_to_string(&mut told).unwrap();
    let told: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(told.len() == 2 && told[0]["data"].as_i64() > Some(0) && told[1]["data"] == 0, "{told:?}");
    assert!(wait_until(
        || fs::read_to_string(session.join("exit").join(&pod.id)).is_ok_and(|code| code == "0")
    ));
}
