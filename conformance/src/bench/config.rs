//! The two configurations that are timed, and the tiny programs in them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::bundle::{self, set};

/// What an ordinary container may call: the kernel's table less what manages the machine.
const SYSCALLS: &str = include_str!("syscalls.txt");

/// How much a container is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Five namespaces, /proc and /dev, nothing else.
    Min,
    /// What an engine asks for: all default mounts, masks, a seccomp profile, capabilities, rlimits, cgroup limits.
    Full,
}

impl Kind {
    /// Its name in a row.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Min => "min",
            Self::Full => "full",
        }
    }
}

/// config.json of that kind for `program`. `pids` sets a pids limit, where the controller exists.
pub fn config(kind: Kind, program: &str, pids: bool) -> Result<Value> {
    let mut config = bundle::config(&[program]);
    if kind == Kind::Min {
        set(&mut config, "/process/noNewPrivileges", false.into())?;
        for key in ["maskedPaths", "readonlyPaths"] {
            bundle::remove(&mut config, "/linux", key);
        }
        if let Some(Value::Array(mounts)) = config.pointer_mut("/mounts") {
            mounts.retain(|mount| mount["destination"] == "/proc" || mount["destination"] == "/dev");
        }
        return Ok(config);
    }
    let limits = json!([
        {"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 1024}, {"type": "RLIMIT_NPROC", "soft": 4096, "hard": 4096},
    ]);
    set(&mut config, "/process/rlimits", limits)?;
    set(&mut config, "/process/oomScoreAdj", 0.into())?;
    set(&mut config, "/linux/namespaces/-", json!({"type": "cgroup"}))?;
    let cgroup = json!({
        "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"],
    });
    set(&mut config, "/mounts/-", cgroup)?;
    set(&mut config, "/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]))?;
    if pids {
        set(&mut config, "/linux/resources/pids", json!({"limit": 2048}))?;
    }
    set(&mut config, "/linux/seccomp", seccomp())?;
    Ok(config)
}

fn seccomp() -> Value {
    let names: Vec<&str> = SYSCALLS.split_whitespace().collect();
    let equal = |value: u64| json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    for persona in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        rules.push(json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": equal(persona)}));
    }
    rules.push(json!({
        "names": ["socket"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": libc::AF_VSOCK, "op": "SCMP_CMP_NE"}],
    }));
    // Threads and processes, but no new namespaces: clone3's flags are in memory, so it pretends not to exist.
    rules.push(json!({
        "names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
    }));
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}));
    json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": rules,
    })
}

/// Writes `true` and `pause` into a root file system: programs of a dozen instructions, so that only the runtime counts.
pub fn programs(rootfs: &Path) -> Result<()> {
    let [exit, pause] = machine_code()?;
    for (name, code) in [("true", exit), ("pause", pause)] {
        let path = rootfs.join(name);
        fs::write(&path, elf(&code)).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

/// `exit(0)`, and `pause()` for ever.
fn machine_code() -> Result<[Vec<u8>; 2]> {
    Ok(match std::env::consts::ARCH {
        "x86_64" => [
            // mov eax, 60; xor edi, edi; syscall
            vec![0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05],
            // mov eax, 34; syscall; jmp back
            vec![0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7],
        ],
        "aarch64" => {
            let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect();
            [
                // mov x8, 93; mov x0, 0; svc 0
                words(&[0xd280_0ba8, 0xd280_0000, 0xd400_0001]),
                // mov x8, 73 (ppoll); mov x0..x3, 0; svc 0; b back
                words(&[
                    0xd280_0928,
                    0xd280_0000,
                    0xd280_0001,
                    0xd280_0002,
                    0xd280_0003,
                    0xd400_0001,
                    0x17ff_fffa,
                ]),
            ]
        }
        other => bail!("no tiny programs for {other} yet"),
    })
}

/// A static ELF executable of one segment.
fn elf(code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let size = HEADERS + u64::try_from(code.len()).unwrap_or(0);
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut half = |word: u16| file.extend(word.to_le_bytes());
    half(2);
    half(machine);
    file.extend(1_u32.to_le_bytes());
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(word.to_le_bytes());
    }
    file.extend(0_u32.to_le_bytes());
    for word in [64_u16, 56, 1, 0, 0, 0] {
        file.extend(word.to_le_bytes());
    }
    // One PT_LOAD, readable and executable.
    file.extend([1_u32, 5].into_iter().flat_map(u32::to_le_bytes));
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(code);
    file
}
