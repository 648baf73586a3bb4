//! Architectures as seccomp sees them, and the numbers that system calls have there.

use std::num::NonZero;

use oci_spec::runtime::Arch;

use super::calls::{Call, PRIVATE};

/// One way to make system calls: an audit architecture and a table of numbers.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Abi {
    /// Its name in a profile.
    pub arch: Arch,
    /// `seccomp_data.arch`; x86_64 and x32 share one.
    pub audit: u32,
    /// Column of numbers in `syscalls.tsv`.
    column: usize,
    /// Added to the numbers of the table.
    pub offset: u32,
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
    abi(Arch::ScmpArchX86_64, 0, true, false),
    abi(Arch::ScmpArchX86, 2, false, true),
    // The kernel reads most arguments of x32 calls as 32 bits, so a condition must not be dodged by the upper ones.
    abi(Arch::ScmpArchX32, 1, false, false),
];
static X86: [Abi; 3] = [
    abi(Arch::ScmpArchX86, 2, false, true),
    abi(Arch::ScmpArchX86_64, 0, true, false),
    abi(Arch::ScmpArchX32, 1, false, false),
];
static AARCH64: [Abi; 2] =
    [abi(Arch::ScmpArchAarch64, 3, true, false), abi(Arch::ScmpArchArm, 4, false, false)];
static ARM: [Abi; 2] = [abi(Arch::ScmpArchArm, 4, false, false), abi(Arch::ScmpArchAarch64, 3, true, false)];
static RISCV64: [Abi; 1] = [abi(Arch::ScmpArchRiscv64, 5, true, false)];
static LOONGARCH64: [Abi; 1] = [abi(Arch::ScmpArchLoongarch64, 6, true, false)];
static S390X: [Abi; 2] = [abi(Arch::ScmpArchS390x, 7, true, true), abi(Arch::ScmpArchS390, 8, false, true)];
static PPC64LE: [Abi; 1] = [abi(Arch::ScmpArchPpc64le, 9, true, true)];
static PPC64: [Abi; 2] = [abi(Arch::ScmpArchPpc64, 9, true, true), abi(Arch::ScmpArchPpc, 10, false, true)];
static MIPS: [Abi; 3] = [
    abi(Arch::ScmpArchMips64, 12, true, false),
    abi(Arch::ScmpArchMips, 11, false, false),
    abi(Arch::ScmpArchMips64n32, 13, false, false),
];
static MIPSEL: [Abi; 3] = [
    abi(Arch::ScmpArchMipsel64, 12, true, false),
    abi(Arch::ScmpArchMipsel, 11, false, false),
    abi(Arch::ScmpArchMipsel64n32, 13, false, false),
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
    pub selector: Option<NonZero<u32>>,
}

impl Abi {
    /// Tells the sites of a call: its own number, the multiplexer's, both or none.
    pub fn sites(&self, call: Call, mut tell: impl FnMut(Site)) {
        if let Some(number) = call.number(self.column) {
            tell(Site { number: number + self.offset, selector: None });
        }
        if self.multiplexed
            && let Some((carrier, selector)) = call.carrier()
            && let Some(number) = Call::find(carrier).and_then(|carrier| carrier.number(self.column))
        {
            tell(Site { number: number + self.offset, selector: NonZero::new(selector) });
        }
    }

    /// Whether its calls are those of x86_64 with bit 30 set.
    pub fn is_x32(&self) -> bool {
        self.arch == Arch::ScmpArchX32
    }

    /// Where numbers that are no table entries begin: those of ARM's private calls.
    pub fn private_from(&self) -> Option<u32> {
        (self.arch == Arch::ScmpArchArm).then_some(PRIVATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sites(arch: Arch, name: &str) -> Vec<(u32, Option<u32>)> {
        let abi = family(arch).iter().find(|abi| abi.arch == arch).unwrap();
        let mut sites = Vec::new();
        let tell = |site: Site| sites.push((site.number, site.selector.map(NonZero::get)));
        if let Some(call) = Call::find(name) {
            abi.sites(call, tell);
        }
        sites
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
