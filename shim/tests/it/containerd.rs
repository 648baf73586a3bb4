//! `shim containerd-shim` as containerd calls it, without containerd: ttrpc by hand, every call of the task and sandbox
//! services.

use std::cell::Cell;
use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sys::retry::uninterrupted;

use crate::rig::{bundle, tool, wait_until};

const TASK: &str = "containerd.task.v2.Task";
const SANDBOX: &str = "containerd.runtime.sandbox.v1.Sandbox";

/// A number as protobuf has it.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push((number & 127 | 128).try_into().unwrap());
        number >>= 7;
    }
    bytes.push(number.try_into().unwrap());
    bytes
}

pub fn number(tag: u64, value: u64) -> Vec<u8> {
    [varint(tag << 3), varint(value)].concat()
}

pub fn field(tag: u64, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&varint(tag << 3 | 2), &varint(bytes.len() as u64), bytes].concat()
}

/// The fields of a message: a number, or bytes.
#[derive(Debug, Default)]
pub struct Fields(Vec<(u64, u64, Vec<u8>)>);

impl Fields {
    pub fn read(mut bytes: &[u8]) -> Self {
        let next = |bytes: &mut &[u8]| {
            let (mut number, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                number |= u64::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    return number;
                }
            }
        };
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = next(&mut bytes);
            let value = next(&mut bytes);
            let length = if key & 7 == 2 { usize::try_from(value).unwrap() } else { 0 };
            fields.push((key >> 3, value, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        Self(fields)
    }

    pub fn number(&self, tag: u64) -> u64 {
        self.0.iter().find(|(found, ..)| *found == tag).map_or(0, |(_, value, _)| *value)
    }

    pub fn bytes(&self, tag: u64) -> &[u8] {
        self.0.iter().find(|(found, ..)| *found == tag).map_or(&[], |(.., bytes)| bytes)
    }

    pub fn text(&self, tag: u64) -> String {
        String::from_utf8(self.bytes(tag).to_vec()).unwrap()
    }
}

/// Whose, and the payload or the code and words of an error.
type Answer = (u32, Result<Fields, (u64, String)>);

pub struct Shim {
    pub dir: tempfile::TempDir,
    pub id: String,
    socket: UnixStream,
    stream: Cell<u32>,
}

impl Shim {
    pub fn start(script: &str) -> Self {
        Self::start_with(script, &[])
    }

    /// With more fields of containerd's options.
    pub fn start_with(script: &str, more: &[Vec<u8>]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap().trim_start_matches('.').to_owned();
        let id = format!("task-{name}");
        bundle(&dir.path().join("bundle"), &["sh", "-c", script], |_| {});
        let publisher = dir.path().join("publish");
        let events = dir.path().join("events").display().to_string();
        fs::write(&publisher, format!("#!/bin/sh\ncat >/dev/null; echo \"$*\" >>{events}\n")).unwrap();
        fs::set_permissions(&publisher, fs::Permissions::from_mode(0o755)).unwrap();
        let any = options_with(dir.path(), more);
        let mut command = Self::command(&dir, &id);
        let mut child = command.arg("start").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&any).unwrap();
        let address = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let socket = UnixStream::connect(address.trim().strip_prefix("unix://").unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { dir, id, socket, stream: Cell::new(1) }
    }

