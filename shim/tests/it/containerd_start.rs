//! How containerd starts our shim: what it is told and answers, and where its process is then.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::containerd::{Fields, Shim, field, number, options_with};
use crate::rig::wait_until;

const TASKS: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

/// `start`, with these options on stdin.
fn start(dir: &tempfile::TempDir, id: &str, more: &[Vec<u8>], version: Option<&str>) -> Output {
    let mut command = Shim::command(dir, id);
    if let Some(version) = version {
        command.env("MAX_SHIM_VERSION", version);
    }
    let mut child = command.arg("start").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &options_with(dir.path(), more)).unwrap();
    child.wait_with_output().unwrap()
}

/// A cgroup of ours in each hierarchy; it goes with the test.
struct Cgroup(Vec<PathBuf>, String);

impl Cgroup {
    fn make() -> Self {
        let name = format!("shim-cgroup-{}", std::process::id());
        let base = Path::new("/sys/fs/cgroup");
        let places: Vec<PathBuf> = if base.join("cgroup.controllers").exists() {
            vec![base.join(&name)]
        } else {
            ["pids", "memory"].map(|controller| base.join(controller).join(&name)).into()
        };
        for place in &places {
            fs::create_dir(place).unwrap();
        }
        Self(places, name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for place in &self.0 {
            wait_until(|| fs::remove_dir(place).is_ok());
        }
    }
}

#[test]
fn the_answer_is_in_the_language_that_was_asked_for_and_both_services_are_there() {
    let shim = Shim::start("sleep 1000");
    let address = |output: Output| String::from_utf8(output.stdout).unwrap();
    // A pod's second container finds the process that is there.
    let plain = address(start(&shim.dir, &shim.id, &[], None));
    assert!(plain.starts_with("unix://") && !plain.contains('\n'), "{plain}");
    let json: serde_json::Value =
        serde_json::from_str(&address(start(&shim.dir, &shim.id, &[], Some("2")))).unwrap();
    assert_eq!((json["version"].as_u64(), json["protocol"].as_str()), (Some(3), Some("ttrpc")));
    assert_eq!(json["address"], plain.trim());
    shim.create();
    for service in TASKS {
        let state = shim.call(service, "State", &field(1, &shim.id)).unwrap();
        assert_eq!(state.number(4), 1, "{service}");
    }
}

#[test]
fn it_is_in_its_cgroup_and_a_likelier_victim_than_containerd() {
    let cgroup = Cgroup::make();
    let shim = Shim::start_with("sleep 1000", &[field(3, format!("/{}", cgroup.1))]);
    shim.create();
    let server = shim.ok("Connect", &[]).number(1);
    let score = |pid: &str| {
        fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).unwrap().trim().parse::<i32>().unwrap()
    };
    assert_eq!(score(&server.to_string()), (score("self") + 1).min(1000));
    for place in &cgroup.0 {
        let inside = fs::read_to_string(place.join("cgroup.procs")).unwrap();
        assert!(inside.lines().any(|pid| pid == server.to_string()), "{}: {inside}", place.display());
    }
    drop(shim);
}

#[test]
fn pipes_belong_to_whom_the_options_name() {
    let shim = Shim::start_with("echo out >/dev/stdout", &[]);
    // The payload is another user, who opens its output anew.
    let config = shim.path("bundle/config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    spec["process"]["user"] = serde_json::json!({ "uid": 1234, "gid": 1234 });
    fs::write(&config, spec.to_string()).unwrap();
    shim.create_with(&[number(4, 1234), number(5, 1234)]);
    shim.ok("Start", &[]);
    assert_eq!(shim.ok("Wait", &[]).number(1), 0);
    assert!(wait_until(|| shim.text("out") == "out\n"), "{}", shim.text("out"));
}

#[test]
fn info_tells_of_the_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_shim"));
    let mut child = command
        .args(["containerd-shim", "-info"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), &options_with(dir.path(), &[])).unwrap();
    let output = child.wait_with_output().unwrap();
    let info = Fields::read(&output.stdout);
    assert_eq!(info.text(1), "io.containerd.bulkhead.v2");
    let all = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(all.contains("ociVersionMin") && all.contains("containerd.runc.v1.Options"), "{all}");
}
