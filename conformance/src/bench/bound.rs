//! The kernel's own cost of the full configuration: the floor, and all else that it asks the kernel for.
//!
//! A cgroup in every hierarchy with its limits, joined and removed again; the loopback interface; the bounding set; a filter
//! as long as the profile's. No configuration is read, no state kept, no program of devices loaded on version 2. So no
//! runtime that does what the configuration says is faster, and where this is above a bar the bar is out of reach.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{mem, thread};

use anyhow::{Context as _, Result, ensure};
use nix::sched::{CloneFlags, unshare};

use super::floor;
use crate::{kernel, rig};

const ROOT: &str = "/sys/fs/cgroup";
/// The devices that every container may use, as version 1 takes them.
const DEVICES: [&str; 10] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
];
/// What the default profile of engines leaves a container, as bits of `capability.h`.
const KEPT: u64 = 0x0000_0000_8004_05fb;

/// `bound run ROOTFS PROGRAM` exits as the program does; `create ROOTFS PID_FILE` leaves a process that is about to execute
/// one, and `delete` removes what is left of that when the process has ended.
pub fn run(args: &[String]) -> ExitCode {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let result = match *words.as_slice() {
        ["run", rootfs, program] => contain(rootfs, program),
        ["create", rootfs, pid_file] => create(rootfs, pid_file).map(|()| 0),
        ["delete"] => delete().map(|()| 0),
        _ => return ExitCode::from(2),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            let _ = writeln!(io::stderr(), "bound: {err:#}");
            ExitCode::from(125)
        }
    }
}

fn contain(rootfs: &str, program: &str) -> Result<u8> {
    let (_cgroups, pid) = start(rootfs, program, confine)?;
    Ok(u8::try_from(kernel::reap(pid)?.code).unwrap_or(u8::MAX))
}

fn create(rootfs: &str, pid_file: &str) -> Result<()> {
    let (mut ready, mut tell) = io::pipe()?;
    let (cgroups, pid) = start(rootfs, "/true", move || {
        confine()?;
        tell.write_all(b"R")?;
        loop {
            nix::unistd::pause();
        }
    })?;
    ready.read_exact(&mut [0]).context("wait for the process")?;
    fs::write(pid_file, pid.to_string())?;
    mem::forget(cgroups);
    Ok(())
}

fn delete() -> Result<()> {
    for dir in Cgroups::places(unified())? {
        // It is busy for a moment after its last process.
        for _ in 0..1000 {
            match fs::remove_dir(&dir) {
                Err(err) if err.kind() == ErrorKind::ResourceBusy => thread::sleep(Duration::from_millis(1)),
                _ => break,
            }
        }
        ensure!(!dir.exists(), "{} does not go", dir.display());
    }
    Ok(())
}

fn unified() -> bool {
    Path::new(ROOT).join("cgroup.controllers").exists()
}

/// A process in a container, as far as its program or an end of `last`.
fn start(rootfs: &str, program: &str, last: impl FnOnce() -> io::Result<()>) -> Result<(Cgroups, i32)> {
    let mut namespaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    let unified = unified();
    let cgroups = Cgroups::make(unified)?;
    let tasks = if unified { Vec::new() } else { cgroups.open_tasks()? };
    let target = if unified { Some(OwnedFd::from(File::open(&cgroups.0[0])?)) } else { None };
    if target.is_some() {
        // It is born in its cgroup, so the namespace can be made at once.
        namespaces |= libc::CLONE_NEWCGROUP;
    }
    let pid = kernel::fork_into_cgroup(namespaces, target.as_ref()).context("clone3")?;
    if pid == 0 {
        for mut file in &tasks {
            file.write_all(b"0").context("join a cgroup")?;
        }
        if !unified {
            unshare(CloneFlags::CLONE_NEWCGROUP).context("make a cgroup namespace")?;
        }
        kernel::loopback_up().context("bring the loopback interface up")?;
        floor::inside(true, rootfs, program, last)?;
    }
    Ok((cgroups, pid))
}

/// Directories that go when this goes.
struct Cgroups(Vec<PathBuf>);

