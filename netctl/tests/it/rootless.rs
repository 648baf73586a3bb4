//! As an ordinary user, in a user namespace of that user's.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::rig::{Rig, until};

const USER: u32 = 4711;

/// A shell of user 4711 in user and mount namespaces of its own, which does what it is told.
struct House {
    shell: Child,
    answers: BufReader<ChildStdout>,
}

impl House {
    fn does(&mut self, line: &str) -> (bool, String) {
        writeln!(self.shell.stdin.as_mut().unwrap(), "({line}) </dev/null 2>&1; echo \"=$?=\"").unwrap();
        let mut text = String::new();
        loop {
            let mut answer = String::new();
            assert_ne!(self.answers.read_line(&mut answer).unwrap(), 0, "the shell has gone: {text}");
            if let Some(code) = answer.trim_end().strip_suffix('=').and_then(|rest| rest.rsplit_once('=')) {
                return (code.1 == "0", text + code.0);
            }
            text += &answer;
        }
    }

    fn ok(&mut self, line: &str) -> String {
        let (done, text) = self.does(line);
        assert!(done, "{line}: {text}");
        text
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = self.does("kill $(cat $HOME/httpd); for id in a b c; do timeout 20 $N down --wait $id; done");
        drop(self.shell.stdin.take());
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Makes the user's place; whether all programs for it are there.
fn prepare(rig: &Rig, programs: &[&str]) -> bool {
    for program in programs.iter().chain(&["setpriv", "unshare"]) {
        if !rig.output("sh", &["-c", &format!("command -v {program}")]).status.success() {
            eprintln!("skipped: {program} is not installed");
            return false;
        }
    }
    if !rig.output("setpriv", &["--reuid=4711", "--clear-groups", "unshare", "-Urm", "true"]).status.success()
    {
        eprintln!("skipped: ordinary users may not make user namespaces here");
        return false;
    }
    // The user reads the program where root's home may be closed, and opens the tap device.
    let dir = rig.net("");
    fs::create_dir_all(&dir).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_netctl"), dir.join("netctl")).unwrap();
    for place in dir.ancestors().take_while(|place| *place != Path::new("/tmp") && *place != Path::new("/")) {
        fs::set_permissions(place, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let own = dir.join("own");
    fs::create_dir(&own).unwrap();
    chown(&own, Some(USER), Some(USER)).unwrap();
    let tun = dir.join("tun");
    rig.run("mknod", &["-m", "666", tun.to_str().unwrap(), "c", "10", "200"]);
    rig.run("mount", &["--bind", tun.to_str().unwrap(), "/dev/net/tun"]);
    // The host has a way out: pasta imitates it.
    rig.run("ip", &["link", "add", "lan", "type", "veth", "peer", "far"]);
    rig.run("ip", &["addr", "add", "192.168.7.1/24", "dev", "lan"]);
    rig.run("ip", &["link", "set", "lan", "up"]);
    rig.run("ip", &["link", "set", "far", "up"]);
    rig.run("ip", &["route", "add", "default", "via", "192.168.7.2"]);
    true
}

fn house(rig: &Rig, uplink: &str) -> Option<House> {
    if !prepare(rig, &[uplink]) {
        return None;
    }
    let own = rig.net("own");
    let mut shell = Command::new("setpriv")
        .args([&format!("--reuid={USER}"), &format!("--regid={USER}"), "--clear-groups"])
        .args(["unshare", "-Urm", "sh"])
        .env("N", rig.net("netctl"))
        .env("NETCTL_UPLINK", uplink)
        .env("BULKHEAD_STATE", own.join("state"))
        .env("BULKHEAD_STORE", own.join("store"))
        .env("HOME", &own)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let answers = BufReader::new(shell.stdout.take().unwrap());
    Some(House { shell, answers })
}

fn networks_names_and_ports(uplink: &str) {
    let rig = Rig::new();
    let Some(mut house) = house(&rig, uplink) else { return };
    let status = house.ok("$N up a --name web -p 8080:80 -p 127.0.0.1:8081:80");
    assert!(status.contains("\"host_port\":8080"), "{status}");
    house.ok("$N up b");
    house.ok("mkdir -p $HOME/www && echo -n hello >$HOME/www/index.html");
    house.ok(
        "nsenter --net=$BULKHEAD_STATE/net/ns/a busybox httpd -f -p 80 -h $HOME/www & echo $! >$HOME/httpd",
    );
    for url in ["127.0.0.1:8080", "127.0.0.1:8081", "192.168.7.1:8080"] {
        until("the port answers on the host", || rig.get(url) == "hello");
    }
    assert_eq!(rig.get("192.168.7.1:8081"), "", "published on loopback only");
    let inside = |house: &mut House, command: &str| {
        house.does(&format!("nsenter --net=$BULKHEAD_STATE/net/ns/b {command}")).1
    };
    let gateway = inside(&mut house, "ip route | sed -n 's/^default via \\([0-9.]*\\).*/\\1/p'");
    let answer = inside(&mut house, &format!("busybox nslookup web {}", gateway.trim()));
    let address = answer.rsplit("Address: ").next().unwrap().trim().to_owned();
    assert_eq!(inside(&mut house, &format!("curl -sm2 {address}")), "hello", "{answer}");
    if uplink == "slirp4netns" {
        // The host itself; its loopback is out of reach. (pasta gives the namespace the host's own address.)
        let host = TcpListener::bind("192.168.7.1:0").unwrap();
        let port = host.local_addr().unwrap().port();
        let served = std::thread::spawn(move || host.accept().map(|(_, from)| from));
        inside(&mut house, &format!("timeout 20 busybox nc -w 9 192.168.7.1 {port}"));
        until("the host is reached", || served.is_finished());
    }
    // What the host has already is told, and nothing is left of the attempt.
    let host = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let (done, text) = house.does(&format!("$N up c -p {port}:80"));
    assert!(!done && text.contains("cannot publish"), "{text}");
    assert!(house.ok("ls $BULKHEAD_STATE/net/ns").lines().eq(["a", "b"]));
    until("the others keep their ports", || rig.get("127.0.0.1:8080") == "hello");
    // A killed program is started again, with its ports.
    house.ok("kill -9 $(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' $BULKHEAD_STATE/net/uplink.pid)");
    until("the port is closed", || rig.get("127.0.0.1:8080").is_empty());
    // It may still be on its way out.
    until("the port answers again", || {
        house.ok("$N reload");
        rig.get("127.0.0.1:8080") == "hello"
    });
    house.ok("$N down --wait a");
    assert_eq!(rig.get("127.0.0.1:8080"), "");
    let pid = house.ok("sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' $BULKHEAD_STATE/net/uplink.pid");
    house.ok("$N down --wait b");
    let left = house.ok("$N ls -q >/dev/null; find $BULKHEAD_STATE -type f -not -name '*lock'");
    assert_eq!(left, "");
    until("the program ends", || {
        !Path::new(&format!("/proc/{}/exe", pid.trim())).exists()
            || fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
                .is_ok_and(|stat| stat.contains(") Z "))
            || fs::read_link(format!("/proc/{}/exe", pid.trim())).is_err()
    });
    // No link and no rule of the host's was touched.
    assert_eq!(rig.run("nft", &["list", "ruleset"]), "");
}

#[test]
fn an_ordinary_user_has_networks_names_and_ports_by_slirp4netns() {
    networks_names_and_ports("slirp4netns");
}

#[test]
fn an_ordinary_user_has_networks_names_and_ports_by_pasta() {
    networks_names_and_ports("pasta");
}

#[test]
fn without_its_program_a_users_networks_can_still_be_taken_down() {
    let rig = Rig::new();
    let Some(mut house) = house(&rig, "slirp4netns") else { return };
    house.ok("$N up a -p 8080:80");
    let kill = "kill -9 $(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' $BULKHEAD_STATE/net/uplink.pid)";
    house.ok(kill);
    // It may still be on its way out.
    until("its end is noticed", || !house.does("NETCTL_UPLINK=wire $N reload").0);
    let (_, text) = house.does("NETCTL_UPLINK=wire $N up b");
    assert!(text.contains("NETCTL_UPLINK \"wire\""), "{text}");
    assert!(house.ok("NETCTL_UPLINK=wire $N ls").contains("bridge"));
    house.ok("NETCTL_UPLINK=wire $N down --wait a");
    assert_eq!(house.ok("find $BULKHEAD_STATE -type f -not -name '*lock'"), "");
    // One that hangs is not waited for without end.
    house.ok("mkdir $HOME/fake && printf '#!/bin/sh\nexec sleep 60\n' >$HOME/fake/pasta && chmod +x $HOME/fake/pasta");
    let (done, text) = house.does("PATH=$HOME/fake:$PATH NETCTL_UPLINK=pasta $N up a");
    assert!(!done && text.contains("pasta is not ready after 10 seconds"), "{text}");
    assert_eq!(house.ok("find $BULKHEAD_STATE -type f -not -name '*lock'"), "");
}

#[test]
fn without_namespaces_the_user_is_told_how() {
    let rig = Rig::new();
    if !prepare(&rig, &[]) {
        return;
    }
    let state = format!("BULKHEAD_STATE={}", rig.net("own/s").display());
    let store = format!("BULKHEAD_STORE={}", rig.net("own/t").display());
    let program = rig.net("netctl");
    let user = [format!("--reuid={USER}"), format!("--regid={USER}"), "--clear-groups".into()];
    let run = |between: &[&str], uplink: &str| {
        let mut command = Command::new("setpriv");
        command.args(&user).args(between).args(["env", &state, &store, &format!("NETCTL_UPLINK={uplink}")]);
        let output = command.arg(&program).args(["up", "a"]).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && text.lines().count() == 1, "{text}");
        text
    };
    let text = run(&[], "");
    assert!(text.contains("unshare -Urm"), "{text}");
    let text = run(&["unshare", "-Ur"], "");
    assert!(text.contains("with m"), "{text}");
    let text = run(&["unshare", "-Urm"], "wire");
    assert!(text.contains("NETCTL_UPLINK \"wire\""), "{text}");
}
