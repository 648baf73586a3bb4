//! What must fail before anything runs, and what must not although it is unusual.

use anyhow::{Result, ensure};
use serde_json::json;

use super::expect::{allowed, same};
use crate::case::Case;
use crate::rig::Rig;

const LIFECYCLE: &str = "runtime.md#operations";
const SECCOMP: &str = "config-linux.md#seccomp";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("refusals/root-is-a-file", "config.md#root", root_is_a_file),
    Case::new("refusals/rlimit-soft-above-hard", "config.md#posix-process", rlimit_soft_above_hard),
    Case::new("refusals/oom-score-out-of-range", "config.md#linux-process", oom_score),
    Case::new("refusals/sysctl-unknown", "config-linux.md#sysctl", sysctl_unknown),
    Case::new("refusals/mount-without-destination", "config.md#mounts", mount_without_destination),
    Case::new("refusals/seccomp-architecture", SECCOMP, seccomp_architecture),
    Case::new("refusals/seccomp-operator", SECCOMP, seccomp_operator),
    Case::new("refusals/pause-unknown", LIFECYCLE, |rig| unknown(rig, "pause")),
    Case::new("refusals/resume-unknown", LIFECYCLE, |rig| unknown(rig, "resume")),
    Case::new("refusals/pause-stopped", LIFECYCLE, pause_stopped),
    Case::new("refusals/exec-paused", LIFECYCLE, exec_paused),
    Case::new("refusals/exec-directory", LIFECYCLE, exec_directory),
    Case::new("unusual/capability-unknown", "config.md#linux-process", capability_unknown),
    Case::new("unusual/large-environment", "config.md#process", large_environment),
    Case::new("unusual/many-arguments", "config.md#process", many_arguments),
    Case::new("unusual/seccomp-without-rules", SECCOMP, seccomp_without_rules),
    Case::new("unusual/seccomp-architectures", SECCOMP, seccomp_architectures),
    Case::new("unusual/seccomp-flags", SECCOMP, seccomp_flags),
    Case::new("unusual/seccomp-trap", SECCOMP, seccomp_trap),
    Case::new("unusual/rlimit-core", "config.md#posix-process", rlimit_core),
    Case::new("unusual/sysctl-ipc", "config-linux.md#sysctl", sysctl_ipc),
    Case::new("unusual/sysctl-mqueue", "config-linux.md#sysctl", sysctl_mqueue),
    Case::new("unusual/hostname-of-the-host", "config-linux.md#namespaces", hostname_of_the_host),
    Case::new("unusual/state-paused", "runtime.md#state", state_paused),
    Case::new("unusual/exec-killed", LIFECYCLE, exec_killed),
    Case::new("unusual/exec-pid-file", LIFECYCLE, exec_pid_file),
    Case::new("unusual/help-of-a-verb", LIFECYCLE, help_of_a_verb),
];

fn root_is_a_file(rig: &mut Rig<'_>) -> Result<()> {
    std::fs::write(rig.bundle().join("file"), "")?;
    rig.set("/root/path", "file")?.run()?.fails().map(drop)
}

fn rlimit_soft_above_hard(rig: &mut Rig<'_>) -> Result<()> {
    let limit = json!([{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 32}]);
    rig.set("/process/rlimits", limit)?.run()?.fails().map(drop)
}

fn oom_score(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/oomScoreAdj", 2000)?.run()?.fails().map(drop)
}

fn sysctl_unknown(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.set("/linux/sysctl", json!({"net.ipv4.no_such_key": "1"}))?.run()?.fails()?;
    ensure!(run.stderr.contains("no_such_key"), "the error does not name the key: {}", run.stderr);
    Ok(())
}

fn mount_without_destination(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/mounts/-", json!({"type": "tmpfs", "source": "tmpfs"}))?.run()?.fails().map(drop)
}

fn seccomp_architecture(rig: &mut Rig<'_>) -> Result<()> {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_PDP11"]});
    rig.set("/linux/seccomp", profile)?.run()?.fails().map(drop)
}

fn seccomp_operator(rig: &mut Rig<'_>) -> Result<()> {
    let rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_ABOUT"}]});
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    rig.set("/linux/seccomp", profile)?.run()?.fails().map(drop)
}

fn unknown(rig: &mut Rig<'_>, verb: &str) -> Result<()> {
    rig.call(&[verb, "nobody"])?.fails().map(drop)
}

fn pause_stopped(rig: &mut Rig<'_>) -> Result<()> {
    rig.program(&["exit", "0"])?.create()?.ok()?;
    rig.call(&["start", &rig.id])?.ok()?;
    rig.wait()?;
    rig.call(&["pause", &rig.id])?.fails().map(drop)
}

fn exec_paused(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["pause", &rig.id])?.ok()?;
    let run = rig.exec(&[], &["exit", "0"])?;
    rig.call(&["resume", &rig.id])?.ok()?;
    run.fails().map(drop)
}

