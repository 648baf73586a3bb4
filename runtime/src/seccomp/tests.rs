//! The compiler against libseccomp, verdict by verdict, and the exact program of a small profile.

use std::io::Write as _;
use std::process::{Command, Stdio};

use oci_spec::runtime::Arch;
use serde_json::{Value, json};
use sys::seccomp::Instruction;

use super::calls::Call;
use super::compile::compile as build;
use super::profile::Profile;
use super::verdict::verdict;
use crate::spec::seccomp::Seccomp;

const AUDIT_X86_64: u32 = 0xc000_003e;
const AUDIT_X86: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;
const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

fn parse(profile: Value) -> Seccomp {
    serde_json::from_value(profile).unwrap()
}

fn program_for(profile: &Value, native: Arch) -> Vec<Instruction> {
    let seccomp = parse(profile.clone());
    build(&Profile::read(&seccomp).unwrap(), native).unwrap()
}

fn program(profile: &Value) -> Vec<Instruction> {
    program_for(profile, Arch::ScmpArchX86_64)
}

fn run(program: &[Instruction], arch: u32, number: u32, args: [u64; 6]) -> u32 {
    verdict(program, (arch, number), Some(args)).expect("a program of ours")
}

#[test]
fn what_depends_on_arguments_is_not_known_without_them() {
    let program = program(&json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] },
        ],
    }));
    let of = |number| verdict(&program, (AUDIT_X86_64, number), None);
    assert_eq!([of(0), of(1), of(157)], [Some(ALLOW), Some(EPERM), None]);
    // Neither a program that leads nowhere, nor one with an operation that ours have not.
    for code in [0x05, 0x80] {
        assert_eq!(verdict(&[Instruction { code, jt: 0, jf: 0, k: 7 }], (AUDIT_X86_64, 0), None), None);
    }
}

mod random;

mod oracle {
    use super::*;

