//! What a filter says of a call: the kernel's reading of classic BPF (seccomp(2), bpf(4)).

use sys::seccomp::Instruction;

/// Words of `struct seccomp_data` before the instruction pointer and the arguments: number, architecture.
const KNOWN: usize = 2;
/// Its words in all.
const WORDS: usize = 16;

/// The filter's answer to call `number` of the audit architecture `arch`, on a little-endian machine. Without arguments
/// `None` where it depends on them; also `None` for a program that is not to be understood.
pub(super) fn verdict(
    program: &[Instruction],
    (arch, number): (u32, u32),
    args: Option<[u64; 6]>,
) -> Option<u32> {
    let mut words = [0; WORDS];
    words[..KNOWN].copy_from_slice(&[number, arch]);
    let known = if args.is_some() { WORDS } else { KNOWN };
    for (pair, arg) in words[4..].chunks_mut(2).zip(args.unwrap_or_default()) {
        pair.copy_from_slice(&[u32::try_from(arg & 0xffff_ffff).ok()?, u32::try_from(arg >> 32).ok()?]);
    }
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let &Instruction { code, jt, jf, k } = program.get(at)?;
        at += 1;
        let operand = usize::try_from(k).ok()?;
        let holds = match code {
            0x20 => {
                accumulator = *words[..known].get(operand / 4)?;
                continue;
            }
            0x54 => {
                accumulator &= k;
                continue;
            }
            0x05 => {
                at += operand;
                continue;
            }
            0x06 => return Some(k),
            0x15 => accumulator == k,
            0x25 => accumulator > k,
            0x35 => accumulator >= k,
            0x45 => accumulator & k != 0,
            _ => return None,
        };
        at += usize::from(if holds { jt } else { jf });
    }
}
