//! Architectures as seccomp sees them, and the numbers that system calls have there.

use oci_spec::runtime::Arch;

/// One way to make system calls: an audit architecture and a table of numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abi {
    /// Its name in a profile.
    pub arch: Arch,
    /// `seccomp_data.arch`; x86_64 and x32 share one.
    pub audit: u32,
    /// Column in `syscalls.tsv`.
    column: usize,
    /// Added to the numbers of the table.
    offset: u32,
    /// Whether arguments are compared in all their 64 bits.
    pub wide: bool,
    /// Whether `socketcall` and `ipc` carry the calls that came before their own numbers.
    multiplexed: bool,
}

const fn abi(arch: Arch, column: usize, wide: bool, multiplexed: bool) -> Abi {
    // The profile's names are the audit constants, but for x32, which differs from x86_64 in the number only.
    let x32 = matches!(arch, Arch::ScmpArchX32);
    let audit = if x32 { Arch::ScmpArchX86_64 as u32 } else { arch as u32 };
    Abi { arch, audit, column, offset: if x32 { X32_BIT } else { 0 }, wide, multiplexed }
}

/// Bit 30 of the number marks an x32 call (`__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

static X86_64: [Abi; 3] = [
    abi(Arch::ScmpArchX86_64, 1, true, false),
    abi(Arch::ScmpArchX86, 3, false, true),
    // The kernel reads most arguments of x32 calls as 32 bits, so a condition must not be dodged by the upper ones.
    abi(Arch::ScmpArchX32, 2, false, false),
];
static X86: [Abi; 3] = [
    abi(Arch::ScmpArchX86, 3, false, true),
    abi(Arch::ScmpArchX86_64, 1, true, false),
    abi(Arch::ScmpArchX32, 2, false, false),
];
static AARCH64: [Abi; 2] =
    [abi(Arch::ScmpArchAarch64, 4, true, false), abi(Arch::ScmpArchArm, 5, false, false)];
static ARM: [Abi; 2] = [abi(Arch::ScmpArchArm, 5, false, false), abi(Arch::ScmpArchAarch64, 4, true, false)];
static RISCV64: [Abi; 1] = [abi(Arch::ScmpArchRiscv64, 6, true, false)];
static LOONGARCH64: [Abi; 1] = [abi(Arch::ScmpArchLoongarch64, 7, true, false)];
static S390X: [Abi; 2] = [abi(Arch::ScmpArchS390x, 8, true, true), abi(Arch::ScmpArchS390, 9, false, true)];
static PPC64LE: [Abi; 1] = [abi(Arch::ScmpArchPpc64le, 10, true, true)];
static PPC64: [Abi; 2] = [abi(Arch::ScmpArchPpc64, 10, true, true), abi(Arch::ScmpArchPpc, 11, false, true)];
static MIPS: [Abi; 3] = [
    abi(Arch::ScmpArchMips64, 13, true, false),
    abi(Arch::ScmpArchMips, 12, false, false),
    abi(Arch::ScmpArchMips64n32, 14, false, false),
];
static MIPSEL: [Abi; 3] = [
    abi(Arch::ScmpArchMipsel64, 13, true, false),
    abi(Arch::ScmpArchMipsel, 12, false, false),
    abi(Arch::ScmpArchMipsel64n32, 14, false, false),
];

/// The architecture this program is built for.
pub(super) const NATIVE: Arch = if cfg!(target_arch = "x86_64") {
    Arch::ScmpArchX86_64
} else if cfg!(target_arch = "x86") {
    Arch::ScmpArchX86
} else if cfg!(target_arch = "aarch64") {
    Arch::ScmpArchAarch64
} else if cfg!(target_arch = "arm") {
    Arch::ScmpArchArm
} else if cfg!(target_arch = "riscv64") {
    Arch::ScmpArchRiscv64
} else if cfg!(target_arch = "loongarch64") {
    Arch::ScmpArchLoongarch64
} else if cfg!(target_arch = "s390x") {
    Arch::ScmpArchS390x
} else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
    Arch::ScmpArchPpc64le
} else if cfg!(target_arch = "powerpc64") {
    Arch::ScmpArchPpc64
} else if cfg!(all(target_arch = "mips64", target_endian = "little")) {
    Arch::ScmpArchMipsel64
} else if cfg!(target_arch = "mips64") {
    Arch::ScmpArchMips64
} else {
    panic!("this architecture has no seccomp table")
};