    pub fn command(dir: &tempfile::TempDir, id: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shim"));
        command.args(["containerd-shim", "-namespace", "tests", "-id", id]);
        command.args(["-address", "/nonexistent.sock", "-publish-binary"]).arg(dir.path().join("publish"));
        command.current_dir(dir.path().join("bundle"));
        command
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Sends a request; the number by which its answer is known.
    fn ask(&self, service: &str, method: &str, payload: &[u8]) -> u32 {
        self.send(service, method, payload).unwrap()
    }

    fn send(&self, service: &str, method: &str, payload: &[u8]) -> std::io::Result<u32> {
        let request = [field(1, service), field(2, method), field(3, payload)].concat();
        let stream = self.stream.replace(self.stream.get() + 2);
        let length = u32::try_from(request.len()).unwrap();
        let head = [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[1, 0]].concat();
        (&self.socket).write_all(&[head, request].concat())?;
        Ok(stream)
    }

    fn answer(&self) -> Answer {
        self.receive().unwrap()
    }

    /// The next answer.
    fn receive(&self) -> std::io::Result<Answer> {
        let mut head = [0; 10];
        (&self.socket).read_exact(&mut head)?;
        let mut body = vec![0; u32::from_be_bytes(*head.first_chunk().unwrap()) as usize];
        (&self.socket).read_exact(&mut body)?;
        let stream = u32::from_be_bytes(head[4..8].try_into().unwrap());
        let response = Fields::read(&body);
        let status = Fields::read(response.bytes(1));
        let failed = status.number(1) != 0;
        let answer = if failed {
            Err((status.number(1), status.text(2)))
        } else {
            Ok(Fields::read(response.bytes(2)))
        };
        Ok((stream, answer))
    }

    pub fn call(&self, service: &str, method: &str, payload: &[u8]) -> Result<Fields, (u64, String)> {
        let asked = self.ask(service, method, payload);
        let (stream, answer) = self.answer();
        assert_eq!(stream, asked, "{method}");
        answer
    }

    #[track_caller]
    pub fn ok(&self, method: &str, fields: &[Vec<u8>]) -> Fields {
        let payload = [field(1, &self.id), fields.concat()].concat();
        self.call(TASK, method, &payload).unwrap_or_else(|err| panic!("{method}: {err:?}"))
    }

    #[track_caller]
    fn fails(&self, code: u64, method: &str, fields: &[Vec<u8>]) {
        let payload = [field(1, &self.id), fields.concat()].concat();
        let err = self.call(TASK, method, &payload).expect_err(method);
        assert_eq!(err.0, code, "{method}: {err:?}");
    }

    pub fn create(&self) {
        self.create_with(&[]);
    }

    /// With more fields of containerd's options.
    pub fn create_with(&self, more: &[Vec<u8>]) {
        let bundle = self.path("bundle").display().to_string();
        let out = format!("file://{}", self.path("out").display());
        let options = field(10, options_with(self.dir.path(), more));
        assert!(self.ok("Create", &[field(2, bundle), field(6, out), options]).number(1) > 0);
    }

    /// Without the first words of each: `/tasks/start` and so on.
    fn events(&self) -> Vec<String> {
        let text = self.text("events");
        let topics =
            text.lines().filter_map(|line| line.split(' ').skip_while(|word| *word != "--topic").nth(1));
        topics.map(str::to_owned).collect()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let mut command = Command::new(tool("runtime"));
        let _ = command.arg("--root").arg(self.path("oci/tests")).args(["delete", "-f", &self.id]).output();
        let id = &*self.id;
        // It may have gone by itself.
        for (service, method, id) in [
            (SANDBOX, "StopSandbox", "pod"),
            (TASK, "Wait", id),
            (TASK, "Delete", id),
            (TASK, "Shutdown", id),
        ] {
            let Ok(asked) = self.send(service, method, &field(1, id)) else { return };
            while self.receive().is_ok_and(|(stream, _)| stream != asked) {}
        }
    }
}

/// containerd's options for a runtime: the program, and where it keeps its containers.
pub fn options_with(dir: &Path, more: &[Vec<u8>]) -> Vec<u8> {
    let options = [
        more.concat(),
        field(6, tool("runtime").to_str().unwrap()),
        field(7, dir.join("oci").to_str().unwrap()),
    ];
    [field(1, "containerd.runc.v1.Options"), field(2, options.concat())].concat()
}

fn any(url: &str, json: &serde_json::Value) -> Vec<u8> {
    [field(1, url), field(2, json.to_string())].concat()
}

fn process(args: &[&str]) -> Vec<u8> {
    let process = json!({"args": args, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    field(7, any("types.containerd.io/opencontainers/runtime-spec/1/Process", &process))
}

#[test]
fn a_task_from_its_creation_to_its_end() {
    let shim = Shim::start("echo up; trap 'exit 5' TERM; while :; do sleep 0.02; done");
    shim.create();
    assert_eq!(shim.ok("State", &[]).number(4), 1, "created");
    let pid = shim.ok("Start", &[]).number(1);
    let state = shim.ok("State", &[]);
    assert_eq!((state.number(4), state.number(3), &*state.text(1)), (2, pid, &*shim.id));
    let connected = shim.ok("Connect", &[]);
    assert!(connected.number(1) > 0 && connected.number(2) == pid);
    assert_eq!(Fields::read(shim.ok("Pids", &[]).bytes(1)).number(1), pid);
    assert!(wait_until(|| shim.text("out") == "up\n"));

    // A process beside it; who waits is answered when it ends, others meanwhile.
    let stdin = shim.path("stdin");
    nix::unistd::mkfifo(&stdin, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let exec = field(2, "e1");
    shim.ok(
        "Exec",
        &[exec.clone(), process(&["sh", "-c", "cat; exit 3"]), field(4, stdin.to_str().unwrap())],
    );
    shim.fails(6, "Exec", &[exec.clone(), process(&["sh"])]);
    assert!(shim.ok("Start", std::slice::from_ref(&exec)).number(1) > 0);
    let waiting = shim.ask(TASK, "Wait", &[field(1, &shim.id), exec.clone()].concat());
    shim.ok("CloseIO", &[exec.clone(), number(3, 1)]);
    let (stream, ended) = shim.answer();
    assert_eq!((stream, ended.unwrap().number(1)), (waiting, 3));
    assert_eq!(shim.ok("Delete", std::slice::from_ref(&exec)).number(2), 3);
    shim.fails(5, "State", &[exec]);

    shim.ok("Pause", &[]);
    assert_eq!(shim.ok("State", &[]).number(4), 4, "paused");
    shim.ok("Resume", &[]);
    assert_eq!(shim.ok("State", &[]).number(4), 2);
    let resources = any(
        "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources",
        &json!({"cpu": {"shares": 512}}),
    );
    shim.ok("Update", &[field(2, resources)]);
    let stats = shim.ok("Stats", &[]);
    let stats = Fields::read(stats.bytes(1));
    assert!(stats.text(1).starts_with("io.containerd.cgroups.v") && stats.bytes(2).len() > 20);

    shim.fails(9, "Delete", &[]);
    // Its trap may not be set yet: the first process of a namespace ignores what it does not handle.
    let waiting = shim.ask(TASK, "Wait", &field(1, &shim.id));
    let code = loop {
        let asked = shim.ask(TASK, "Kill", &[field(1, &shim.id), number(3, 15)].concat());
        let mut answers = [shim.answer()].into_iter().collect::<Vec<_>>();
        if answers[0].0 != asked {
            answers.push(shim.answer());
        }
        let ended = answers.into_iter().find(|(stream, _)| *stream == waiting);
        if let Some((_, ended)) = ended {
            break ended.unwrap().number(1);
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(code, 5);
    let state = shim.ok("State", &[]);
    assert_eq!((state.number(4), state.number(9)), (3, 5));
    shim.fails(5, "Kill", &[number(3, 15)]);
    let deleted = shim.ok("Delete", &[]);
    assert_eq!((deleted.number(1), deleted.number(2)), (pid, 5));
    assert!(!deleted.bytes(3).is_empty(), "the time of its end");
    shim.fails(5, "State", &[]);
    let expected = "create start exec-added exec-started exit paused resumed exit delete";
    let expected: Vec<String> = expected.split(' ').map(|word| format!("/tasks/{word}")).collect();
    assert!(wait_until(|| shim.events() == expected), "{:?}", shim.events());
    shim.ok("Shutdown", &[]);
    let end = uninterrupted(|| (&shim.socket).read(&mut [0])).map_err(|err| err.kind());
    assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "it has gone: {end:?}");
}

#[test]
fn a_terminal_has_the_size_that_was_asked_for() {
    let shim = Shim::start("sleep 1000");
    shim.create();
    shim.ok("Start", &[]);
    let out = format!("file://{}", shim.path("sized").display());
    let script = "until [ \"$(stty size)\" = '30 99' ]; do sleep 0.02; done; echo sized";
    let exec = field(2, "t1");
    shim.ok("Exec", &[exec.clone(), number(3, 1), field(5, out), process(&["sh", "-c", script])]);
    shim.ok("Start", std::slice::from_ref(&exec));
    shim.ok("ResizePty", &[exec.clone(), number(3, 99), number(4, 30)]);
    assert_eq!(shim.ok("Wait", &[exec]).number(1), 0);
    assert!(wait_until(|| shim.text("sized").contains("sized")));
}

#[test]
fn wrong_calls_have_their_codes_and_end_nothing() {
    let shim = Shim::start("sleep 1000");
    for method in
        ["State", "Start", "Delete", "Pids", "Pause", "Kill", "Exec", "Wait", "Stats", "Update", "CloseIO"]
    {
        shim.fails(5, method, &[]);
    }
    assert_eq!(shim.call(TASK, "Bogus", &[]).unwrap_err().0, 12);
    assert_eq!(shim.call("bogus.Service", "State", &[]).unwrap_err().0, 12);
    assert_eq!(shim.call(TASK, "State", &[0xff, 0xff]).unwrap_err().0, 3);
    // Longer than any message may be: it is passed over.
    let length = u32::try_from(5 << 20).unwrap();
    (&shim.socket)
        .write_all(&[&length.to_be_bytes()[..], &shim.stream.get().to_be_bytes(), &[1, 0]].concat())
        .unwrap();
    (&shim.socket).write_all(&vec![0; 5 << 20]).unwrap();
    assert_eq!(shim.answer().1.unwrap_err().0, 8);
    shim.stream.set(shim.stream.get() + 2);
    shim.create();
    shim.fails(6, "Create", &[field(2, shim.path("bundle").to_str().unwrap())]);
    shim.ok("Start", &[]);
    shim.fails(9, "Delete", &[]);
    shim.fails(5, "Start", &[field(2, "nosuch")]);
    shim.ok("Shutdown", &[]);
    assert_eq!(shim.ok("State", &[]).number(4), 2, "it stays while there is a task");
}

#[test]
fn a_pod_by_the_sandbox_service() {
    let shim = Shim::start("sleep 1000");
    let call = |method: &str| shim.call(SANDBOX, method, &field(1, "pod"));
    assert_eq!(call("SandboxStatus").unwrap_err().0, 5);
    call("CreateSandbox").unwrap();
    assert_eq!(call("CreateSandbox").unwrap_err().0, 6);
    assert!(call("StartSandbox").unwrap().number(1) > 0);
    assert_eq!(call("SandboxStatus").unwrap().text(3), "SANDBOX_READY");
    assert_eq!(Fields::read(call("Platform").unwrap().bytes(1)).text(1), "linux");
    call("PingSandbox").unwrap();
    shim.call(TASK, "Shutdown", &field(1, "pod")).unwrap();
    let waiting = shim.ask(SANDBOX, "WaitSandbox", &field(1, "pod"));
    let stopping = shim.ask(SANDBOX, "StopSandbox", &field(1, "pod"));
    let answers = [shim.answer(), shim.answer()];
    assert!(answers.iter().all(|(stream, answer)| [waiting, stopping].contains(stream) && answer.is_ok()));
    assert_eq!(call("SandboxStatus").unwrap().text(3), "SANDBOX_NOTREADY");
}

#[test]
fn after_a_killed_shim_delete_clears_away() {
    let shim = Shim::start("sleep 1000");
    shim.create();
    let pid = shim.ok("Start", &[]).number(1);
    let server = i32::try_from(shim.ok("Connect", &[]).number(1)).unwrap();
    crate::rig::kill(server);
    let mut command = Shim::command(&shim.dir, &shim.id);
    let output = command.arg("-bundle").arg(shim.path("bundle")).arg("delete").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let deleted = Fields::read(&output.stdout);
    assert_eq!(deleted.number(2), 137);
    assert!(wait_until(|| !PathBuf::from(format!("/proc/{pid}/root")).exists()));
    let info = Command::new(env!("CARGO_BIN_EXE_shim")).args(["containerd-shim", "-info"]).output().unwrap();
    assert!(String::from_utf8_lossy(&info.stdout).contains("io.containerd.bulkhead.v2"));
}
