//! A namespace that goes away in the middle of a command, before each of its messages to the kernel: one clear line or
//! none, and nothing is left.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{Rig, until};

/// More messages than any of the commands sends.
const MOST: usize = 60;

/// netctl, which waits for a moment before its message number `step`, and a list of those that it has sent.
fn held(rig: &Rig, args: &[&str], (step, log): (usize, &Path)) -> Command {
    let plain = rig.command(args);
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "signal=none", "-e", "trace=sendto", "-o"]).arg(log);
    command.arg("-e").arg(format!("inject=sendto:delay_enter=60000:when={step}"));
    command.arg(plain.get_program()).args(plain.get_args());
    command.envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Has `vanish` happen in the middle of the command that `begin` starts, at another place each time; `check` follows.
fn at_each_step(
    rig: &Rig,
    begin: impl Fn((usize, &Path)) -> (Command, String),
    vanish: impl Fn(),
    check: impl Fn(Output),
) {
    if !rig.output("strace", &["-V"]).status.success() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    std::fs::create_dir_all(rig.net("")).unwrap();
    let log = rig.net("../../trace");
    let sent = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    // First to its end, to see how many there are.
    let mut steps = usize::MAX;
    for step in 0.. {
        if step > steps {
            return;
        }
        let _ = std::fs::remove_file(&log);
        let (mut command, input) = begin((if step == 0 { MOST } else { step }, &log));
        let mut child = command.spawn().unwrap();
        // That it may have read enough is all the same here.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        if step > 0 {
            until("it has come so far", || sent() + 1 >= step || child.try_wait().unwrap().is_some());
            // Into the moment that it waits, most often.
            std::thread::sleep(Duration::from_millis(10));
            vanish();
        }
        let output = child.wait_with_output().unwrap();
        if step == 0 {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            steps = sent();
            assert!((3..MOST).contains(&steps), "{steps} messages");
        }
        check(output);
    }
}

fn one_line(output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    let lines = usize::from(!output.status.success());
    assert!(said.lines().count() == lines && !said.contains("panicked"), "{:?}: {said}", output.status);
    assert!(said.lines().all(|line| line.starts_with("netctl: ")), "{said}");
}

#[test]
fn in_the_middle_of_up() {
    let rig = Rig::new();
    at_each_step(
        &rig,
        |held_at| (held(&rig, &["up", "c1", "-p", "8080:80"], held_at), String::new()),
        || {
            let _ = rig.output("umount", &["-l", rig.net("ns/c1").to_str().unwrap()]);
        },
        |output| {
            one_line(&output);
            rig.ok(&["gc"]);
            rig.ok(&["down", "--wait", "c1"]);
            assert_eq!(rig.left(), "");
        },
    );
}

#[test]
fn in_the_middle_of_down() {
    let rig = Rig::new();
    at_each_step(
        &rig,
        |held_at| {
            rig.up(&["c1", "-p", "8080:80"]);
            (held(&rig, &["down", "--wait", "c1"], held_at), String::new())
        },
        || {
            let _ = rig.output("umount", &["-l", rig.net("ns/c1").to_str().unwrap()]);
        },
        |output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(rig.left(), "");
        },
    );
}

/// A process in a network namespace of its own.
struct Process(std::cell::RefCell<Child>);

impl Process {
    fn start() -> Child {
        let mut child = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
        child
    }

    fn new() -> Self {
        Self(Self::start().into())
    }

    fn again(&self) {
        self.kill();
        *self.0.borrow_mut() = Self::start();
    }

    fn kill(&self) {
        let mut child = self.0.borrow_mut();
        let _ = child.kill();
        let _ = child.wait();
    }

    fn netns(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.borrow().id()).into()
    }
}

fn no_links(rig: &Rig) {
    // The kernel takes the links of a namespace down some time after its last process.
    until("the links go", || !rig.run("ip", &["-br", "link"]).contains("veth"));
}

fn plugin(command: &mut Command, verb: &str, netns: &Path) {
    command
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", "c1")
        .env("CNI_NETNS", netns)
        .env("CNI_IFNAME", "eth0");
    command.env("CNI_PATH", "/nowhere");
}

