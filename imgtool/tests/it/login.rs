//! login and logout.

use crate::rig::Rig;
use crate::rig::registry::{Guard, Registry};

#[test]
fn only_who_logged_in_may_push() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Password));
    let host = &registry.host;
    rig.load("bb:1", "x");
    let push = format!("push bb:1 {host}/a/bb:1");
    assert!(rig.fails(&push, 6).contains("no basic auth credentials"));
    let wrong = rig.feed(&format!("login -u user --password-stdin {host}"), b"nonsense\n").fails(6);
    assert_eq!(wrong, format!("imgtool: login attempt to {host} failed with status: 401 Unauthorized"));
    assert!(!rig.path("home/.docker/config.json").exists());
    let right = rig.feed(&format!("login -u user --password-stdin {host}"), b"secret\n");
    assert!(right.stderr().contains("stored unencrypted"));
    assert_eq!(right.ok(), "Login Succeeded\n");
    let text = std::fs::read_to_string(rig.path("home/.docker/config.json")).unwrap();
    assert!(text.contains("dXNlcjpzZWNyZXQ="), "{text}");
    rig.ok(&push);
    assert_eq!(rig.ok(&format!("logout {host}")), format!("Removing login credentials for {host}\n"));
    assert_eq!(rig.ok(&format!("logout {host}")), format!("Not logged in to {host}\n"));
    rig.fails(&format!("pull {host}/a/bb:1"), 6);
    rig.ok(&format!("pull --creds user:secret {host}/a/bb:1"));
    assert!(rig.fails(&format!("pull --creds user:wrong {host}/a/bb:1"), 6).contains("401"));
}

#[test]
fn a_credential_helper_is_asked() {
    let (rig, registry) = (Rig::new(), Registry::start(Guard::Password));
    rig.load("bb:1", "x");
    let bin = rig.path("bin");
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(rig.path("home/.docker")).unwrap();
    let helper = bin.join("docker-credential-test");
    let script = "#!/bin/sh\nread server\necho '{\"Username\":\"user\",\"Secret\":\"secret\"}'\n";
    std::fs::write(&helper, script).unwrap();
    std::fs::set_permissions(&helper, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let config = format!("{{\"credHelpers\":{{\"{}\":\"test\"}}}}", registry.host);
    std::fs::write(rig.path("home/.docker/config.json"), config).unwrap();
    let mut command = rig.command(&format!("push bb:1 {}/bb:1", registry.host));
    command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    assert!(command.status().unwrap().success());
}
