//! Device rules on v2: an eBPF program on the cgroup, asked at every open and mknod.
//!
//! The rules are looked at from the last to the first. The bits of access not yet decided are kept: a rule that
//! allows takes its bits away, one that refuses any of them ends it. So a request is allowed exactly where the last
//! rule about each of its bits allows it.

use anyhow::{Context as _, Result};
use sys::bpf::{self, Instruction};

use super::device_rules::{ALL, Rule};
use super::file::Dir;

// Registers: what the verdict is in, the context, and what is read from it.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

// Operations (`linux/bpf.h`, `linux/bpf_common.h`).
const LOAD_WORD: u8 = 0x61;
const MOVE_32: u8 = 0xb4;
const COPY_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const JUMP_NOT_EQUAL_32: u8 = 0x56;
const JUMP_EQUAL_32: u8 = 0x16;
const EXIT: u8 = 0x95;

/// Loads the rules' program and attaches it to a cgroup.
pub fn attach(dir: &Dir, rules: &[Rule]) -> Result<()> {
    let what = || format!("attach the device rules to {}", dir.path.display());
    let program = bpf::load_cgroup_device(&build(rules)).with_context(what)?;
    bpf::attach_cgroup_device(dir, &program).with_context(what)
}

fn build(rules: &[Rule]) -> Vec<Instruction> {
    // struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor
    let mut code = vec![
        load(KIND, 0),
        copy(WANTED, KIND),
        immediate(AND_32, KIND, 0xffff),
        immediate(SHIFT_RIGHT_32, WANTED, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    for rule in rules.iter().rev() {
        add_rule(&mut code, rule);
        if rule.is_total() {
            return code; // the verifier takes no instruction that cannot be reached
        }
    }
    code.extend(verdict(false));
    code
}

fn add_rule(code: &mut Vec<Instruction>, rule: &Rule) {
    let body = decide(rule);
    let tests = [(KIND, rule.kind.map(|kind| kind as u32)), (MAJOR, rule.major), (MINOR, rule.minor)];
    let tests: Vec<_> = tests.into_iter().filter_map(|(register, value)| Some((register, value?))).collect();
    for (index, (register, value)) in tests.iter().enumerate() {
        // Over the tests that follow and the body.
        let skip = tests.len() - index - 1 + body.len();
        code.push(jump(JUMP_NOT_EQUAL_32, *register, *value, skip));
    }
    code.extend(body);
}

/// What happens where a rule is about the device.
fn decide(rule: &Rule) -> Vec<Instruction> {
    let access = u32::from(rule.access);
    if rule.access == ALL {
        return verdict(rule.allow).to_vec();
    }
    let mut code = if rule.allow {
        vec![immediate(AND_32, WANTED, !access & 7), jump(JUMP_NOT_EQUAL_32, WANTED, 0, 2)]
    } else {
        vec![copy(SCRATCH, WANTED), immediate(AND_32, SCRATCH, access), jump(JUMP_EQUAL_32, SCRATCH, 0, 2)]
    };
    code.extend(verdict(rule.allow));
    code
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [immediate(MOVE_32, VERDICT, u32::from(allow)), Instruction::new(EXIT, 0, 0, 0, 0)]
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction::new(LOAD_WORD, register, CONTEXT, offset, 0)
}

fn copy(to: u8, from: u8) -> Instruction {
    Instruction::new(COPY_32, to, from, 0, 0)
}

fn immediate(operation: u8, register: u8, value: u32) -> Instruction {
    Instruction::new(operation, register, 0, 0, value.cast_signed())
}

fn jump(operation: u8, register: u8, value: u32, skip: usize) -> Instruction {
    // A rule is nine instructions at most.
    let skip = i16::try_from(skip).unwrap_or(i16::MAX);
    Instruction::new(operation, register, 0, skip, value.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::super::device_rules::{Kind, MKNOD, READ, WRITE};
    use super::*;

    /// What the program says: a reading of the eight operations it is made of.
    fn run(code: &[Instruction], kind: Kind, (major, minor): (u32, u32), access: u8) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut registers = [0_u32; 10];
        let mut at = 0;
        loop {
            let one = code[at];
            at += 1;
            let (to, value) = (usize::from(one.registers & 15), one.immediate.cast_unsigned());
            let from = usize::from(one.registers >> 4);
            let jump = match one.code {
                LOAD_WORD => {
                    registers[to] = context[usize::try_from(one.offset).unwrap() / 4];
                    false
                }
                MOVE_32 => {
                    registers[to] = value;
                    false
                }
                COPY_32 => {
                    registers[to] = registers[from];
                    false
                }
                AND_32 => {
                    registers[to] &= value;
                    false
                }
                SHIFT_RIGHT_32 => {
                    registers[to] >>= value;
                    false
                }
                JUMP_NOT_EQUAL_32 => registers[to] != value,
                JUMP_EQUAL_32 => registers[to] == value,
                EXIT => return registers[0] == 1,
                code => panic!("operation {code:#x}"),
            };
            if jump {
                at += usize::try_from(one.offset).unwrap();
            }
        }
    }

    fn rule(allow: bool, kind: Option<Kind>, device: (Option<u32>, Option<u32>), access: u8) -> Rule {
        Rule { allow, kind, major: device.0, minor: device.1, access }
    }

    #[test]
    fn the_last_rule_about_each_bit_decides() {
        let char = Some(Kind::Char);
        let rules = [
            rule(false, None, (None, None), ALL),
            rule(true, char, (None, None), MKNOD),
            rule(true, char, (Some(1), None), READ | WRITE),
            rule(false, char, (Some(1), Some(4)), WRITE),
        ];
        let code = build(&rules);
        let may = |device, access| run(&code, Kind::Char, device, access);
        assert!(may((1, 3), ALL) && may((1, 4), READ) && may((9, 9), MKNOD));
        assert!(!may((1, 4), WRITE) && !may((1, 4), READ | WRITE) && !may((9, 9), READ));
        assert!(!run(&code, Kind::Block, (1, 3), MKNOD));
        let open = build(&[rule(true, None, (None, None), ALL), rule(false, char, (Some(5), None), ALL)]);
        assert!(run(&open, Kind::Block, (5, 5), ALL) && !run(&open, Kind::Char, (5, 5), READ));
    }

    #[test]
    fn the_exact_program_of_two_rules() {
        let rules = [
            rule(false, None, (None, None), ALL),
            rule(true, Some(Kind::Char), (Some(10), Some(229)), READ | WRITE),
        ];
        let words: Vec<String> = build(&rules)
            .iter()
            .map(|one| format!("{:02x} {:02x} {} {}", one.code, one.registers, one.offset, one.immediate))
            .collect();
        assert_eq!(
            words,
            [
                "61 12 0 0",
                "bc 23 0 0",
                "54 02 0 65535",
                "74 03 0 16",
                "61 14 4 0",
                "61 15 8 0",
                "56 02 6 2",
                "56 04 5 10",
                "56 05 4 229",
                "54 03 0 1",
                "56 03 2 0",
                "b4 00 0 1",
                "95 00 0 0",
                "b4 00 0 0",
                "95 00 0 0"
            ]
        );
    }
}
