//! Flags that podman has and docker has not, by their effect.

use crate::rig::{Rig, wait_until};

#[test]
fn containers_are_chosen() {
    let rig = Rig::new();
    for name in ["one", "two", "three"] {
        rig.sleeper(name, &["--label", &format!("is={name}")]);
    }
    let cidfile = rig.path().join("cid");
    std::fs::write(&cidfile, format!("{}\n", rig.inspect("two", "{{.Id}}"))).unwrap();
    let states = || rig.ok(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]);
    rig.ok(&["pause", "--filter", "label=is=one"]);
    assert!(states().contains("one paused") && states().contains("two running"), "{}", states());
    rig.ok(&["unpause", "--all"]);
    rig.ok(&["kill", "--cidfile", cidfile.to_str().unwrap()]);
    rig.ok(&["stop", "--latest", "-t", "0"]);
    assert_eq!(states(), "three exited\ntwo exited\none running");
    rig.ok(&["start", "--all"]);
    assert_eq!(states(), "three running\ntwo running\none running");
    rig.ok(&["stop", "-a", "-t", "0"]);
    rig.ok(&["start", "one"]);
    assert_eq!(rig.ok(&["restart", "--all", "--running", "-t", "0"]), rig.inspect("one", "{{.Id}}"));
    rig.ok(&["stop", "--ignore", "-t", "0", "one", "nobody"]);
    rig.fails(3, &["stop", "one", "nobody"]);
    rig.ok(&["rm", "--ignore", "nobody", "one"]);
    rig.ok(&["rm", "--all"]);
    assert_eq!(states(), "");
    assert!(rig.fails(3, &["start", "--latest"]).contains("there is no container"));
    assert!(rig.run(&["stop"]).code == 2 && rig.run(&["stop", "-a", "one"]).code == 2);
}

#[test]
fn how_containers_are_made() {
    let rig = Rig::new();
    let run = |args: &[&str]| rig.ok(&[&["run", "--rm", "--net", "none"][..], args].concat());
    assert_eq!(
        run(&["--umask", "0027", "busybox", "sh", "-c", "umask; touch /f; stat -c %a /f"]),
        "0027\n640"
    );
    rig.build("env", "FROM busybox\nENV OF_IMAGE=1 KEPT=2\n");
    let env = |args: &[&str]| run(&[args, &["env", "sh", "-c", "echo $OF_IMAGE-$KEPT-$OWN"]].concat());
    assert_eq!(env(&["--unsetenv", "OF_IMAGE"]), "-2-");
    assert_eq!(env(&["--unsetenv-all", "-e", "OWN=3"]), "--3");
    let host = |flag: &str| {
        let mut command =
            rig.shim(&["run", "--rm", "--net", "none", flag, "busybox", "sh", "-c", "echo $http_proxy $OWN"]);
        command.env("http_proxy", "http://p").env("OWN", "mine");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert_eq!(
        (host("--http-proxy").as_str(), host("--env-host").as_str()),
        ("http://p\n", "http://p mine\n")
    );
    // Shown by what the image has there: nothing.
    let files = "grep -c '/etc/hosts \\|/etc/hostname ' /proc/self/mountinfo";
    assert_eq!(run(&["busybox", "sh", "-c", files]), "2");
    assert_eq!(run(&["--no-hostname", "busybox", "sh", "-c", files]), "1");
    let done = rig.run(&[
        "run",
        "--rm",
        "--net",
        "none",
        "--no-hosts",
        "--no-hostname",
        "busybox",
        "sh",
        "-c",
        files,
    ]);
    assert_eq!((done.code, done.out.trim()), (1, "0"));
    let script = "touch /run/a /tmp/b /var/tmp/c && ! touch /d 2>/dev/null && ls -d /tmp";
    assert_eq!(run(&["--read-only", "--read-only-tmpfs", "busybox", "sh", "-c", script]), "/tmp");
    assert_eq!(run(&["--os", "linux", "--arch", "amd64", "busybox", "echo", "amd64"]), "amd64");
    if std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        let inside = run(&["--tz", "Asia/Tokyo", "busybox", "sh", "-c", "md5sum </etc/localtime"]);
        let here =
            std::process::Command::new("sh").args(["-c", "md5sum </usr/share/zoneinfo/Asia/Tokyo"]).output();
        assert_eq!(inside, String::from_utf8(here.unwrap().stdout).unwrap().trim_end());
    } else {
        println!("no zoneinfo here: --tz is shown by its refusal alone");
    }
    assert!(
        rig.fails(125, &["run", "--tz", "No/Where", "busybox", "true"])
            .contains("unknown time zone No/Where")
    );
    assert!(rig.fails(125, &["run", "--umask", "9", "busybox", "true"]).contains("invalid umask 9"));
}

#[test]
fn a_name_is_taken_over_and_a_time_is_kept() {
    let rig = Rig::new();
    let first = rig.sleeper("box", &[]);
    assert_eq!(rig.run(&["create", "--name", "box", "busybox"]).code, 4);
    let second = rig.sleeper("box", &["--replace"]);
    assert!(first != second && rig.ok(&["ps", "-aq"]).lines().count() == 1);
    rig.sleeper("short", &["--timeout", "1"]);
    assert_eq!(rig.ok(&["wait", "short"]), "137");
    // A supervisor that takes over keeps the time, too.
    let id = rig.sleeper("again", &["--timeout", "2"]);
    crate::rig::kill(rig.supervisor(&id));
    assert!(wait_until(|| rig.inspect("again", "{{.State.Status}}") == "exited"));
}

#[test]
fn what_means_nothing_here_is_refused_by_name() {
    let rig = Rig::new();
    for (args, word) in [
        (&["create", "--pod", "p", "busybox"][..], "--pod is not supported: there are no pods"),
        (&["logs", "--latest"], "shim ps -lq"),
        (
            &["volume", "create", "--scope", "single", "x"],
            "--scope is not supported: there are no cluster volumes",
        ),
    ] {
        assert!(rig.fails(7, args).contains(word), "{args:?}");
    }
    assert!(rig.fails(125, &["run", "--rootfs", "/", "true"]).contains("imgtool import"));
    assert!(rig.run(&["create", "--no-such-flag", "busybox"]).err.contains("unexpected argument"));
}