    /// Compiles the oracle; `None`, loudly, where libseccomp's headers or a C compiler are missing.
    pub(super) fn build_oracle() -> Option<(tempfile::TempDir, std::path::PathBuf)> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oracle");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/seccomp/oracle.c");
        let built = Command::new("cc").args(["-o"]).arg(&path).args([source, "-lseccomp"]).output();
        if built.is_ok_and(|output| output.status.success()) {
            return Some((dir, path));
        }
        eprintln!(
            "SKIP: the seccomp compiler is not compared with libseccomp: install gcc and libseccomp-dev"
        );
        None
    }

    /// `None` where libseccomp refuses.
    fn ask(oracle: &std::path::Path, script: &str) -> Option<Vec<u8>> {
        let mut child = Command::new(oracle)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("oracle");
        // It stops reading where it refuses.
        let _ = child.stdin.take().unwrap().write_all(script.as_bytes());
        let output = child.wait_with_output().unwrap();
        output.status.success().then_some(output.stdout)
    }

    /// libseccomp's program for the same profile, driven as runc drives it; `None` where it refuses.
    pub(super) fn theirs(oracle: &std::path::Path, seccomp: &Seccomp) -> Option<Vec<Instruction>> {
        let profile = Profile::read(seccomp).unwrap();
        let mut script = format!("default {}\n", profile.default);
        for arch in &seccomp.architectures {
            script += &format!("arch {}\n", *arch as u32);
        }
        for rule in profile.rules.iter().filter(|rule| rule.verdict != profile.default) {
            for name in rule.calls.iter().map(|call| call.name()) {
                let always = [Vec::new()];
                let sets =
                    if rule.alternatives.is_empty() { &always[..] } else { rule.alternatives.as_slice() };
                for set in sets {
                    script += &format!("rule {} {name}", rule.verdict);
                    for one in set {
                        let masked = one.operator == oci_spec::runtime::LinuxSeccompOperator::ScmpCmpMaskedEq;
                        let (a, b) = if masked { (one.mask, one.value) } else { (one.value, 0) };
                        script += &format!(" {} {} {a} {b}", one.argument, one.operator as u32);
                    }
                    script.push('\n');
                }
            }
        }
        let word = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
        let program = ask(oracle, &script)?
            .chunks_exact(8)
            .map(|bytes| Instruction {
                code: u16::from_ne_bytes([bytes[0], bytes[1]]),
                jt: bytes[2],
                jf: bytes[3],
                k: word(&bytes[4..]),
            })
            .collect();
        Some(program)
    }

    /// Arguments around every value a rule mentions.
    fn corners(seccomp: &Seccomp) -> Vec<[u64; 6]> {
        let mut values = vec![0, 1, 2, 5, 16, 40, u64::from(u32::MAX), 1 << 32, u64::MAX];
        for arg in seccomp.syscalls.iter().flat_map(|rule| &rule.args) {
            for value in [arg.value(), arg.value_two().unwrap_or(0)] {
                let far = [value ^ (1 << 32), value.rotate_left(32), value | 0xffff_0000_0000_0000];
                values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), !value]);
                values.extend(far);
            }
        }
        values.sort_unstable();
        values.dedup();
        let mut all: Vec<[u64; 6]> = values.iter().map(|value| [*value; 6]).collect();
        let several = seccomp.syscalls.iter().filter(|rule| !rule.args.is_empty()).count() > 1;
        let several = several || all.len() < 30;
        for one in values.iter().filter(|_| several) {
            for two in &values {
                all.push([*one, *two, *two, *one, *two, *one]);
            }
        }
        all
    }

    /// Every number of every architecture, with every corner where a call's arguments are looked at.
    fn compare(oracle: &std::path::Path, profile: &Value) -> usize {
        let seccomp = parse(profile.clone());
        let theirs = theirs(oracle, &seccomp).expect("libseccomp takes it");
        let mut profile = Profile::read(&seccomp).unwrap();
        // runc's addition to libseccomp, tested on its own below.
        profile.hides_newer = false;
        let ours = build(&profile, Arch::ScmpArchX86_64).unwrap();
        let corners = corners(&seccomp);
        let mut compared = 0;
        let ends = [0x3fff_ffff, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX];
        for arch in [AUDIT_X86_64, AUDIT_X86, 0xc000_00b7, 0x4000_0028] {
            for number in (0..1100).chain(X32..X32 + 1100).chain(ends) {
                if number == X32 + 453 {
                    continue; // map_shadow_stack is one of x32's calls by now; libseccomp 2.5 has it for 64 bits only
                }
                let looked_at = [102, 117, 30, 41, 49, 56, 120, 135, 136, 359, 361, 397, 16, 54, 514];
                let few = &corners[..if looked_at.contains(&(number % X32)) { corners.len() } else { 1 }];
                for args in few {
                    let (we, they) = (run(&ours, arch, number, *args), run(&theirs, arch, number, *args));
                    assert_eq!(
                        we, they,
                        "arch {arch:#x} number {number:#x} arguments {args:x?} (ours, theirs)"
                    );
                    compared += 1;
                }
            }
        }
        compared
    }

    /// The names that this libseccomp knows on some architecture.
    pub(super) fn known(oracle: &std::path::Path) -> Vec<String> {
        let script: String = Call::all().map(|call| format!("known {}\n", call.name())).collect();
        String::from_utf8(ask(oracle, &script).unwrap()).unwrap().lines().map(str::to_owned).collect()
    }

    const ALL: [&str; 3] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];

    #[test]
    fn same_verdicts_for_every_known_call() {
        let Some((_dir, oracle)) = build_oracle() else { return };
        let known = known(&oracle);
        assert!(known.len() > 400);
        // Every second name, and the others: so that each name is seen allowed, and between refused neighbours.
        for half in 0..2 {
            let names: Vec<_> = known.iter().skip(half).step_by(2).collect();
            for archs in [&ALL[..], &ALL[..1], &ALL[1..2], &ALL[..2], &ALL[2..], &[]] {
                let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": archs,
                    "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}]});
                compare(&oracle, &profile);
            }
        }
    }

    #[test]
    fn same_verdicts_for_every_condition() {
        let Some((_dir, oracle)) = build_oracle() else { return };
        let operators = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
        let values = [0_u64, 1, 0x7e02_0000, 0xffff_ffff, 0x1_0000_0000, 0x1234_5678_9abc_def0, u64::MAX];
        for operator in operators {
            for value in values {
                let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ALL, "syscalls": [
                    {"names": ["clone", "socket", "shmat"], "action": "SCMP_ACT_ALLOW", "args":
                        [{"index": 1, "value": value, "valueTwo": value & 0xf0f0_f0f0_f0f0,
                          "op": format!("SCMP_CMP_{operator}")}]}]});
                compare(&oracle, &profile);
            }
        }
    }

    #[test]
    fn same_verdicts_for_combined_rules() {
        let Some((_dir, oracle)) = build_oracle() else { return };
        let arg = |index: u32, value: u64, op: &str| json!({"index": index, "value": value, "op": op});
        let allow =
            |names: Value, args: Value| json!({"names": names, "action": "SCMP_ACT_ALLOW", "args": args});
        let (ne, eq, gt) = ("SCMP_CMP_NE", "SCMP_CMP_EQ", "SCMP_CMP_GT");
        let sets = [
            // Both must hold.
            json!([allow(json!(["socket"]), json!([arg(0, 16, eq), arg(2, 9, ne)]))]),
            // Two conditions on one argument: either.
            json!([allow(
                json!(["personality"]),
                json!([arg(0, 0, eq), arg(0, 8, eq), arg(0, 0x20000, eq)])
            )]),
            // Rules for one call in turn.
            json!([
                allow(json!(["personality"]), json!([arg(0, 0, eq)])),
                allow(json!(["personality", "ioctl"]), json!([arg(1, 5, gt), arg(2, 1 << 33, eq)]))
            ]),
            // An unconditional rule wins wherever it stands; the first of two.
            json!([allow(json!(["bind"]), json!([arg(0, 3, eq)])), allow(json!(["bind"]), json!([]))]),
            json!([allow(json!(["bind"]), json!([])), allow(json!(["bind"]), json!([arg(0, 3, eq)]))]),
            // Podman's socket rules: refuse audit, allow the rest.
            json!([
                {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22,
                 "args": [arg(0, 16, eq), arg(2, 9, eq)]},
                allow(json!(["socket"]), json!([arg(2, 9, ne)])),
                allow(json!(["socket"]), json!([arg(0, 16, ne)])),
            ]),
            // All the actions.
            json!([
                {"names": ["read"], "action": "SCMP_ACT_KILL"}, {"names": ["open"], "action": "SCMP_ACT_TRAP"},
                {"names": ["close"], "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["stat"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
                {"names": ["lstat"], "action": "SCMP_ACT_LOG"},
                {"names": ["poll"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
                {"names": ["lseek"], "action": "SCMP_ACT_ERRNO"},
            ]),
        ];
        for (index, rules) in sets.iter().enumerate() {
            for default in ["SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "SCMP_ACT_KILL_PROCESS"] {
                if default == "SCMP_ACT_ALLOW" && index < 6 {
                    continue; // every rule of these is the default then
                }
                for archs in [&ALL[..], &ALL[..1]] {
                    if index == 5 && archs.len() > 1 {
                        continue; // libseccomp 2.5.4 refuses these for i386's socketcall (EEXIST)
                    }
                    let profile =
                        json!({"defaultAction": default, "architectures": archs, "syscalls": rules});
                    assert!(compare(&oracle, &profile) > 1000);
                }
            }
        }
    }
}

#[test]
fn the_exact_program_of_a_small_profile() {
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [
        {"names": ["read", "write", "exit_group"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}]});
    let listing: Vec<String> = program(&profile)
        .iter()
        .map(|one| match one.code {
            0x20 => format!("load {}", one.k),
            0x06 => format!("return {:#x}", one.k),
            0x15 => format!("equal {} +{} +{}", one.k, one.jt, one.jf),
            0x35 => format!("at-least {} +{} +{}", one.k, one.jt, one.jf),
            code => format!("{code:#x} {}", one.k),
        })
        .collect();
    let golden = include_str!("golden.bpf");
    assert_eq!(listing.join("\n"), golden.trim_end(), "golden.bpf differs");
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let with = |default: &str, errno: Value| {
        json!({"defaultAction": default, "defaultErrnoRet": errno,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": [
            {"names": ["read", "statx", "arm_sync_file_range"], "action": "SCMP_ACT_ALLOW"}]})
    };
    let strict = program(&with("SCMP_ACT_ERRNO", Value::Null));
    assert_eq!(run(&strict, AUDIT_X86_64, 0, [0; 6]), ALLOW);
    assert_eq!(run(&strict, AUDIT_X86_64, 332, [0; 6]), ALLOW, "statx");
    assert_eq!(run(&strict, AUDIT_X86_64, 331, [0; 6]), EPERM);
    assert_eq!(run(&strict, AUDIT_X86_64, 333, [0; 6]), ENOSYS);
    assert_eq!(run(&strict, AUDIT_X86, 384, [0; 6]), ENOSYS);
    assert_eq!(run(&strict, AUDIT_X86_64, X32 + 1, [0; 6]), 0, "x32 is not named: killed");
    assert_eq!(run(&strict, AUDIT_X86_64, u32::MAX, [0; 6]), EPERM, "a tracer's skipped call");
    let mut unnamed = with("SCMP_ACT_ERRNO", Value::Null);
    for architectures in [json!([]), json!(["SCMP_ARCH_X86"])] {
        unnamed["architectures"] = architectures;
        assert_eq!(
            run(&program(&unnamed), AUDIT_X86_64, 333, [0; 6]),
            ENOSYS,
            "the native one need not be named"
        );
    }
    let permissive = program(&with("SCMP_ACT_LOG", Value::Null));
    assert_eq!(run(&permissive, AUDIT_X86_64, 333, [0; 6]), 0x7ffc_0000);
    let own = program(&with("SCMP_ACT_ERRNO", 38.into()));
    assert_eq!(run(&own, AUDIT_X86_64, 331, [0; 6]), ENOSYS);
}

