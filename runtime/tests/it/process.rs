//! What config.json says of the process and its namespaces.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::rig::{Background, Rig, can_run, run, wait_until};

#[test]
fn identity_limits_and_masks() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("id -u; id -g; id -G; umask; ulimit -n; ulimit -c; cat /proc/self/oom_score_adj")
        .with(|config| {
            config["process"]["user"] =
                json!({ "uid": 1234, "gid": 55, "umask": 0o27, "additionalGids": [5, 6] });
            config["process"]["rlimits"] = json!([
                { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            ]);
            config["process"]["oomScoreAdj"] = 500.into();
        });
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "1234\n55\n55 5 6\n0027\n100\n0\n500\n");
}

#[test]
fn an_unknown_capability_is_a_warning() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/grep", "CapBnd", "/proc/self/status"]).with(|config| {
        config["process"]["capabilities"]["bounding"] = json!(["CAP_CHOWN", "CAP_FANCY"]);
        config["process"]["capabilities"]["permitted"] = json!(["CAP_CHOWN"]);
        config["process"]["capabilities"]["effective"] = json!(["CAP_CHOWN"]);
    });
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.err.contains("ignoring unknown capabilities: CAP_FANCY"), "{said:?}");
    assert_eq!(said.ok(), "CapBnd:\t0000000000000001\n");
}

#[test]
fn names_and_parameters_of_namespaces() {
    if !can_run() {
        return;
    }
    let script = "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni; \
                  ip link show lo | grep -c UP";
    let rig = Rig::script(script).with(|config| {
        config["hostname"] = "inside".into();
        config["domainname"] = "domain".into();
        config["linux"]["sysctl"] = json!({ "net.ipv4.ip_forward": "1", "kernel.shmmni": "4242" });
    });
    for name in ["hostname", "ip"] {
        std::os::unix::fs::symlink("busybox", rig.rootfs().join("bin").join(name)).unwrap();
    }
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "inside\ndomain\n1\n4242\n1\n");
}

#[test]
fn a_user_namespace_with_clocks_of_its_own() {
    if !can_run() {
        return;
    }
    let script = "id -u; cat /proc/self/uid_map; cut -d. -f1 /proc/uptime; echo > /dev/null && echo null";
    let rig = Rig::script(script).with(|config| {
        let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
        config["linux"]["timeOffsets"] = json!({ "boottime": { "secs": 100_000_000 } });
        let list = config["linux"]["namespaces"].as_array_mut().unwrap();
        list.extend([json!({ "type": "user" }), json!({ "type": "time" })]);
    });
    std::os::unix::fs::symlink("busybox", rig.rootfs().join("bin/cut")).unwrap();
    let out = rig.runtime(&["run", "@c"]).ok();
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(&words[..4], ["0", "0", "100000", "65536"]);
    assert!(words[4].parse::<u64>().unwrap() >= 100_000_000, "{out}");
    assert_eq!(words[5], "null");
}

#[test]
fn joined_namespaces() {
    if !can_run() {
        return;
    }
    let first = Rig::new(&["/bin/sleep", "1000"]);
    let pid_file = first.path().join("pid");
    first.runtime(&["run", "-d", "--pid-file", pid_file.to_str().unwrap(), "@c"]).ok();
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let second = Rig::script("for n in pid net ipc uts; do readlink /proc/self/ns/$n; done; cat /proc/1/cmdline").with(|config| {
        config["hostname"] = "".into();
        let join = |kind: &str, file: &str| json!({ "type": kind, "path": format!("/proc/{pid}/ns/{file}") });
        config["linux"]["namespaces"] =
            json!([join("pid", "pid"), join("network", "net"), join("ipc", "ipc"), join("uts", "uts"), { "type": "mount" }]);
    });
    let out = second.runtime(&["run", "@d"]).ok();
    let wanted: Vec<String> = ["pid", "net", "ipc", "uts"]
        .iter()
        .map(|name| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().display().to_string())
        .collect();
    assert_eq!(out.lines().take(4).collect::<Vec<_>>(), wanted);
    assert!(out.ends_with("/bin/sleep\u{0}1000\u{0}"), "{out:?}");
}

