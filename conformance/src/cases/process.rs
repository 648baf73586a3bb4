//! `process`: what runs, where, as whom.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::expect::{holds, same};
use crate::case::Case;
use crate::kernel;
use crate::machine::Need;
use crate::rig::Rig;

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("process/args", "config.md#process", args),
    Case::new("process/args-empty", "config.md#process", args_empty),
    Case::new("process/args-missing-program", "config.md#process", missing_program),
    Case::new("process/args-not-executable", "config.md#process", not_executable),
    Case::new("process/path-lookup", "config.md#process", path_lookup),
    Case::new("process/exit-code", "runtime.md#lifecycle", exit_code),
    Case::new("process/exit-signal", "runtime.md#lifecycle", exit_signal),
    Case::new("process/env", "config.md#process", env),
    Case::new("process/cwd", "config.md#process", cwd),
    Case::new("process/cwd-relative", "config.md#process", cwd_relative),
    Case::new("process/stdio", "runtime-linux.md#file-descriptors", stdio),
    Case::new("process/descriptors", "runtime-linux.md#file-descriptors", descriptors),
    Case::new("process/signals", "runtime.md#lifecycle", signals),
    Case::new("process/pid-one", "config-linux.md#namespaces", pid_one),
    Case::new("process/user", "config.md#posix-platform-user", user),
    Case::new("process/user-groups", "config.md#posix-platform-user", groups),
    Case::new("process/user-no-groups", "config.md#posix-platform-user", no_groups),
    Case::new("process/umask", "config.md#posix-platform-user", umask),
    Case::new("process/no-new-privileges", "config.md#linux-process", no_new_privileges),
    Case::new("process/new-privileges", "config.md#linux-process", new_privileges),
    Case::new("process/oom-score", "config.md#linux-process", oom_score),
    Case::new("process/rlimit", "config.md#posix-process", rlimit),
    Case::new("process/rlimit-raise", "config.md#posix-process", rlimit_raise).needs(&[Need::SysResource]),
    Case::new("process/rlimit-unknown", "config.md#posix-process", rlimit_unknown),
    Case::new("process/rlimit-twice", "config.md#posix-process", rlimit_twice),
    Case::new("process/io-priority", "config.md#linux-process", io_priority),
    Case::new("process/scheduler", "config.md#linux-process", scheduler),
];

fn args(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.program(&["echo", "a b", "", "ü", "$HOME"])?.run()?.ok()?;
    ensure!(run.stdout == "a b  ü $HOME\n", "the program printed {:?}", run.stdout);
    Ok(())
}

fn args_empty(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/args", json!([]))?.run()?.fails()?;
    Ok(())
}

fn missing_program(rig: &mut Rig<'_>) -> Result<()> {
    let run = rig.set("/process/args", json!(["/no/such/program"]))?.run()?.fails()?;
    ensure!(run.stderr.contains("/no/such/program"), "the error does not name the program: {}", run.stderr);
    Ok(())
}

fn not_executable(rig: &mut Rig<'_>) -> Result<()> {
    std::fs::write(rig.inside("/data"), "text")?;
    let run = rig.set("/process/args", json!(["/data"]))?.run()?.fails()?;
    ensure!(run.stderr.contains("/data"), "the error does not name the program: {}", run.stderr);
    Ok(())
}

fn path_lookup(rig: &mut Rig<'_>) -> Result<()> {
    std::fs::hard_link(rig.inside("/probe"), rig.inside("/bin/probe"))?;
    rig.set("/process/env", json!(["PATH=/nowhere:/bin"]))?
        .set("/process/args", json!(["probe", "exit", "0"]))?;
    rig.run()?.ok()?;
    Ok(())
}

fn exit_code(rig: &mut Rig<'_>) -> Result<()> {
    for code in [0, 1, 42, 255] {
        rig.program(&["exit", &code.to_string()])?.run()?.exits(code)?;
        let _ = rig.call(&["delete", "--force", &rig.id]);
    }
    Ok(())
}

fn exit_signal(rig: &mut Rig<'_>) -> Result<()> {
    // PID 1 cannot signal itself: this container shares the host's processes.
    rig.without_namespace("pid").program(&["die", "SIGUSR1"])?.run()?.exits(128 + 10)?;
    Ok(())
}

fn env(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/env", json!(["PATH=/bin", "HOME=/home", "A=1=2", "EMPTY=", "LANG=ü"]))?;
    let facts = rig.facts()?;
    for pair in ["PATH=/bin", "HOME=/home", "A=1=2", "EMPTY=", "LANG=ü"] {
        holds("environment variables", &facts["env"], pair)?;
    }
    let count = facts["env"].as_array().map_or(0, Vec::len);
    ensure!(count == 5, "{count} variables instead of 5: {}", facts["env"]);
    Ok(())
}

fn cwd(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/process/cwd", "/etc")?.facts()?;
    same("the working directory", &facts["cwd"], "/etc")
}

fn cwd_relative(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/cwd", "etc")?.run()?.fails()?;
    Ok(())
}

fn stdio(rig: &mut Rig<'_>) -> Result<()> {
    let input = rig.dir.join("input");
    std::fs::write(&input, "line one\nline two")?;
    rig.program(&["cat"])?.write_config()?;
    let bundle = rig.bundle();
    let run =
        rig.call_with_input(&["run", "--bundle", &bundle.to_string_lossy(), &rig.id], Some(&input))?.ok()?;
    ensure!(run.stdout == "line one\nline two", "stdin came out as {:?}", run.stdout);
    Ok(())
}