fn exec_directory(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let run = rig.call(&["exec", &rig.id, "/etc"])?.fails()?;
    ensure!(run.stderr.contains("/etc"), "the error does not name the program: {}", run.stderr);
    Ok(())
}

fn capability_unknown(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/capabilities/bounding/-", "CAP_TIME_TRAVEL")?.facts().map(drop)
}

fn large_environment(rig: &mut Rig<'_>) -> Result<()> {
    let long = "x".repeat(70_000);
    let mut list: Vec<String> = (0..1000).map(|number| format!("V{number}=value")).collect();
    // Runtimes add HOME where it is missing.
    list.extend([format!("LONG={long}"), "HOME=/".to_owned()]);
    let facts = rig.set("/process/env", json!(list))?.facts()?;
    let found = facts["env"].as_array().map_or(0, Vec::len);
    ensure!(found == 1002, "{found} variables instead of 1002");
    Ok(())
}

fn many_arguments(rig: &mut Rig<'_>) -> Result<()> {
    let words = vec!["word"; 2000];
    let run = rig.program(&[&["echo"], words.as_slice()].concat())?.run()?.ok()?;
    let found = run.stdout.split_whitespace().count();
    ensure!(found == 2000, "{found} words instead of 2000");
    Ok(())
}

fn seccomp_without_rules(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}))?.facts().map(drop)
}

/// `mkdir` fails with `EDOM`, with more in the profile.
fn denied(rig: &mut Rig<'_>, key: &str, value: serde_json::Value) -> Result<()> {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 33});
    rig.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))?;
    rig.set(&format!("/linux/seccomp/{key}"), value)?;
    super::expect::refused(&rig.attempt(&["mkdir /tmp/x"])?, "mkdir /tmp/x", &["EDOM"])
}

fn seccomp_architectures(rig: &mut Rig<'_>) -> Result<()> {
    denied(
        rig,
        "architectures",
        json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"]),
    )
}

fn seccomp_flags(rig: &mut Rig<'_>) -> Result<()> {
    denied(rig, "flags", json!(["SECCOMP_FILTER_FLAG_LOG"]))
}

fn seccomp_trap(rig: &mut Rig<'_>) -> Result<()> {
    let rule = json!({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_TRAP"});
    rig.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))?;
    rig.program(&["try", "mkdir /tmp/x"])?.run()?.exits(128 + 31).map(drop)
}

fn rlimit_core(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/rlimits", json!([{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]))?;
    let facts = rig.facts()?;
    same("the limit", &facts["rlimits"]["RLIMIT_CORE"], json!({"soft": 0, "hard": 0}))
}

fn sysctl_ipc(rig: &mut Rig<'_>) -> Result<()> {
    parameter(rig, "kernel.msgmax", "/proc/sys/kernel/msgmax", "4321")
}

fn sysctl_mqueue(rig: &mut Rig<'_>) -> Result<()> {
    parameter(rig, "fs.mqueue.msg_max", "/proc/sys/fs/mqueue/msg_max", "23")
}

fn parameter(rig: &mut Rig<'_>, name: &str, path: &str, value: &str) -> Result<()> {
    let operation = format!("read {path}");
    let tries = rig.set("/linux/sysctl", json!({ name: value }))?.attempt(&[&operation])?;
    let found = allowed(&tries, &operation)?.as_str().unwrap_or_default().trim();
    ensure!(found == value, "{name} is {found}, not {value}");
    Ok(())
}

fn hostname_of_the_host(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.without_namespace("uts").remove("", "hostname").facts()?;
    let ours = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    same("the hostname", &facts["hostname"], ours.trim_end())
}

fn state_paused(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["pause", &rig.id])?.ok()?;
    let status = rig.state()?["status"].clone();
    rig.call(&["resume", &rig.id])?.ok()?;
    same("the status", &status, "paused")?;
    same("the status after resume", &rig.state()?["status"], "running")
}

fn exec_killed(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.exec(&[], &["die", "SIGKILL"])?.exits(128 + 9).map(drop)
}

fn exec_pid_file(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let file = rig.dir.join("exec-pid");
    rig.exec(&["--detach", "--pid-file", &file.to_string_lossy()], &["pause"])?.ok()?;
    let pid: i32 = std::fs::read_to_string(&file)?.trim().parse()?;
    ensure!(pid != rig.pid()?, "the pid file names the container's first process");
    ensure!(
        std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "no process {pid}, which the pid file names"
    );
    Ok(())
}

fn help_of_a_verb(rig: &mut Rig<'_>) -> Result<()> {
    let out = rig.call(&["create", "--help"])?.ok()?.stdout;
    ensure!(out.contains("bundle") && out.contains("pid-file"), "create --help prints {out:?}");
    Ok(())
}