#[test]
fn a_filter_holds_for_run_and_exec() {
    if !can_run() {
        return;
    }
    for no_new_privileges in [true, false] {
        let rig = Rig::script(
            "mkdir /tmp/x; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; exec sleep 1000",
        )
        .with(|config| {
            config["process"]["noNewPrivileges"] = no_new_privileges.into();
            config["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64"],
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }],
            });
        });
        std::os::unix::fs::symlink("busybox", rig.rootfs().join("bin/mkdir")).unwrap();
        rig.runtime(&["run", "-d", "@c"]).ok();
        let said = rig.runtime(&[
            "exec",
            "@c",
            "/bin/sh",
            "-c",
            "mkdir /tmp/y; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status",
        ]);
        assert!(said.err.contains("Function not implemented"), "{said:?}");
        let privileges = u8::from(no_new_privileges);
        assert_eq!(said.ok(), format!("NoNewPrivs:\t{privileges}\nSeccomp:\t2\n"));
        assert!(!rig.rootfs().join("tmp/x").exists());
    }
}

/// The kernel takes its time over a filter, so a created container has it before `start`, unless what is still to come
/// needs more than read(2).
#[test]
fn a_created_container_may_have_its_filter() {
    if !can_run() {
        return;
    }
    let mkdir = json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO" }]);
    let reading = json!([{ "names": ["read"], "action": "SCMP_ACT_ERRNO" }]);
    let hooks = json!([{ "path": "/bin/true" }]);
    for (calls, hooks, early) in
        [(&mkdir, json!([]), true), (&reading, json!([]), false), (&mkdir, hooks, false)]
    {
        for no_new_privileges in [true, false] {
            let rig = Rig::new(&["/bin/sleep", "1000"]).with(|config| {
                config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls });
                config["process"]["noNewPrivileges"] = no_new_privileges.into();
                config["hooks"]["startContainer"] = hooks.clone();
            });
            rig.runtime(&["create", "--pid-file", "pid", "@c"]).ok();
            let pid = fs::read_to_string(rig.bundle().join("pid")).unwrap();
            let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let is_filtered = || status().contains("Seccomp:\t2\n");
            if early {
                wait_until("the filter", is_filtered);
            } else {
                assert!(!is_filtered());
            }
            assert_eq!(rig.status("c"), "created");
            rig.runtime(&["start", "@c"]).ok();
            assert!(is_filtered());
            // What installing it may take is given up.
            assert!(status().contains("CapEff:\t0000000020000420\n"), "{}", status());
        }
    }
}

/// A continuous-integration runner that ignored SIGPIPE showed it: what the caller ignores stays ignored across
/// `execve`, and the program starts deaf.
#[test]
fn signals_that_the_caller_ignores_are_at_their_default() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/grep", "SigIgn", "/proc/self/status"]);
    let direct = rig.command(&["run", "@c"]);
    let mut deaf = Command::new("sh");
    deaf.args(["-c", "trap '' HUP USR1 PIPE 40; exec \"$@\"", "sh"])
        .arg(direct.get_program())
        .args(direct.get_args());
    let said = run(deaf.current_dir(rig.bundle()).stdin(Stdio::null()));
    assert_eq!(said.ok(), "SigIgn:\t0000000000000000\n");
}

