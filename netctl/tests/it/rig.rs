//! A host of one's own for each test: the test's thread moves into a network and a mount namespace, and what it starts
//! follows.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::libc::{CLONE_NEWNET, CLONE_NEWNS};
use serde_json::Value;

pub struct Rig {
    dir: tempfile::TempDir,
    children: Vec<Child>,
    /// What `NETCTL_FIREWALL` says.
    pub firewall: &'static str,
}

impl Rig {
    pub fn new() -> Self {
        sys::namespace::unshare(CLONE_NEWNET | CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        let private = nix::mount::MsFlags::MS_PRIVATE | nix::mount::MsFlags::MS_REC;
        nix::mount::mount(none, "/", none, private, none).unwrap();
        let rig = Self { dir: tempfile::tempdir().unwrap(), children: Vec::new(), firewall: "" };
        rig.run("ip", &["link", "set", "lo", "up"]);
        rig
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netctl"));
        command.env("BULKHEAD_STATE", self.dir.path().join("state"));
        command.env("BULKHEAD_STORE", self.dir.path().join("store"));
        command.env("NETCTL_FIREWALL", self.firewall);
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs netctl and returns its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "netctl {args:?}: {text}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs netctl, which must fail with `code`, and returns its single line on stderr.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.command(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "netctl {args:?}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    pub fn up(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[&["up"], args].concat())).unwrap()
    }

    pub fn output(&self, program: &str, args: &[&str]) -> Output {
        Command::new(program).args(args).stdin(Stdio::null()).output().unwrap()
    }

    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn net(&self, name: &str) -> PathBuf {
        self.dir.path().join("state/net").join(name)
    }

    /// Runs a program in a container's network namespace; its stdout, whatever its exit code.
    pub fn inside(&self, id: &str, args: &[&str]) -> String {
        let namespace = format!("--net={}", self.net("ns").join(id).display());
        let output = self.output("nsenter", &[&[namespace.as_str()], args].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Serves `text` on the container's port 80.
    pub fn serve(&mut self, id: &str, text: &str) {
        let root = self.dir.path().join(format!("www-{id}"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("index.html"), text).unwrap();
        let namespace = format!("--net={}", self.net("ns").join(id).display());
        let mut command = Command::new("nsenter");
        command.arg(namespace).args(["busybox", "httpd", "-f", "-p", "80", "-h"]).arg(root);
        self.children.push(command.spawn().unwrap());
        until("the server listens", || self.inside(id, &["curl", "-sm1", "127.0.0.1"]) == text);
    }

    /// What `curl` gets on the host.
    pub fn get(&self, url: &str) -> String {
        String::from_utf8(self.output("curl", &["-sm2", url]).stdout).unwrap()
    }

    /// The rules of ours that are left, in whichever tables; programs of iptables leave empty tables behind.
    pub fn left_of_rules(&self) -> String {
        self.ok(&["ls", "-q"]);
        let mut text = String::new();
        for program in ["iptables-save", "ip6tables-save", "iptables-legacy-save", "ip6tables-legacy-save"] {
            let output = Command::new(program).stdin(Stdio::null()).output();
            text += &output
                .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
                .unwrap_or_default();
        }
        text += &self.run("nft", &["list", "tables"]);
        text.lines()
            .filter(|line| line.to_ascii_lowercase().contains("bulkhead"))
            .collect::<Vec<_>>()
            .join("\n")
    }

    /// All that netctl could have left on this host.
    pub fn left(&self) -> String {
        // Its lock is free once the part of `down` that waits for the kernel is over.
        self.ok(&["ls", "-q"]);
        let links = self.run("ip", &["-br", "link"]);
        let links = links.lines().filter(|line| !line.starts_with("lo ") && !line.contains("@if"));
        let rules = self.run("nft", &["list", "ruleset"]);
        let state = self.dir.path().join("state");
        let mounts = self.run("cat", &["/proc/thread-self/mountinfo"]);
        let mounts = mounts.lines().filter(|line| line.contains(state.to_str().unwrap()));
        let files = self.run("find", &[state.to_str().unwrap(), "-type", "f", "-not", "-name", "*lock"]);
        let parts = links.chain(rules.lines()).chain(mounts).chain(files.lines());
        parts.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Detached, not just forgotten: a name server runs as long as its network has members.
        for entry in std::fs::read_dir(self.net("attachments")).into_iter().flatten().flatten() {
            let name = entry.file_name().into_string().unwrap_or_default();
            if let Some(id) = name.strip_suffix(".json") {
                let _ = self.command(&["down", "--wait", id]).output();
            }
        }
    }
}

/// Waits for a condition, for at most ten seconds.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < end, "{what}: not within ten seconds");
        std::thread::sleep(Duration::from_millis(10));
    }
}