fn pods(rig: &Rig) -> String {
    json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "bulkhead", "bridge": "cnit0", "isDefaultGateway": true,
        "ipMasq": true, "runtimeConfig": {"portMappings": [{"hostPort": 8099, "containerPort": 80, "protocol": "tcp"}]},
        "ipam": {"type": "host-local", "dataDir": rig.net("leases"), "ranges": [[{"subnet": "10.70.0.0/24"}]]},
    })
    .to_string()
}

fn told(mut command: Command, input: &str) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// DEL, whatever there is; then nothing is left.
fn deleted(rig: &Rig, netns: &Path) {
    let mut command = rig.command(&[]);
    plugin(&mut command, "DEL", netns);
    let output = told(command, &pods(rig));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    no_links(rig);
    assert!(!rig.net("guests").exists());
    assert_eq!(rig.left_of_rules(), "");
    assert!(!rig.run("find", &[rig.net("leases").to_str().unwrap()]).contains("/10.70"));
}

#[test]
fn in_the_middle_of_a_cni_plugin() {
    let rig = Rig::new();
    let process = Process::new();
    std::fs::create_dir_all(rig.net("leases")).unwrap();
    at_each_step(
        &rig,
        |held_at| {
            process.again();
            let mut command = held(&rig, &[], held_at);
            plugin(&mut command, "ADD", &process.netns());
            (command, pods(&rig))
        },
        || process.kill(),
        |output| {
            let said: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(output.status.success(), said["code"].is_null(), "{said}");
            deleted(&rig, &process.netns());
        },
    );
    at_each_step(
        &rig,
        |held_at| {
            process.again();
            let mut command = rig.command(&[]);
            plugin(&mut command, "ADD", &process.netns());
            let output = told(command, &pods(&rig));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            let mut command = held(&rig, &[], held_at);
            plugin(&mut command, "DEL", &process.netns());
            (command, pods(&rig))
        },
        || process.kill(),
        |output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            deleted(&rig, &process.netns());
        },
    );
    process.kill();
}

#[test]
fn in_the_middle_of_netavark() {
    let rig = Rig::new();
    let process = Process::new();
    let config = rig.net("podman");
    let args = |verb: &str| -> Vec<String> {
        ["netavark", "--config", config.to_str().unwrap(), verb, process.netns().to_str().unwrap()]
            .map(String::from)
            .into()
    };
    let input = json!({
        "container_id": "c1", "container_name": "c1",
        "networks": {"pod": {"interface_name": "eth0", "static_ips": ["10.71.0.2"]}},
        "network_info": {"pod": {
            "name": "pod", "id": "00", "driver": "bridge", "network_interface": "pod0", "internal": false, "dns_enabled": false,
            "ipv6_enabled": false, "subnets": [{"subnet": "10.71.0.0/24", "gateway": "10.71.0.1"}],
        }},
        "port_mappings": [{"host_ip": "", "host_port": 8098, "container_port": 80, "range": 1, "protocol": "tcp"}],
    })
    .to_string();
    let strings = |args: &[String]| args.to_vec();
    let gone = || {
        let args = strings(&args("teardown"));
        let output = told(rig.command(&args.iter().map(String::as_str).collect::<Vec<_>>()), &input);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        no_links(&rig);
        assert_eq!(rig.left_of_rules(), "");
        assert!(!rig.run("ip", &["-br", "link"]).contains("pod0"));
    };
    let start = |verb: &str, held_at: (usize, &Path)| {
        let args = strings(&args(verb));
        held(&rig, &args.iter().map(String::as_str).collect::<Vec<_>>(), held_at)
    };
    at_each_step(
        &rig,
        |held_at| {
            process.again();
            (start("setup", held_at), input.clone())
        },
        || process.kill(),
        |output| {
            let said: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(output.status.success(), said["error"].is_null(), "{said}");
            gone();
        },
    );
    at_each_step(
        &rig,
        |held_at| {
            process.again();
            let args = strings(&args("setup"));
            let output = told(rig.command(&args.iter().map(String::as_str).collect::<Vec<_>>()), &input);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            (start("teardown", held_at), input.clone())
        },
        || process.kill(),
        |_| gone(),
    );
    process.kill();
}