/// The calling conventions a kernel for `native` can show to a filter, the native one first. All others named in a
/// profile need no code: the kernel cannot run their programs.
pub(super) fn family(native: Arch) -> &'static [Abi] {
    match native {
        Arch::ScmpArchX86_64 | Arch::ScmpArchX32 => &X86_64,
        Arch::ScmpArchX86 => &X86,
        Arch::ScmpArchAarch64 => &AARCH64,
        Arch::ScmpArchArm => &ARM,
        Arch::ScmpArchRiscv64 => &RISCV64,
        Arch::ScmpArchLoongarch64 => &LOONGARCH64,
        Arch::ScmpArchS390x => &S390X,
        Arch::ScmpArchPpc64le => &PPC64LE,
        Arch::ScmpArchPpc64 => &PPC64,
        Arch::ScmpArchMips64 => &MIPS,
        Arch::ScmpArchMipsel64 => &MIPSEL,
        _ => &[],
    }
}

/// Where a named call is found: its number, and for a multiplexed one the value of the first argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Site {
    /// `seccomp_data.nr`.
    pub number: u32,
    /// The sub-call that `socketcall` or `ipc` selects by its first argument.
    pub selector: Option<u32>,
}

impl Abi {
    /// The sites of `row`'s call: its own number, the multiplexer's, both or none.
    pub fn sites(&self, row: &Row) -> impl Iterator<Item = Site> {
        let own = row.number(self.column);
        let carried =
            self.multiplexed.then(|| row.multiplexer()).flatten().and_then(|(carrier, selector)| {
                let number = Row::find(carrier)?.number(self.column)?;
                Some(Site { number: number + self.offset, selector: Some(selector) })
            });
        own.map(|number| Site { number: number + self.offset, selector: None }).into_iter().chain(carried)
    }

    /// Whether its calls are those of x86_64 with bit 30 set.
    pub fn is_x32(&self) -> bool {
        self.arch == Arch::ScmpArchX32
    }

    /// Where numbers that are no table entries begin: those of ARM's private calls.
    pub fn private_from(&self) -> Option<u32> {
        (self.arch == Arch::ScmpArchArm).then_some(0x000f_0000)
    }
}

/// One line per system call: its name and its number on each architecture (`-` where it has none), from the
/// kernel's own `asm/unistd*.h` (Linux 7.0; those of 31-bit s390, which have since gone, from 6.1).
const TABLE: &[u8] = include_bytes!("syscalls.tsv");

/// One line of the table, without its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row(&'static [u8]);

impl Row {
    /// The line of a call by its name.
    pub fn find(name: &str) -> Option<Self> {
        let mut slot = hash(name.as_bytes(), 0, name.len());
        while SLOTS[slot] != 0 {
            let line = &TABLE[usize::from(SLOTS[slot])..];
            if line.get(name.len()) == Some(&b'\t') && line.starts_with(name.as_bytes()) {
                let end = line.iter().position(|&byte| byte == b'\n').unwrap_or(line.len());
                return Some(Self(&line[..end]));
            }
            slot = (slot + 1) % SLOTS.len();
        }
        None
    }

    fn number(self, column: usize) -> Option<u32> {
        let field = self.0.split(|&byte| byte == b'\t').nth(column)?;
        field.iter().try_fold(0_u32, |number, byte| match byte {
            b'0'..=b'9' => Some(number * 10 + u32::from(byte - b'0')),
            _ => None,
        })
    }