#[test]
fn arm_keeps_its_private_calls_apart() {
    let profile = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM"], "syscalls": [
        {"names": ["read", "set_tls"], "action": "SCMP_ACT_ALLOW"}]});
    let program = program_for(&profile, Arch::ScmpArchAarch64);
    let arm = |number| run(&program, 0x4000_0028, number, [0; 6]);
    assert_eq!([arm(3), arm(4), arm(0xf0005), arm(0xf0004)], [ALLOW, ENOSYS, ALLOW, EPERM]);
    assert_eq!(run(&program, 0xc000_00b7, 63, [0; 6]), ALLOW, "the native architecture is always in");
}

#[test]
fn what_is_refused() {
    let refused = |profile: Value| format!("{:#}", Profile::read(&parse(profile)).unwrap_err());
    let one = |call: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [call]});
    let notify = |name: &str| one(json!({"names": [name], "action": "SCMP_ACT_NOTIFY"}));
    assert!(refused(notify("write")).contains("write"));
    assert!(refused(notify("mount")).contains("listenerPath"));
    assert!(refused(json!({"defaultAction": "SCMP_ACT_NOTIFY"})).contains("default"));
    let kill = json!({"names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1});
    assert!(refused(one(kill)).contains("errno"));
    let arg = json!({"names": ["read"], "action": "SCMP_ACT_ERRNO",
        "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]});
    assert!(refused(one(arg)).contains("index 6"));
}

#[test]
fn installs_without_forcing_no_new_privs() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIP: installing a filter without no_new_privs needs root");
        return;
    }
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]});
    let filter = super::compile(&parse(profile)).unwrap();
    // The filter holds for this thread alone.
    let seen = std::thread::spawn(move || {
        filter.install().map(|fd| assert!(fd.is_none())).unwrap();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        (status, std::fs::create_dir("/tmp").unwrap_err().raw_os_error())
    });
    let (status, errno) = seen.join().unwrap();
    assert!(status.contains("NoNewPrivs:\t0") && status.contains("Seccomp:\t2"), "{status}");
    assert_eq!(errno, Some(99));
}
