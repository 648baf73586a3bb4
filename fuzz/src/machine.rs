//! The kernel's view of a filter: whether it takes it, and what the filter says of a call (`bpf_check_classic` and
//! `seccomp_check_filter` in the kernel's sources).

use sys::seccomp::Instruction;

/// The size of `struct seccomp_data`.
const DATA: u32 = 64;

/// The kernel takes this program: every jump is forward and inside, every path ends in a return, every load is a word of
/// the data.
///
/// # Panics
/// Where it would not.
pub fn accepts(program: &[Instruction]) {
    let length = program.len();
    assert!((1..=4096).contains(&length), "{length} instructions");
    for (at, one) in program.iter().enumerate() {
        let furthest = match one.code {
            0x20 => {
                assert!(one.k % 4 == 0 && one.k < DATA, "instruction {at} loads {}", one.k);
                at + 1
            }
            0x54 => at + 1,
            0x05 => at + 1 + one.k as usize,
            0x15 | 0x25 | 0x35 | 0x45 => at + 1 + usize::from(one.jt.max(one.jf)),
            0x06 => continue,
            code => panic!("instruction {at} is {code:#x}"),
        };
        assert!(furthest < length, "instruction {at} leads to {furthest} of {length}");
    }
}

/// What an accepted filter says of one call.
#[must_use]
pub fn verdict(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    let mut words = vec![number, arch, 0, 0];
    words.extend(args.iter().flat_map(|arg| [*arg as u32, (arg >> 32) as u32]));
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let holds = match code {
            0x20 => {
                accumulator = words[k as usize / 4];
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += k as usize;
                continue;
            }
            0x06 => return k,
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            _ => accumulator & k != 0,
        };
        at += usize::from(if holds { jt } else { jf });
    }
}
