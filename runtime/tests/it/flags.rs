//! Flags that few use, each with what it changes.

use std::fs;
use std::path::PathBuf;

use crate::rig::{Rig, can_run, wait_until};

#[test]
fn the_log_is_as_talkative_as_it_is_told_to_be() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/true"])
        .with(|config| config["process"]["capabilities"]["bounding"] = serde_json::json!(["CAP_NOSUCH"]));
    let log = rig.path().join("log");
    let said = |level: &str| {
        let _ = fs::remove_file(&log);
        rig.runtime(&["--log", log.to_str().unwrap(), "--log-level", level, "run", "@c"]).ok();
        fs::read_to_string(&log).unwrap_or_default()
    };
    assert!(said("warning").contains("CAP_NOSUCH"));
    assert_eq!(said("error"), "");
    assert!(said("debug").contains("CAP_NOSUCH"));
}

/// What happens, step by step, for whoever looks for a fault; nothing of it where nobody asked.
#[test]
fn debugging_tells_each_step() {
    if !can_run() {
        return;
    }
    let hook = serde_json::json!([{ "path": "/bin/true" }]);
    let rig = Rig::new(&["/bin/sleep", "1000"]).with(|config| {
        config["linux"]["seccomp"] = serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW" });
        config["hooks"] = serde_json::json!({ "createRuntime": hook });
    });
    let log = rig.path().join("log");
    let said = |flags: &[&str], args: &[&str]| {
        let _ = fs::remove_file(&log);
        let all = [&["--log", log.to_str().unwrap(), "--log-format", "json"], flags, args].concat();
        rig.runtime(&all).ok();
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>()
    };
    let tells = |lines: &[serde_json::Value], words: &[&str]| {
        assert!(lines.iter().all(|line| line["level"] == "debug"), "{lines:?}");
        for word in words {
            let told = |line: &serde_json::Value| line["msg"].as_str().unwrap().contains(word);
            assert!(lines.iter().any(told), "{word}: {lines:?}");
        }
    };
    let rootfs = rig.rootfs().display().to_string();
    let steps = [&rootfs, "cgroup /", "namespaces", "instructions", "hook /bin/true", "mount /proc (proc)"];
    tells(&said(&["--debug"], &["create", "@c"]), &steps);
    tells(&said(&["--debug"], &["start", "@c"]), &["start process"]);
    tells(&said(&["--debug"], &["exec", "@c", "/bin/true"]), &["in container"]);
    tells(&said(&["--debug"], &["kill", "@c", "KILL"]), &["signal 9", "running"]);
    rig.wait_for_status("c", "stopped");
    tells(&said(&["--debug"], &["delete", "@c"]), &["remove container"]);
    assert!(said(&[], &["run", "-d", "@c"]).is_empty());
    // Without a log on stderr, as runc; stdout stays the program's.
    let said = rig.runtime(&["--debug", "exec", "@c", "/bin/echo", "out"]);
    assert!(said.out == "out\n" && said.err.contains("in container"), "{said:?}");
}

/// runc's callers may write them as Go reads them.
#[test]
fn flags_as_go_reads_them() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    let bundle = rig.bundle().display().to_string();
    rig.runtime(&["--debug=false", "create", "--no-pivot=false", "--no-subreaper", "-bundle", &bundle, "@c"])
        .ok();
    let said = rig.runtime(&["--criu", "/nowhere", "start", "@c"]);
    assert!(said.code == 0 && said.err.contains("--criu /nowhere: ignored"), "{said:?}");
    assert_eq!(rig.runtime(&["list", "-quiet"]).ok().trim(), rig.id("c"));
    let said = rig.runtime(&["exec", "--tty=false", "@c", "/bin/echo", "-quiet", "--tty=true"]).ok();
    assert_eq!(said, "-quiet --tty=true\n");
    assert_eq!(rig.runtime(&["delete", "-force=maybe", "@c"]).code, 2);
    rig.runtime(&["delete", "-force=true", "@c"]).ok();
    rig.is_clean();
}

