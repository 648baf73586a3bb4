//! `linux.seccomp`.

use anyhow::Result;
use serde_json::{Value, json};

use super::expect::{allowed, refused, same};
use crate::case::Case;
use crate::rig::Rig;

const SECTION: &str = "config-linux.md#seccomp";

/// All cases.
pub const CASES: &[Case] = &[
    Case::new("seccomp/errno", SECTION, errno),
    Case::new("seccomp/errno-number", SECTION, errno_number),
    Case::new("seccomp/argument", SECTION, argument),
    Case::new("seccomp/masked-argument", SECTION, masked_argument),
    Case::new("seccomp/kill", SECTION, kill),
    Case::new("seccomp/allow-list", SECTION, allow_list),
    Case::new("seccomp/unknown-name", SECTION, unknown_name),
    Case::new("seccomp/unknown-action", SECTION, unknown_action),
    Case::new("seccomp/with-new-privileges", SECTION, with_new_privileges),
    Case::new("seccomp/mode", SECTION, mode),
    Case::new("seccomp/exec", SECTION, exec),
];

fn profile(rules: &Value) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules,
    })
}

/// The compiler's choice of call differs between machines and libraries: both names of each.
const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn errno(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/seccomp", profile(&json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}])))?;
    let tries = rig.attempt(&["mkdir /tmp/new", "create /tmp/file"])?;
    refused(&tries, "mkdir /tmp/new", &["EPERM"])?;
    allowed(&tries, "create /tmp/file").map(drop)
}

fn errno_number(rig: &mut Rig<'_>) -> Result<()> {
    rig.set(
        "/linux/seccomp",
        profile(&json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 38}])),
    )?;
    refused(&rig.attempt(&["mkdir /tmp/new"])?, "mkdir /tmp/new", &["ENOSYS"])
}

fn argument(rig: &mut Rig<'_>) -> Result<()> {
    // socket(AF_PACKET = 17, …)
    let rule = json!({
        "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97,
        "args": [{"index": 0, "value": 17, "op": "SCMP_CMP_EQ"}],
    });
    rig.set("/linux/seccomp", profile(&json!([rule])))?;
    let tries = rig.attempt(&["socket packet", "socket unix"])?;
    refused(&tries, "socket packet", &["EAFNOSUPPORT"])?;
    allowed(&tries, "socket unix").map(drop)
}

fn masked_argument(rig: &mut Rig<'_>) -> Result<()> {
    // unshare with CLONE_NEWUSER (0x10000000) among the flags.
    let rule = json!({
        "names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22,
        "args": [{"index": 0, "value": 0x1000_0000, "valueTwo": 0x1000_0000, "op": "SCMP_CMP_MASKED_EQ"}],
    });
    rig.set("/linux/seccomp", profile(&json!([rule])))?;
    let tries = rig.attempt(&["unshare uts", "unshare user"])?;
    refused(&tries, "unshare user", &["EINVAL"])?;
    refused(&tries, "unshare uts", &["EPERM"])
}

fn kill(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/seccomp", profile(&json!([{"names": MKDIR, "action": "SCMP_ACT_KILL_PROCESS"}])))?;
    rig.program(&["try", "mkdir /tmp/new"])?.run()?.exits(128 + 31)?;
    Ok(())
}

fn allow_list(rig: &mut Rig<'_>) -> Result<()> {
    let deny = json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ALLOWED, "action": "SCMP_ACT_ALLOW"}],
    });
    rig.set("/linux/seccomp", deny)?;
    let tries = rig.attempt(&["read /etc/passwd", "mkdir /tmp/new"])?;
    allowed(&tries, "read /etc/passwd")?;
    refused(&tries, "mkdir /tmp/new", &["EPERM"])
}

/// What a runtime's last steps and the probe need.
const ALLOWED: &[&str] = &[
    "access",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clone",
    "clone3",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fchdir",
    "fchown",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getpgrp",
    "getpid",
    "getppid",
    "getrandom",
    "getrlimit",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "lstat",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmsg",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "seccomp",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setresgid",
    "setresuid",
    "setuid",
    "sigaltstack",
    "stat",
    "statfs",
    "statx",
    "tgkill",
    "uname",
    "umask",
    "unshare",
    "wait4",
    "waitid",
    "write",
    "writev",
];

fn unknown_name(rig: &mut Rig<'_>) -> Result<()> {
    // Profiles name calls of newer kernels and other machines: they must not stop a container.
    let rules = json!([
        {"names": ["mkdir", "mkdirat", "no_such_call_at_all"], "action": "SCMP_ACT_ERRNO"},
        {"names": ["another_unknown_call"], "action": "SCMP_ACT_ALLOW"},
    ]);
    rig.set("/linux/seccomp", profile(&rules))?;
    refused(&rig.attempt(&["mkdir /tmp/new"])?, "mkdir /tmp/new", &["EPERM"])
}

fn unknown_action(rig: &mut Rig<'_>) -> Result<()> {
    rig.set("/linux/seccomp", profile(&json!([{"names": MKDIR, "action": "SCMP_ACT_SING"}])))?
        .run()?
        .fails()?;
    Ok(())
}

fn with_new_privileges(rig: &mut Rig<'_>) -> Result<()> {
    // Loading a filter without no_new_privs needs CAP_SYS_ADMIN, which the container does not keep.
    rig.set("/process/noNewPrivileges", false)?
        .set("/process/user", json!({"uid": 1000, "gid": 1000}))?
        .set(
            "/linux/seccomp",
            profile(&json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 5}])),
        )?;
    refused(&rig.attempt(&["mkdir /tmp/new"])?, "mkdir /tmp/new", &["EIO"])
}

fn mode(rig: &mut Rig<'_>) -> Result<()> {
    let facts = rig
        .set("/linux/seccomp", profile(&json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO"}])))?
        .facts()?;
    same("Seccomp", &facts["status"]["Seccomp"], "2")
}

fn exec(rig: &mut Rig<'_>) -> Result<()> {
    rig.set(
        "/linux/seccomp",
        profile(&json!([{"names": MKDIR, "action": "SCMP_ACT_ERRNO", "errnoRet": 5}])),
    )?;
    rig.running("pause")?;
    let tries = rig.exec(&[], &["try", "mkdir /tmp/new"])?.ok()?.json()?;
    refused(&tries, "mkdir /tmp/new", &["EIO"])
}
