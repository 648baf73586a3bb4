//! `exec`: a further process in a running container (runc's command, which every engine relies on).

use std::fs;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::expect::{holds, same};
use crate::case::Case;
use crate::rig::Rig;

const SECTION: &str = "runtime.md#operations";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("exec/exit-code", SECTION, exit_code),
    Case::new("exec/exit-signal", SECTION, exit_signal),
    Case::new("exec/namespaces", SECTION, namespaces),
    Case::new("exec/cgroup", SECTION, cgroup),
    Case::new("exec/env", SECTION, env),
    Case::new("exec/cwd", SECTION, cwd),
    Case::new("exec/user", SECTION, user),
    Case::new("exec/user-numbers", SECTION, user_numbers),
    Case::new("exec/capabilities", SECTION, capabilities),
    Case::new("exec/process-file", SECTION, process_file),
    Case::new("exec/stdin", SECTION, stdin),
    Case::new("exec/detached", SECTION, detached),
    Case::new("exec/descriptors", SECTION, descriptors),
    Case::new("exec/missing-program", SECTION, missing_program),
    Case::new("exec/unknown-container", SECTION, unknown_container),
    Case::new("exec/stopped-container", SECTION, stopped_container),
    Case::new("exec/created-container", SECTION, created_container),
    Case::new("exec/no-new-privileges", SECTION, no_new_privileges),
];

fn facts(rig: &Rig<'_>, flags: &[&str]) -> Result<Value> {
    rig.exec(flags, &["facts"])?.ok()?.json()
}

fn exit_code(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    for code in [0, 7, 255] {
        rig.exec(&[], &["exit", &code.to_string()])?.exits(code)?;
    }
    Ok(())
}

fn exit_signal(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.exec(&[], &["die", "SIGKILL"])?.exits(137)?;
    Ok(())
}

fn namespaces(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let (pid, facts) = (rig.pid()?, facts(rig, &[])?);
    for kind in ["pid", "net", "ipc", "uts", "mnt", "user"] {
        let wanted = fs::read_link(format!("/proc/{pid}/ns/{kind}"))?.to_string_lossy().into_owned();
        same(&format!("the {kind} namespace"), &facts["namespaces"][kind], wanted)?;
    }
    Ok(())
}

fn cgroup(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let pid = rig.pid()?;
    let of_init = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    same("/proc/self/cgroup", &facts(rig, &[])?["cgroup"], of_init)
}

fn env(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/env", json!(["PATH=/bin", "KEPT=1", "CHANGED=old"]))?.running("pause")?;
    let facts = facts(rig, &["--env", "NEW=2", "--env", "CHANGED=new"])?;
    for pair in ["PATH=/bin", "KEPT=1", "NEW=2", "CHANGED=new"] {
        holds("environment variables", &facts["env"], pair)?;
    }
    Ok(())
}

fn cwd(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    same("the working directory", &facts(rig, &["--cwd", "/etc"])?["cwd"], "/etc")?;
    rig.exec(&["--cwd", "/no/such/dir"], &["facts"])?.fails().map(drop)
}

fn user(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let facts = facts(rig, &["--user", "1234:5678"])?;
    same("Uid", &facts["status"]["Uid"], "1234\t1234\t1234\t1234")?;
    same("Gid", &facts["status"]["Gid"], "5678\t5678\t5678\t5678")
}

fn user_numbers(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    // CVE-2026-30892: crun took `-u 1` for 0:0. CVE-2016-3697: a number is never looked up as a name.
    fs::write(rig.inside("/etc/passwd"), "1:x:0:0::/:/bin/sh\nroot:x:0:0::/:/bin/sh\n")?;
    same("Uid", &facts(rig, &["--user", "1"])?["status"]["Uid"], "1\t1\t1\t1")?;
    for wrong in ["-1", "4294967296", "1:-1", "1:1:1"] {
        let run = rig.exec(&[&format!("--user={wrong}")], &["facts"])?;
        ensure!(run.code != 0, "--user={wrong} was accepted");
    }
    Ok(())
}

fn capabilities(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let pid = rig.pid()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let facts = facts(rig, &[])?;
    for set in ["CapBnd", "CapEff", "CapPrm", "CapInh"] {
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{set}:"))).unwrap_or_default();
        same(set, &facts["status"][set], line.trim())?;
    }
    Ok(())
}

fn process_file(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let file = rig.dir.join("process.json");
    let process = json!({
        "args": ["/probe", "facts"], "cwd": "/tmp", "env": ["PATH=/x", "FROM=file"], "user": {"uid": 9, "gid": 8},
    });
    fs::write(&file, process.to_string())?;
    let facts = rig.call(&["exec", "--process", &file.to_string_lossy(), &rig.id])?.ok()?.json()?;
    same("the working directory", &facts["cwd"], "/tmp")?;
    same("Uid", &facts["status"]["Uid"], "9\t9\t9\t9")?;
    holds("environment variables", &facts["env"], "FROM=file")
}

fn stdin(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let input = rig.dir.join("input");
    fs::write(&input, "through")?;
    let run = rig.call_with_input(&["exec", &rig.id, "/probe", "cat"], Some(&input))?.ok()?;
    ensure!(run.stdout == "through", "stdin came out as {:?}", run.stdout);
    Ok(())
}

fn detached(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let file = rig.dir.join("exec.pid");
    rig.exec(&["--detach", "--pid-file", &file.to_string_lossy()], &["pause"])?.ok()?;
    let pid = fs::read_to_string(&file)?;
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    ensure!(link(pid.trim())? == link(&rig.pid()?.to_string())?, "{pid} is not in the container");
    Ok(())
}

fn descriptors(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let facts = facts(rig, &[])?;
    let open: Vec<&String> =
        facts["descriptors"].as_object().map(|map| map.keys().collect()).unwrap_or_default();
    ensure!(open == ["0", "1", "2"], "open descriptors: {}", facts["descriptors"]);
    Ok(())
}

fn missing_program(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    let run = rig.call(&["exec", &rig.id, "/no/such/program"])?.fails()?;
    ensure!(run.stderr.contains("/no/such/program"), "the error does not name the program: {}", run.stderr);
    same("the container after", &rig.state()?["status"], "running")
}

fn unknown_container(rig: &mut Rig<'_>) -> Result<()> {
    rig.call(&["exec", "no-such-container", "/probe", "facts"])?.fails().map(drop)
}

fn stopped_container(rig: &mut Rig<'_>) -> Result<()> {
    rig.running("pause")?;
    rig.call(&["kill", &rig.id, "KILL"])?.ok()?;
    rig.wait()?;
    rig.exec(&[], &["facts"])?.fails().map(drop)
}

fn created_container(rig: &mut Rig<'_>) -> Result<()> {
    // Nothing of the program has run yet, but the namespaces stand: engines use this to set them up.
    rig.program(&["pause"])?.create()?.ok()?;
    let own = fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned();
    let found = facts(rig, &[])?["namespaces"]["pid"].clone();
    ensure!(found.is_string() && found != own, "exec landed in the host's pid namespace");
    Ok(())
}

fn no_new_privileges(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/process/noNewPrivileges", false)?.running("pause")?;
    same("NoNewPrivs", &facts(rig, &[])?["status"]["NoNewPrivs"], "0")?;
    same("NoNewPrivs", &facts(rig, &["--no-new-privs"])?["status"]["NoNewPrivs"], "1")
}
