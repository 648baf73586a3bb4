//! What a container may do unless told otherwise: Docker's default capabilities, hidden paths and system call filter.
//!
//! `imgtool bundle` writes them; `shim` writes them anew where `--cap-add`, `--privileged` and the like change them.

use serde_json::{Value, json};

/// Capabilities that a container's root keeps.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Paths that show nothing inside.
pub const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Paths that cannot be written inside.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The mounts of a container, in order.
#[must_use]
pub fn mounts() -> Value {
    json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
         "options": ["ro", "nosuid", "noexec", "nodev"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
         "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
         "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}
    ])
}

/// The device cgroup: nothing, but making any node (the mount is `nodev` or the kernel asks again on open), and using
/// the harmless ones.
#[must_use]
pub fn device_rules() -> Value {
    let allow = |major: i64, minor: i64, access: &str| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": access});
    json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "access": "m"},
        {"allow": true, "type": "b", "access": "m"},
        allow(1, 3, "rwm"),
        allow(1, 5, "rwm"),
        allow(1, 7, "rwm"),
        allow(1, 8, "rwm"),
        allow(1, 9, "rwm"),
        allow(5, 0, "rwm"),
        allow(5, 1, "rwm"),
        allow(5, 2, "rwm"),
        {"allow": true, "type": "c", "major": 136, "access": "rwm"}
    ])
}

/// System calls that every container may make, whatever its capabilities. Those of other architectures are named
/// too: the runtime skips what the machine does not have.
const ALWAYS: &str = "
_llseek _newselect accept accept4 access adjtimex alarm arch_prctl bind brk cachestat capget capset chdir chmod
chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve
execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat
fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr
fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32
geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid
getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt
gettid gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch
io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set
ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat
listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack
membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt
mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll
ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease process_vm_readv process_vm_writev
pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom
recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2
restart_syscall riscv_flush_icache riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler
sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg
sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32
setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32
setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown
sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64
statmount statx symlink symlinkat sync sync_file_range sync_file_range2 syncfs sysinfo tee tgkill time timer_create
timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask
uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
writev";

/// What single capabilities add.
const WITH_CAPABILITY: [(&str, &str); 13] = [
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
];

/// The namespace flags of clone(2): CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The default filter (`linux.seccomp`) for a container that holds `capabilities`, resolved for this machine.
#[must_use]
pub fn seccomp<S: AsRef<str>>(capabilities: &[S]) -> Value {
    let has = |wanted: &str| capabilities.iter().any(|cap| cap.as_ref() == wanted);
    let mut names: Vec<&str> = ALWAYS.split_ascii_whitespace().collect();
    for (capability, calls) in WITH_CAPABILITY {
        if has(capability) {
            names.extend(calls.split_ascii_whitespace());
        }
    }
    if has("CAP_PERFMON") {
        names.push("perf_event_open");
    }
    names.sort_unstable();
    names.dedup();
    let argument = |index: u32, value: u64, op: &str| json!([{"index": index, "value": value, "op": op}]);
    let allow = |name: &str, args: Value| json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": args});
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    // AF_VSOCK reaches the hypervisor, past every network namespace.
    rules.push(allow("socket", argument(0, 40, "SCMP_CMP_NE")));
    for persona in [0, 0x8, 0x20000, 0x20008, 0xffff_ffff] {
        rules.push(allow("personality", argument(0, persona, "SCMP_CMP_EQ")));
    }
    if !has("CAP_SYS_ADMIN") {
        let flags_at = u32::from(cfg!(target_arch = "s390x"));
        rules.push(allow(
            "clone",
            json!([{"index": flags_at, "value": NEW_NAMESPACES, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]),
        ));
        // Its flags are behind a pointer that no filter can read: ENOSYS makes libraries fall back to clone.
        rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    }
    let mut filter = json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": rules});
    if let Some(architectures) = architectures() {
        filter["architectures"] = json!(architectures);
    }
    filter
}

/// The machine's own architecture and those whose programs it also runs.
fn architectures() -> Option<Vec<&'static str>> {
    match std::env::consts::ARCH {
        "x86_64" => Some(vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        "aarch64" => Some(vec!["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        "riscv64" => Some(vec!["SCMP_ARCH_RISCV64"]),
        "s390x" => Some(vec!["SCMP_ARCH_S390X", "SCMP_ARCH_S390"]),
        "powerpc64" => Some(vec!["SCMP_ARCH_PPC64LE"]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(filter: &Value) -> Vec<&str> {
        filter["syscalls"][0]["names"].as_array().unwrap().iter().filter_map(Value::as_str).collect()
    }

    #[test]
    fn capabilities_open_their_calls_and_nothing_else() {
        let plain = seccomp(&CAPABILITIES);
        for (call, open) in
            [("read", true), ("chroot", true), ("mount", false), ("bpf", false), ("io_uring_setup", false)]
        {
            assert_eq!(allowed(&plain).contains(&call), open, "{call}");
        }
        let admin = seccomp(&["CAP_SYS_ADMIN"]);
        assert!(allowed(&admin).contains(&"mount") && allowed(&admin).contains(&"clone3"));
        let rules = admin["syscalls"].as_array().unwrap();
        assert!(!rules.iter().any(|rule| rule["names"][0] == "clone" || rule["names"][0] == "clone3"));
    }
}