fn descriptors(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.facts()?;
    let open: Vec<&String> =
        facts["descriptors"].as_object().map(|map| map.keys().collect()).unwrap_or_default();
    ensure!(open == ["0", "1", "2"], "open descriptors: {}", facts["descriptors"]);
    Ok(())
}

/// What the caller ignores or blocks must not reach the program.
fn signals(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.facts()?;
    same("blocked signals", status(&facts, "SigBlk"), "0000000000000000")?;
    // Left out: SIGPIPE (13), which the probe's own language run-time ignores, and 32 to 34, which C libraries keep
    // for themselves and let no program reset.
    const LEFT_OUT: u64 = 1 << 12 | 0b111 << 31;
    let ignored = status(&facts, "SigIgn").as_str().unwrap_or_default();
    ensure!(u64::from_str_radix(ignored, 16)? & !LEFT_OUT == 0, "ignored signals: {ignored}");
    Ok(())
}

fn pid_one(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.facts()?;
    same("the pid", &facts["pid"], 1)?;
    same("the processes in /proc", &facts["processes"], json!([1]))
}

fn status<'a>(facts: &'a Value, line: &str) -> &'a Value {
    &facts["status"][line]
}

fn user(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/process/user", json!({"uid": 1234, "gid": 5678}))?.facts()?;
    same("Uid", status(&facts, "Uid"), "1234\t1234\t1234\t1234")?;
    same("Gid", status(&facts, "Gid"), "5678\t5678\t5678\t5678")
}

fn groups(rig: &mut Rig<'_>) -> Result<()> {
    let user = json!({"uid": 1234, "gid": 5678, "additionalGids": [77, 5, 100_000]});
    let facts = rig.set("/process/user", user)?.facts()?;
    let text = status(&facts, "Groups").as_str().unwrap_or_default();
    let mut found: Vec<&str> = text.split_whitespace().filter(|gid| *gid != "5678").collect();
    found.sort_unstable();
    ensure!(found == ["100000", "5", "77"], "the groups are {text:?}");
    Ok(())
}

fn no_groups(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/process/user", json!({"uid": 1234, "gid": 5678}))?.facts()?;
    let groups = status(&facts, "Groups").as_str().unwrap_or_default();
    ensure!(matches!(groups.trim(), "" | "5678"), "the caller's groups leak in: {groups:?}");
    Ok(())
}

fn umask(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o077}))?.facts()?;
    same("Umask", status(&facts, "Umask"), "0077")
}

fn no_new_privileges(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/process/noNewPrivileges", true)?.facts()?;
    same("NoNewPrivs", status(&facts, "NoNewPrivs"), "1")
}

fn new_privileges(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/process/noNewPrivileges", false)?.facts()?;
    same("NoNewPrivs", status(&facts, "NoNewPrivs"), "0")
}

fn oom_score(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig.set("/process/oomScoreAdj", 321)?.facts()?;
    same("oom_score_adj", &facts["oom_score_adj"], 321)
}

fn rlimit(rig: &mut Rig<'_>) -> Result<()> {
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 111, "hard": 222},
        {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
        {"type": "RLIMIT_FSIZE", "soft": 1_048_576, "hard": 2_097_152},
    ]);
    let facts = rig.set("/process/rlimits", limits)?.facts()?;
    same("RLIMIT_NOFILE", &facts["rlimits"]["RLIMIT_NOFILE"], json!({"soft": 111, "hard": 222}))?;
    same("RLIMIT_CORE", &facts["rlimits"]["RLIMIT_CORE"], json!({"soft": 0, "hard": 0}))?;
    same("RLIMIT_FSIZE", &facts["rlimits"]["RLIMIT_FSIZE"], json!({"soft": 1_048_576, "hard": 2_097_152}))
}

fn rlimit_raise(rig: &mut Rig<'_>) -> Result<()> {
    let limits = json!([{"type": "RLIMIT_NOFILE", "soft": 1_048_570, "hard": 1_048_570}]);
    let facts = rig.set("/process/rlimits", limits)?.facts()?;
    same("RLIMIT_NOFILE", &facts["rlimits"]["RLIMIT_NOFILE"]["hard"], 1_048_570)
}

fn rlimit_unknown(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/rlimits", json!([{"type": "RLIMIT_NOPE", "soft": 1, "hard": 1}]))?.run()?.fails()?;
    Ok(())
}

fn rlimit_twice(rig: &mut Rig<'_>) -> Result<()> {
    let limit = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
    rig.set("/process/rlimits", json!([limit, limit]))?.run()?.fails()?;
    Ok(())
}

fn io_priority(rig: &mut Rig<'_>) -> Result<()> {
    let facts =
        rig.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 5}))?.facts()?;
    same("the I/O priority (best effort, 5)", &facts["io_priority"], (2 << 13) | 5)
}

fn scheduler(rig: &mut Rig<'_>) -> Result<()> {
    let before = kernel::scheduler();
    let facts = rig.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 3}))?.facts()?;
    same("the scheduler (SCHED_BATCH)", &facts["scheduler"], 3)?;
    same("the nice value", &facts["nice"], 3)?;
    ensure!(kernel::scheduler() == before, "the caller's own scheduler changed");
    Ok(())
}
