//! `memcpy(3)`, `memmove(3)` and `memcmp(3)` in place of musl's, whose copies begin with an instruction that takes the time of
//! some sixty bytes, and which compares byte by byte. A program that lives for milliseconds copies and compares words of 5 to
//! 20 bytes: a seventh of the processor time of `runtime run` outside of the kernel was that.
//!
//! All bytes of up to 32 are loaded before the first is stored, so there is no wrong direction. Beyond that the last 32
//! (or, from the end on, the first) are loaded before they could be overwritten.

use std::arch::global_asm;

/// What is longer is copied as musl does, by the instruction for it: its run-up is short beside the copy.
const LONG: usize = 1024;

// rdi: to (rax, too, which is what both return); rsi: from; rdx: how many.
global_asm!(
    ".pushsection .text.copy, \"ax\", @progbits",
    ".globl memcpy",
    ".globl memmove",
    ".type memcpy, @function",
    ".type memmove, @function",
    ".p2align 4",
    "memcpy:",
    "mov rax, rdi",
    "cmp rdx, 16",
    "ja 5f",
    "cmp edx, 8",
    "jae 4f",
    "cmp edx, 4",
    "jae 3f",
    "test edx, edx",
    "jz 2f",
    // One to three: the first, the middle and the last, which may be the same.
    "mov rcx, rdx",
    "shr rcx",
    "movzx r8d, byte ptr [rsi]",
    "movzx r9d, byte ptr [rsi + rcx]",
    "movzx r10d, byte ptr [rsi + rdx - 1]",
    "mov [rdi], r8b",
    "mov [rdi + rcx], r9b",
    "mov [rdi + rdx - 1], r10b",
    "2:",
    "ret",
    "3:",
    "mov ecx, [rsi]",
    "mov r8d, [rsi + rdx - 4]",
    "mov [rdi], ecx",
    "mov [rdi + rdx - 4], r8d",
    "ret",
    "4:",
    "mov rcx, [rsi]",
    "mov r8, [rsi + rdx - 8]",
    "mov [rdi], rcx",
    "mov [rdi + rdx - 8], r8",
    "ret",
    "5:",
    "cmp rdx, 32",
    "ja 6f",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + rdx - 16]",
    "movups [rdi], xmm0",
    "movups [rdi + rdx - 16], xmm1",
    "ret",
    "6:",
    "cmp rdx, {long}",
    "ja 8f",
    "movups xmm2, [rsi + rdx - 32]",
    "movups xmm3, [rsi + rdx - 16]",
    "lea r8, [rdi + rdx - 32]",
    "7:",
    "movups xmm0, [rsi]",
    "movups xmm1, [rsi + 16]",
    "movups [rdi], xmm0",
    "movups [rdi + 16], xmm1",
    "add rsi, 32",
    "add rdi, 32",
    "cmp rdi, r8",
    "jb 7b",
    "movups [r8], xmm2",
    "movups [r8 + 16], xmm3",
    "ret",
    "8:",
    "mov r9, [rsi + rdx - 8]",
    "lea r8, [rdi + rdx - 8]",
    "mov rcx, rdx",
    "shr rcx, 3",
    "rep movsq",
    "mov [r8], r9",
    "ret",
    ".size memcpy, . - memcpy",
    ".p2align 4",
    "memmove:",
    "mov rax, rdi",
    "cmp rdx, 32",
    "jbe memcpy",
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, rdx",
    "jae 6b",
    // The end goes where the source still has bytes of its own: from the end on.
    "movups xmm2, [rsi]",
    "movups xmm3, [rsi + 16]",
    "9:",
    "movups xmm0, [rsi + rdx - 16]",
    "movups xmm1, [rsi + rdx - 32]",
    "movups [rdi + rdx - 16], xmm0",
    "movups [rdi + rdx - 32], xmm1",
    "sub rdx, 32",
    "cmp rdx, 32",
    "ja 9b",
    "movups [rdi], xmm2",
    "movups [rdi + 16], xmm3",
    "ret",
    ".size memmove, . - memmove",
    ".popsection",
    long = const LONG,
);

