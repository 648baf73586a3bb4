//! Several hosts on one cable: network namespaces, each with a netctl state of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::rig::{Rig, until};

pub struct Lan {
    /// First, so that its hosts go before the cable.
    pub hosts: Vec<Host>,
    _rig: Rig,
}

/// Host N has the address 192.168.7.N.
pub struct Host {
    name: String,
    dir: PathBuf,
    children: Vec<Child>,
}

impl Lan {
    pub fn new(test: &str, count: usize) -> Self {
        let rig = Rig::new();
        rig.run("ip", &["link", "add", "cable", "type", "bridge"]);
        rig.run("ip", &["link", "set", "cable", "up"]);
        let mut hosts = Vec::new();
        for number in 1..=count {
            let name = format!("bulkhead-test-{test}{number}-{}", std::process::id());
            let port = format!("port{number}");
            rig.run("ip", &["netns", "add", &name]);
            rig.run("ip", &["link", "add", &port, "type", "veth", "peer", "name", "lan", "netns", &name]);
            rig.run("ip", &["link", "set", &port, "master", "cable", "up"]);
            let dir = rig.net("").join(format!("host{number}"));
            let host = Host { name, dir, children: Vec::new() };
            for line in [
                "link set lo up".to_owned(),
                format!("addr add 192.168.7.{number}/24 dev lan"),
                "link set lan up".to_owned(),
            ] {
                rig.run("ip", &[&["-n", &host.name], &line.split(' ').collect::<Vec<_>>()[..]].concat());
            }
            hosts.push(host);
        }
        Self { hosts, _rig: rig }
    }
}

impl Host {
    pub fn does(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(program).args(args).stdin(Stdio::null());
        command.env("BULKHEAD_STATE", self.dir.join("state")).env("BULKHEAD_STORE", self.dir.join("store"));
        command
    }

    pub fn netctl(&self, args: &[&str]) -> Output {
        self.does(env!("CARGO_BIN_EXE_netctl"), args).output().unwrap()
    }

    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.netctl(args);
        assert!(output.status.success(), "netctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn up(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[&["up"], args].concat())).unwrap()
    }

    pub fn says(&self, program: &str, args: &[&str]) -> String {
        String::from_utf8_lossy(&self.does(program, args).output().unwrap().stdout).into_owned()
    }

    /// What a program says inside a container.
    pub fn inside(&self, id: &str, args: &[&str]) -> String {
        let namespace = format!("--net={}", self.dir.join("state/net/ns").join(id).display());
        let output = Command::new("nsenter").arg(namespace).args(args).stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn pings(&self, id: &str, to: &str) -> bool {
        self.inside(id, &["busybox", "ping", "-c1", "-W2", to]).contains("1 packets received")
    }

    pub fn serve(&mut self, id: &str, text: &str) {
        let root = self.dir.join(format!("www-{id}"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("index.html"), text).unwrap();
        let namespace = format!("--net={}", self.dir.join("state/net/ns").join(id).display());
        let mut command = Command::new("nsenter");
        command.arg(namespace).args(["busybox", "httpd", "-f", "-p", "80", "-h"]).arg(root);
        self.children.push(command.spawn().unwrap());
        until("the server listens", || self.inside(id, &["curl", "-sm1", "127.0.0.1"]) == text);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        for entry in std::fs::read_dir(self.dir.join("state/net/attachments")).into_iter().flatten().flatten()
        {
            let name = entry.file_name().into_string().unwrap_or_default();
            if let Some(id) = name.strip_suffix(".json") {
                let _ = self.netctl(&["down", "--wait", id]);
            }
        }
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}
