//! Device rules on v2: an eBPF program on the cgroup, asked at every open and mknod.
//!
//! The rules are looked at from the last to the first. The bits of access not yet decided are kept: a rule that
//! allows takes its bits away, one that refuses any of them ends it. So a request is allowed exactly where the last
//! rule about each of its bits allows it.

use anyhow::{Context as _, Result};
use sys::bpf::{self, Instruction};

use super::device_rules::{ALL, Kind, Rule};
use super::file::Dir;

// Registers: what the verdict is in, the context, and what is read from it.
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;
const DEVICE: u8 = 7;

/// Of the kernel's `dev_t`.
const MAJOR_BITS: u32 = 12;
/// See [`MAJOR_BITS`].
const MINOR_BITS: u32 = 20;

// Operations (`linux/bpf.h`, `linux/bpf_common.h`).
const LOAD_WORD: u8 = 0x61;
const MOVE_32: u8 = 0xb4;
const COPY_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const SHIFT_LEFT_32: u8 = 0x64;
const OR_REGISTER_32: u8 = 0x4c;
const JUMP_NOT_EQUAL_32: u8 = 0x56;
const JUMP_EQUAL_32: u8 = 0x16;
const EXIT: u8 = 0x95;

/// Loads the rules' program and attaches it to a cgroup.
pub fn attach(dir: &Dir, rules: &[Rule]) -> Result<()> {
    let what = || format!("attach the device rules to {}", dir.path.display());
    let program = bpf::load_cgroup_device(&build(rules)?).with_context(what)?;
    bpf::attach_cgroup_device(dir, &program).with_context(what)
}

/// The verifier looks at every way through the program, so a device is compared as a whole, with one jump, and a block
/// device sees no rule about characters.
fn build(rules: &[Rule]) -> Result<Vec<Instruction>> {
    // struct bpf_cgroup_dev_ctx: access << 16 | kind, major, minor
    let mut code = vec![
        load(KIND, 0),
        copy(WANTED, KIND),
        immediate(AND_32, KIND, 0xffff),
        immediate(SHIFT_RIGHT_32, WANTED, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
        copy(DEVICE, MAJOR),
        immediate(SHIFT_LEFT_32, DEVICE, MINOR_BITS),
        Instruction::new(OR_REGISTER_32, DEVICE, MINOR, 0, 0),
    ];
    let [char, block] = [Kind::Char, Kind::Block].map(|kind| about(rules, kind));
    if char == block {
        code.extend(char);
        return Ok(code);
    }
    let skip = i16::try_from(char.len()).context("more device rules than a program can hold")?;
    code.push(jump(JUMP_NOT_EQUAL_32, KIND, Kind::Char as u32, skip));
    code.extend(char);
    code.extend(block);
    Ok(code)
}

/// The decision about a device of this kind.
fn about(rules: &[Rule], kind: Kind) -> Vec<Instruction> {
    let mut code = Vec::new();
    for rule in rules.iter().rev().filter(|rule| rule.kind.is_none_or(|only| only == kind)) {
        let test = match (rule.major, rule.minor) {
            (None, None) => None,
            (Some(major), None) => Some((MAJOR, major)),
            (None, Some(minor)) => Some((MINOR, minor)),
            // No device has such a number.
            (Some(major), Some(minor)) if major >> MAJOR_BITS != 0 || minor >> MINOR_BITS != 0 => continue,
            (Some(major), Some(minor)) => Some((DEVICE, major << MINOR_BITS | minor)),
        };
        let body = decide(rule);
        if let Some((register, value)) = test {
            // Four instructions at most.
            let skip = i16::try_from(body.len()).unwrap_or(i16::MAX);
            code.push(jump(JUMP_NOT_EQUAL_32, register, value, skip));
        }
        code.extend(body);
        if test.is_none() && rule.access == ALL {
            return code; // the verifier takes no instruction that cannot be reached
        }
    }
    code.extend(verdict(false));
    code
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

fn jump(operation: u8, register: u8, value: u32, skip: i16) -> Instruction {
    Instruction::new(operation, register, 0, skip, value.cast_signed())
}

#[cfg(test)]
mod tests {
    use super::super::device_rules::{MKNOD, READ, WRITE};
    use super::*;

    /// What the program says: a reading of the ten operations it is made of.
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
                SHIFT_LEFT_32 => {
                    registers[to] <<= value;
                    false
                }
                OR_REGISTER_32 => {
                    registers[to] |= registers[from];
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
        let code = build(&rules).unwrap();
        let may = |device, access| run(&code, Kind::Char, device, access);
        assert!(may((1, 3), ALL) && may((1, 4), READ) && may((9, 9), MKNOD));
        assert!(!may((1, 4), WRITE) && !may((1, 4), READ | WRITE) && !may((9, 9), READ));
        assert!(!run(&code, Kind::Block, (1, 3), MKNOD));
        let open =
            build(&[rule(true, None, (None, None), ALL), rule(false, char, (Some(5), None), ALL)]).unwrap();
        assert!(run(&open, Kind::Block, (5, 5), ALL) && !run(&open, Kind::Char, (5, 5), READ));
    }

    /// The specification's own words: of the rules about a device the last one about each kind of access decides.
    fn allowed(rules: &[Rule], kind: Kind, (major, minor): (u32, u32), access: u8) -> bool {
        [MKNOD, READ, WRITE].into_iter().filter(|bit| access & bit != 0).all(|bit| {
            let is_about = |rule: &&Rule| {
                rule.access & bit != 0
                    && rule.kind.is_none_or(|only| only == kind)
                    && rule.major.is_none_or(|only| only == major)
                    && rule.minor.is_none_or(|only| only == minor)
            };
            rules.iter().rev().find(is_about).is_some_and(|rule| rule.allow)
        })
    }

    #[test]
    fn any_rules_say_what_the_specification_says() {
        let mut random = 1_u64;
        let mut pick = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((random >> 33) % below).unwrap()
        };
        // The last ones are beyond what a device can have.
        let numbers = [None, Some(0), Some(1), Some(2), Some(1 << MAJOR_BITS), Some(1 << MINOR_BITS)];
        for _ in 0..2_000 {
            let rules: Vec<Rule> = (0..pick(6))
                .map(|_| {
                    let kind = [None, Some(Kind::Char), Some(Kind::Block)][pick(3) as usize];
                    let device = (numbers[pick(6) as usize], numbers[pick(6) as usize]);
                    rule(pick(2) == 0, kind, device, 1 + u8::try_from(pick(7)).unwrap())
                })
                .collect();
            let code = build(&rules).unwrap();
            for kind in [Kind::Char, Kind::Block] {
                for device in [(0, 0), (0, 1), (1, 0), (1, 2), (2, 2), (3, 1)] {
                    for access in 1..=ALL {
                        let right = allowed(&rules, kind, device, access);
                        assert_eq!(
                            run(&code, kind, device, access),
                            right,
                            "{rules:?} {kind:?} {device:?} {access}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_exact_program_of_two_rules() {
        let rules = [
            rule(false, None, (None, None), ALL),
            rule(true, Some(Kind::Char), (Some(10), Some(229)), READ | WRITE),
        ];
        let words: Vec<String> = build(&rules)
            .unwrap()
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
                "bc 47 0 0",
                "64 07 0 20",
                "4c 57 0 0",
                "56 02 7 2",
                "56 07 4 10485989",
                "54 03 0 1",
                "56 03 2 0",
                "b4 00 0 1",
                "95 00 0 0",
                "b4 00 0 0",
                "95 00 0 0",
                "b4 00 0 0",
                "95 00 0 0"
            ]
        );
    }
}