// rdi, rsi: the two; rdx: how many. The first difference decides, which is the highest byte of a word turned round.
global_asm!(
    ".pushsection .text.compare, \"ax\", @progbits",
    ".globl memcmp",
    ".type memcmp, @function",
    ".p2align 4",
    "memcmp:",
    "xor ecx, ecx",
    "sub rdx, 8",
    "jb 4f",
    "2:",
    "mov rax, [rdi + rcx]",
    "mov r8, [rsi + rcx]",
    "cmp rax, r8",
    "jne 3f",
    "add rcx, 8",
    "cmp rcx, rdx",
    "jb 2b",
    // The last eight, some of them once more.
    "mov rax, [rdi + rdx]",
    "mov r8, [rsi + rdx]",
    "cmp rax, r8",
    "jne 3f",
    "xor eax, eax",
    "ret",
    "3:",
    "bswap rax",
    "bswap r8",
    "cmp rax, r8",
    "sbb eax, eax",
    "or eax, 1",
    "ret",
    "4:",
    "add rdx, 8",
    "jz 6f",
    "5:",
    "movzx eax, byte ptr [rdi + rcx]",
    "movzx r8d, byte ptr [rsi + rcx]",
    "sub eax, r8d",
    "jne 7f",
    "inc rcx",
    "cmp rcx, rdx",
    "jb 5b",
    "6:",
    "xor eax, eax",
    "7:",
    "ret",
    ".size memcmp, . - memcmp",
    ".popsection",
);

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;
    use std::hint::black_box;

    fn numbered(length: usize) -> Vec<u8> {
        (0..=250_u8).cycle().take(length).collect()
    }

    /// Every length around the borders, at every distance that matters.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..300).chain([1023, 1024, 1025, 1031, 1032, 1100, 4095, 4096, 70_001])
    }

    #[test]
    fn copies_exactly() {
        for length in lengths() {
            for (from, to) in [(0, 0), (1, 0), (0, 3), (7, 9)] {
                let source = numbered(length + 16);
                let mut target = vec![0xEE; length + 32];
                target[to..to + length].copy_from_slice(black_box(&source[from..from + length]));
                assert_eq!(target[to..to + length], source[from..from + length], "{length}");
                assert!(
                    target[..to].iter().chain(&target[to + length..]).all(|&byte| byte == 0xEE),
                    "{length}"
                );
            }
        }
    }

    #[test]
    fn moves_either_way() {
        for length in lengths() {
            for distance in [0, 1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100] {
                for (from, to) in [(0, distance), (distance, 0)] {
                    let before = numbered(length + distance + 1);
                    let mut moved = before.clone();
                    moved.copy_within(black_box(from)..from + length, black_box(to));
                    for (index, &byte) in moved.iter().enumerate() {
                        let inside = (to..to + length).contains(&index);
                        let expected = before[if inside { index - to + from } else { index }];
                        assert_eq!(byte, expected, "{length} bytes by {distance}, at {index}");
                    }
                }
            }
        }
    }

    #[test]
    fn compares_by_the_first_difference() {
        for length in 0..70 {
            let one = numbered(length);
            assert_eq!(black_box(&one[..]).cmp(black_box(&one.clone()[..])), Ordering::Equal);
            for at in 0..length {
                let mut other = one.clone();
                other[at] ^= 0x80;
                // What comes later says the contrary.
                for byte in &mut other[at + 1..] {
                    *byte = !*byte;
                }
                let expected = one[at].cmp(&other[at]);
                assert_eq!(
                    black_box(&one[..]).cmp(black_box(&other[..])),
                    expected,
                    "{length} bytes, at {at}"
                );
                assert_eq!(black_box(&other[..]).cmp(black_box(&one[..])), expected.reverse());
                assert_ne!(black_box(&one), black_box(&other));
            }
        }
    }
}