    /// `socketcall(2)` and `ipc(2)`: the carrier and the sub-call's number (`linux/net.h`, `linux/ipc.h`).
    fn multiplexer(self) -> Option<(&'static str, u32)> {
        let name = self.0.split(|&byte| byte == b'\t').next()?;
        let sockets: [&[u8]; 20] = [
            b"socket",
            b"bind",
            b"connect",
            b"listen",
            b"accept",
            b"getsockname",
            b"getpeername",
            b"socketpair",
            b"send",
            b"recv",
            b"sendto",
            b"recvfrom",
            b"shutdown",
            b"setsockopt",
            b"getsockopt",
            b"sendmsg",
            b"recvmsg",
            b"accept4",
            b"recvmmsg",
            b"sendmmsg",
        ];
        if let Some(index) = sockets.iter().position(|&socket| socket == name) {
            return Some(("socketcall", u32::try_from(index).ok()? + 1));
        }
        let selector = match name {
            b"semop" => 1,
            b"semget" => 2,
            b"semctl" => 3,
            b"semtimedop" => 4,
            b"msgsnd" => 11,
            b"msgrcv" => 12,
            b"msgget" => 13,
            b"msgctl" => 14,
            b"shmat" => 21,
            b"shmdt" => 22,
            b"shmget" => 23,
            b"shmctl" => 24,
            _ => return None,
        };
        Some(("ipc", selector))
    }
}

/// Offsets of the table's lines by the hash of their name; 0 (the heading) marks a free slot. Made by the compiler:
/// a profile names some 400 calls, and each is found in a step or two.
static SLOTS: [u16; 1024] = index();

#[allow(long_running_const_eval, clippy::cast_possible_truncation)]
const fn index() -> [u16; 1024] {
    assert!(TABLE.len() <= u16::MAX as usize, "an offset no longer fits a slot");
    let mut slots = [0; 1024];
    let mut at = next_line(0);
    while at < TABLE.len() {
        let mut end = at;
        while TABLE[end] != b'\t' {
            end += 1;
        }
        let mut slot = hash(TABLE, at, end);
        while slots[slot] != 0 {
            slot = (slot + 1) % slots.len();
        }
        slots[slot] = at as u16;
        at = next_line(end);
    }
    slots
}

const fn next_line(mut at: usize) -> usize {
    while TABLE[at] != b'\n' {
        at += 1;
    }
    at + 1
}

/// FNV-1a over `text[from..to]`, folded to a slot.
const fn hash(text: &[u8], from: usize, to: usize) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = from;
    while at < to {
        hash = (hash ^ text[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    ((hash ^ (hash >> 15)) % 1024) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(arch: Arch, name: &str) -> Vec<(u32, Option<u32>)> {
        let abi = family(arch).iter().find(|abi| abi.arch == arch).unwrap();
        Row::find(name)
            .map_or_else(Vec::new, |row| abi.sites(&row).map(|site| (site.number, site.selector)).collect())
    }

    #[test]
    fn every_line_is_found() {
        let text = std::str::from_utf8(TABLE).unwrap();
        let names: Vec<&str> = text.lines().skip(1).map(|line| line.split('\t').next().unwrap()).collect();
        assert!(names.len() > 500);
        assert!(names.iter().all(|name| Row::find(name).is_some()));
        assert!(Row::find("rea").is_none() && Row::find("readd").is_none() && Row::find("").is_none());
    }

    #[test]
    fn numbers_by_architecture() {
        assert_eq!(sites(Arch::ScmpArchX86_64, "read"), [(0, None)]);
        assert_eq!(sites(Arch::ScmpArchAarch64, "read"), [(63, None)]);
        assert_eq!(sites(Arch::ScmpArchMips64, "read"), [(5000, None)]);
        assert_eq!(sites(Arch::ScmpArchX86_64, "stat64"), []);
    }

    #[test]
    fn calls_behind_a_multiplexer_have_two_sites() {
        assert_eq!(sites(Arch::ScmpArchX86, "socket"), [(359, None), (102, Some(1))]);
        assert_eq!(sites(Arch::ScmpArchX86, "accept"), [(102, Some(5))]);
        assert_eq!(sites(Arch::ScmpArchX86, "shmat"), [(397, None), (117, Some(21))]);
        assert_eq!(sites(Arch::ScmpArchX86_64, "socket"), [(41, None)]);
    }
}
