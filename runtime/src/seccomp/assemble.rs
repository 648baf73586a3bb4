//! An assembler for classic BPF that writes a program from its end to its start.
//!
//! All jumps of classic BPF go forward, so written backwards every target is known when a jump is written, and the
//! nearest copy of a `return` can be shared. Conditional jumps reach 255 instructions; beyond that they go through
//! an unconditional one.

use sys::seccomp::Instruction;

/// `BPF_LD | BPF_W | BPF_ABS`
const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`
const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`
const RETURN: u16 = 0x06;

/// A comparison of the accumulator with a constant.
#[derive(Debug, Clone, Copy)]
#[repr(u16)]
pub(super) enum Test {
    /// `BPF_JMP | BPF_JEQ | BPF_K`
    Equal = 0x15,
    /// `BPF_JMP | BPF_JGT | BPF_K`
    Greater = 0x25,
    /// `BPF_JMP | BPF_JGE | BPF_K`
    GreaterOrEqual = 0x35,
}

/// Where control goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goto {
    /// The filter ends with this verdict.
    Return(u32),
    /// An instruction already written, by its distance from the program's end.
    Label(usize),
}

/// A program in the making, last instruction first.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    reversed: Vec<Instruction>,
    /// The copy of each `return` nearest to the program's start.
    returns: Vec<(u32, usize)>,
}

impl Assembler {
    /// Compares the accumulator with `k`.
    pub fn branch(&mut self, test: Test, k: u32, (yes, no): (Goto, Goto)) -> Goto {
        if yes == no {
            return yes;
        }
        // Room for what the other arm may still need: a jump or return between, and the branch itself.
        let no = self.within(no, 253);
        let yes = self.within(yes, 254);
        let at = self.reversed.len();
        let skip = |label: usize| u8::try_from(at - label - 1).unwrap_or(u8::MAX);
        self.push(Instruction { code: test as u16, jt: skip(yes), jf: skip(no), k })
    }

    /// Loads the 32-bit word at byte `offset` of `struct seccomp_data`, then goes on.
    pub fn load(&mut self, offset: u32, next: Goto) -> Goto {
        self.fall_into(next);
        self.push(Instruction { code: LOAD, jt: 0, jf: 0, k: offset })
    }

    /// Masks the accumulator, then goes on.
    pub fn and(&mut self, mask: u32, next: Goto) -> Goto {
        self.fall_into(next);
        self.push(Instruction { code: AND, jt: 0, jf: 0, k: mask })
    }

    /// The finished program, which starts at `start`.
    pub fn finish(mut self, start: Goto) -> Vec<Instruction> {
        self.fall_into(start);
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, instruction: Instruction) -> Goto {
        self.reversed.push(instruction);
        Goto::Label(self.reversed.len() - 1)
    }

    /// Makes the next instruction written run into `next`.
    fn fall_into(&mut self, next: Goto) {
        match next {
            Goto::Label(label) if label + 1 == self.reversed.len() => {}
            Goto::Label(label) => self.push_jump(label),
            Goto::Return(verdict) => self.push_return(verdict),
        }
    }

    /// The position of an instruction that does what `goto` says, at most `reach` before the next one written.
    fn within(&mut self, goto: Goto, reach: usize) -> usize {
        let known = match goto {
            Goto::Label(label) => Some(label),
            Goto::Return(verdict) => {
                self.returns.iter().find(|(known, _)| *known == verdict).map(|(_, label)| *label)
            }
        };
        if let Some(label) = known.filter(|label| self.reversed.len() - label <= reach) {
            return label;
        }
        match goto {
            Goto::Label(label) => self.push_jump(label),
            Goto::Return(verdict) => self.push_return(verdict),
        }
        self.reversed.len() - 1
    }

    fn push_jump(&mut self, label: usize) {
        let skip = u32::try_from(self.reversed.len() - label - 1).unwrap_or(u32::MAX);
        self.push(Instruction { code: JUMP, jt: 0, jf: 0, k: skip });
    }

    fn push_return(&mut self, verdict: u32) {
        let label = self.reversed.len();
        match self.returns.iter_mut().find(|(known, _)| *known == verdict) {
            Some((_, nearest)) => *nearest = label,
            None => self.returns.push((verdict, label)),
        }
        self.push(Instruction { code: RETURN, jt: 0, jf: 0, k: verdict });
    }
}