impl Cgroups {
    /// One in every hierarchy.
    fn places(unified: bool) -> Result<Vec<PathBuf>> {
        let name = format!("{}-bound", rig::cgroup_parent());
        if unified {
            return Ok(vec![Path::new(ROOT).join(name)]);
        }
        let mut places = Vec::new();
        for entry in fs::read_dir(ROOT)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                places.push(entry.path().join(&name));
            }
        }
        Ok(places)
    }

    fn make(unified: bool) -> Result<Self> {
        let mut made = Self(Vec::new());
        for dir in Self::places(unified)? {
            fs::create_dir(&dir).with_context(|| format!("make {}", dir.display()))?;
            made.0.push(dir);
        }
        if !unified {
            made.0.iter().try_for_each(|dir| limit(dir))?;
        }
        Ok(made)
    }

    /// Beside version 1 the unified hierarchy has no such file.
    fn open_tasks(&self) -> Result<Vec<File>> {
        let open = |name: &str, dir: &PathBuf| OpenOptions::new().write(true).open(dir.join(name));
        let one = |dir| open("tasks", dir).or_else(|_| open("cgroup.procs", dir));
        Ok(self.0.iter().map(one).collect::<io::Result<_>>()?)
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        self.0.iter().for_each(|dir| drop(fs::remove_dir(dir)));
    }
}

/// Fills in what the configuration says of version 1.
fn limit(dir: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if let Ok(value) = fs::read(dir.join("..").join(file)) {
            fs::write(dir.join(file), value)?;
        }
    }
    if let Ok(mut deny) = OpenOptions::new().write(true).open(dir.join("devices.deny")) {
        deny.write_all(b"a")?;
        let mut allow = OpenOptions::new().write(true).open(dir.join("devices.allow"))?;
        DEVICES.iter().try_for_each(|rule| allow.write_all(rule.as_bytes()))?;
    }
    if let Ok(mut most) = OpenOptions::new().write(true).open(dir.join("pids.max")) {
        most.write_all(b"2048")?;
    }
    Ok(())
}

/// The last things before the program.
fn confine() -> io::Result<()> {
    kernel::drop_bounding(!KEPT);
    kernel::install_filter(&filter())
}

/// A balanced tree over the system calls of x86_64, i386 and x32, of as many instructions as the profile compiles to.
/// It allows all but some that a program which only exits does not make.
fn filter() -> Vec<libc::sock_filter> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const JUMP: u16 = 0x05;
    let mut code = vec![instruction(LOAD, 0, 4)];
    for (architecture, first) in [(0xc000_003e, 0), (0x4000_0003, 0), (0xc000_003e, 0x4000_0000)] {
        let mut section = vec![instruction(LOAD, 0, 0)];
        tree(&mut section, first, first + 512, 6);
        code.push(instruction(EQUAL, 1, architecture));
        code.push(instruction(JUMP, 0, u32::try_from(section.len()).unwrap_or(0)));
        code.extend(section);
    }
    code.push(instruction(0x06, 0, 0));
    code
}

fn tree(code: &mut Vec<libc::sock_filter>, from: u32, to: u32, depth: u32) {
    const GREATER_OR_EQUAL: u16 = 0x35;
    const RETURN: u16 = 0x06;
    if depth == 0 {
        let needed = [libc::SYS_execve, libc::SYS_exit, libc::SYS_exit_group];
        let allows = (from / 8).is_multiple_of(2)
            || needed.iter().any(|&call| (i64::from(from)..i64::from(to)).contains(&call));
        code.push(instruction(RETURN, 0, if allows { 0x7fff_0000 } else { 0x0005_0001 }));
        return;
    }
    let middle = from + (to - from) / 2;
    let at = code.len();
    code.push(instruction(GREATER_OR_EQUAL, 0, middle));
    tree(code, from, middle, depth - 1);
    code[at].jt = u8::try_from(code.len() - at - 1).unwrap_or(0);
    tree(code, middle, to, depth - 1);
}

const fn instruction(code: u16, jt: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_about_as_long_as_the_profile_s() {
        assert!((360..400).contains(&filter().len()), "{}", filter().len());
    }
}