/// A network namespace that somebody made before is not the new user namespace's own, and its root may not join it.
#[test]
fn the_hosts_network_namespace_with_a_user_namespace() {
    if !can_run() {
        return;
    }
    let holder = Background(Command::new("unshare").args(["-n", "sleep", "1000"]).spawn().unwrap());
    let network = format!("/proc/{}/ns/net", holder.0.id());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    wait_until("the namespace", || fs::read_link(&network).is_ok_and(|link| link != own));
    let wanted = fs::read_link(&network).unwrap().display().to_string();
    let script = "readlink /proc/self/ns/net; id -u; cat /proc/self/uid_map; exec sleep 1000";
    let with_network = |rig: Rig, user: serde_json::Value| {
        rig.with(|config| {
            let list = config["linux"]["namespaces"].as_array_mut().unwrap();
            list.retain(|one| one["type"] != "network");
            list.extend([json!({ "type": "network", "path": network }), user]);
        })
    };
    let first = with_network(Rig::script(script), json!({ "type": "user" })).with(|config| {
        let maps = json!([{ "containerID": 0, "hostID": 100_000, "size": 1000 }]);
        config["linux"]["uidMappings"] = maps.clone();
        config["linux"]["gidMappings"] = maps;
    });
    first.runtime(&["create", "--pid-file", "pid", "@c"]).ok();
    let pid = fs::read_to_string(first.bundle().join("pid")).unwrap();
    assert_eq!(fs::read_link(format!("/proc/{pid}/ns/net")).unwrap().display().to_string(), wanted);
    let user = json!({ "type": "user", "path": format!("/proc/{pid}/ns/user") });
    let second = with_network(Rig::script(&script.replace("exec sleep 1000", "")), user);
    let out = second.runtime(&["run", "@d"]).ok();
    let words: Vec<_> = out.split_whitespace().collect();
    assert_eq!(words, [wanted.as_str(), "0", "0", "100000", "1000"]);
}

#[test]
fn a_container_has_all_processors_of_its_cgroup() {
    if !can_run() {
        return;
    }
    let show = ["/bin/grep", "Cpus_allowed_list", "/proc/self/status"];
    let rig = Rig::new(&show);
    let wanted = rig.runtime(&["run", "@c"]).ok();
    let kept_to_one = |args: &[&str]| {
        let inner = rig.command(args);
        let mut command = Command::new("taskset");
        command.args(["-c", "0"]).arg(inner.get_program()).args(inner.get_args()).current_dir(rig.bundle());
        run(&mut command).ok()
    };
    assert_eq!(kept_to_one(&["run", "@c"]), wanted);
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "@e"]).ok();
    let args = [&["exec", "@e"][..], &show].concat();
    let inner = rig.command(&args);
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]).arg(inner.get_program()).args(inner.get_args()).current_dir(rig.bundle());
    assert_eq!(run(&mut command).ok(), wanted);
}

#[test]
fn exec_has_the_containers_domain_and_memory_policy() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]).with(|config| {
        config["linux"]["personality"] = json!({ "domain": "LINUX32" });
        config["linux"]["memoryPolicy"] = json!({ "mode": "MPOL_PREFERRED", "nodes": "0" });
    });
    rig.runtime(&["run", "-d", "@c"]).ok();
    let script = "cat /proc/self/personality; grep -c prefer /proc/self/numa_maps";
    let out = rig.runtime(&["exec", "@c", "/bin/sh", "-c", script]).ok();
    let (domain, preferred) = out.trim_end().split_once('\n').unwrap();
    assert_eq!(domain, "00000008");
    assert_ne!(preferred, "0");
}

#[test]
fn a_filter_holds_for_start_container_hooks() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"]).with(|config| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS" }],
        });
        config["hooks"]["startContainer"] =
            json!([{ "path": "/bin/busybox", "args": ["busybox", "mkdir", "/tmp/x"] }]);
    });
    let said = rig.runtime(&["run", "@c"]);
    assert!(said.err.contains("startContainer hook #0: /bin/busybox: killed by signal 31"), "{said:?}");
    rig.is_clean();
}

#[test]
fn an_empty_home_that_replaces_another_is_none() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("echo $HOME")
        .with(|config| config["process"]["env"] = json!(["PATH=/bin", "HOME=/over", "HOME="]));
    assert_eq!(rig.runtime(&["run", "@c"]).ok(), "/root\n");
}