#[test]
fn groups_are_added_for_exec() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    let groups = rig.runtime(&["exec", "-g", "33", "--additional-gids", "44", "@c", "/bin/id", "-G"]).ok();
    assert_eq!(groups.trim(), "0 33 44");
}

#[test]
fn exec_can_wait_for_a_paused_container() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"]);
    rig.runtime(&["run", "-d", "@c"]).ok();
    rig.runtime(&["pause", "@c"]).ok();
    assert!(rig.runtime(&["exec", "@c", "/bin/true"]).fails(125).contains("paused"));
    let mut child = rig.command(&["exec", "--ignore-paused", "@c", "/bin/true"]).spawn().unwrap();
    let processes = || rig.runtime(&["ps", "--format", "json", "@c"]).ok().matches(',').count() + 1;
    wait_until("the second process", || processes() == 2 || child.try_wait().unwrap().is_some());
    rig.runtime(&["resume", "@c"]).ok();
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_session_keyring_is_new_or_the_callers() {
    if !can_run() || !std::path::Path::new("/proc/keys").exists() {
        eprintln!("SKIPPED: this kernel does not list keys");
        return;
    }
    let rig = Rig::new(&["/bin/cat", "/proc/keys"]).with(|config| {
        config["linux"]["maskedPaths"] = serde_json::json!([]);
    });
    let own = |name: &str| format!("_ses.{}:", rig.id(name));
    assert!(rig.runtime(&["run", "@c"]).ok().contains(&own("c")));
    assert!(!rig.runtime(&["run", "--no-new-keyring", "@d"]).ok().contains(&own("d")));
}

#[test]
fn without_being_the_reaper_of_orphans() {
    if !can_run() {
        return;
    }
    let rig = Rig::script("exit 3");
    assert_eq!(rig.command(&["run", "--no-subreaper", "@c"]).status().unwrap().code(), Some(3));
    rig.is_clean();
}

/// A file of the container's cgroup of version 1, if there is such a controller with such a file.
fn cgroup_file(rig: &Rig, name: &str) -> Option<PathBuf> {
    rig.cgroups().into_iter().map(|dir| dir.join(name)).find(|file| file.exists())
}

#[test]
fn rare_limits_change() {
    if !can_run() {
        return;
    }
    let rig = Rig::new(&["/bin/sleep", "1000"])
        .with(|config| config["linux"]["resources"]["cpu"] = serde_json::json!({"quota": 20000}));
    rig.runtime(&["run", "-d", "@c"]).ok();
    for (flag, value, files) in [
        ("--cpu-burst", "10000", ["cpu.cfs_burst_us", "cpu.max.burst"]),
        ("--cpu-idle", "1", ["cpu.idle", "cpu.idle"]),
        ("--cpu-rt-period", "900000", ["cpu.rt_period_us", ""]),
        ("--cpu-rt-runtime", "0", ["cpu.rt_runtime_us", ""]),
    ] {
        let found = files.iter().filter(|file| !file.is_empty()).find_map(|file| cgroup_file(&rig, file));
        let Some(file) = found else {
            eprintln!("SKIPPED: this kernel has no file for {flag}");
            continue;
        };
        rig.runtime(&["update", flag, value, "@c"]).ok();
        assert_eq!(fs::read_to_string(file).unwrap().trim(), value, "{flag}");
    }
    // Kernels have no such limits any more; podman and Docker still ask for them.
    rig.runtime(&["update", "--kernel-memory", "1g", "--kernel-memory-tcp", "1g", "--memory", "64m", "@c"])
        .ok();
    let rdt = rig.runtime(&["update", "--mem-bw-schema", "MB:0=20", "@c"]);
    if !std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        assert!(rdt.fails(7).contains("resctrl"));
    }
}

#[test]
fn both_spellings_of_version() {
    let version =
        |flag: &str| crate::rig::run(std::process::Command::new(crate::rig::runtime()).arg(flag)).ok();
    assert!(version("-v").starts_with("runtime version "), "{}", version("-v"));
    assert_eq!(version("-v"), version("--version"));
}
