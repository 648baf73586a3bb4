//! `NOTIFY_SOCKET`.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sys::retry::uninterrupted;

use crate::rig::{Background, PATIENCE, Rig, can_run, run, wait_until};

/// A container whose program says that it is ready, by the host's socat, and sleeps.
fn rig(sleep: &str) -> Rig {
    let say = |words: &str| format!("printf '{words}' | socat -u - UNIX-SENDTO:$NOTIFY_SOCKET");
    let script = format!("{}; {}; exec sleep {sleep}", say("STATUS=wait"), say("STATUS=soon\\nREADY=1"));
    Rig::script(&script).with(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        for path in ["/usr", "/lib", "/lib64"].into_iter().filter(|path| std::path::Path::new(path).exists())
        {
            mounts.push(serde_json::json!({
                "destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"],
            }));
        }
        config["process"]["env"] = serde_json::json!(["PATH=/bin:/usr/bin"]);
        // Another user than root can say it too.
        config["process"]["user"] = serde_json::json!({ "uid": 1000, "gid": 1000 });
    })
}

fn hear(manager: &UnixDatagram) -> String {
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut message = [0; 256];
    let length = uninterrupted(|| manager.recv(&mut message)).unwrap();
    String::from_utf8_lossy(&message[..length]).into_owned()
}

#[test]
fn a_service_is_ready_when_its_program_says_so() {
    if !can_run() {
        return;
    }
    let rig = rig("0.2");
    let path = rig.path().join("manager");
    let manager = UnixDatagram::bind(&path).unwrap();
    let mut child = Background(rig.command(&["run", "@c"]).env("NOTIFY_SOCKET", &path).spawn().unwrap());
    assert_eq!(hear(&manager), format!("READY=1\nMAINPID={}\n", child.0.id()));
    assert!(child.0.wait().unwrap().success());
    rig.is_clean();
}

#[test]
fn start_returns_when_it_is_ready() {
    if !can_run() {
        return;
    }
    let rig = rig("1000");
    let name = rig.id("manager");
    let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let variable = format!("@{name}");
    run(rig.command(&["create", "@c"]).env("NOTIFY_SOCKET", &variable)).ok();
    let mut child =
        Background(rig.command(&["start", "@c"]).env("NOTIFY_SOCKET", &variable).spawn().unwrap());
    let said = hear(&manager);
    let pid: u32 = said.trim_end().rsplit_once("MAINPID=").unwrap().1.parse().unwrap();
    assert_ne!(pid, child.0.id());
    assert_eq!(said, format!("READY=1\nMAINPID={pid}\n"));
    // Until we have taken note, which the end of what comes with the message says.
    manager.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(child.0.try_wait().unwrap().is_none());
    let mut barrier = [0; 16];
    let length = uninterrupted(|| manager.recv(&mut barrier)).unwrap();
    assert_eq!(&barrier[..length], b"BARRIER=1");
    assert!(child.0.wait().unwrap().success());
    let out = rig.runtime(&["exec", "@c", "/bin/sh", "-c", "echo .$NOTIFY_SOCKET."]).ok();
    assert_eq!(out, "..\n", "another process has nothing to say");
    rig.runtime(&["delete", "-f", "@c"]).ok();
    rig.is_clean();
}

#[test]
fn a_manager_who_has_gone_is_no_reason_to_end() {
    if !can_run() {
        return;
    }
    let rig = rig("0");
    let path = rig.path().join("manager");
    let said = run(rig.command(&["run", "@c"]).env("NOTIFY_SOCKET", &path));
    assert!(said.err.contains("warning: tell NOTIFY_SOCKET"), "{said:?}");
    said.ok();
    rig.is_clean();
}

#[test]
fn one_that_never_is_can_be_ended() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    let path = rig.path().join("manager");
    let _manager = UnixDatagram::bind(&path).unwrap();
    run(rig.command(&["create", "@c"]).env("NOTIFY_SOCKET", &path)).ok();
    let mut child = Background(rig.command(&["start", "@c"]).env("NOTIFY_SOCKET", &path).spawn().unwrap());
    wait_until("the program to run", || rig.status("c") == "running");
    rig.runtime(&["kill", "@c", "KILL"]).ok();
    assert!(child.0.wait().unwrap().success());
    rig.runtime(&["delete", "@c"]).ok();
    // Nobody to tell: nothing is shown and nothing is waited for.
    let said = rig.runtime(&["run", "-d", "@d"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!rig.root().join(rig.id("d")).join("notify").exists());
    rig.runtime(&["delete", "-f", "@d"]).ok();
    rig.is_clean();
}
