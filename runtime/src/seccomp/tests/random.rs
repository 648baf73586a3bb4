//! Profiles by chance, verdict by verdict against libseccomp. `PROPTEST_CASES=20000` for a long look.
//!
//! libseccomp is asked for each rule alone: where two rules compare one argument with numbers of different upper halves, 2.5
//! merges their branches wrongly (of `arg < 0` and `arg < 2^32` together 0x7fffffff is neither).

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestError;

use super::oracle::{build_oracle, known, theirs};
use super::*;

/// Few, so that rules meet: the corners of 32 and 64 bits and their neighbours.
const VALUES: [u64; 12] = [
    0,
    1,
    2,
    0xff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x1_0000_0000,
    0x1_0000_0001,
    0x1234_5678_9abc_def0,
    u64::MAX,
];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
const ACTIONS: [&str; 7] = ["ALLOW", "ERRNO", "KILL", "KILL_PROCESS", "TRAP", "TRACE", "LOG"];

/// The arguments' corners in pairs, and a value that no rule names.
fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![4 => select(&VALUES[..]), 1 => any::<u64>()]
}

fn condition() -> impl Strategy<Value = Value> {
    (0_u32..6, select(&OPERATORS[..]), argument(), argument()).prop_map(
        |(index, operator, value, value_two)| {
            // A bit outside the mask can never be equal; libseccomp drops such bits instead.
            let value_two = value_two & value;
            json!({"index": index, "value": value, "valueTwo": value_two, "op": format!("SCMP_CMP_{operator}")})
        },
    )
}

/// Names as indexes into the known ones; conditions on different arguments.
fn rule() -> impl Strategy<Value = (Vec<Index>, &'static str, Vec<Value>)> {
    let conditions = prop::collection::vec(condition(), 0..4).prop_map(|mut all| {
        all.sort_by_key(|one| one["index"].as_u64());
        all.dedup_by_key(|one| one["index"].clone());
        all
    });
    (prop::collection::vec(any::<Index>(), 1..6), select(&ACTIONS[..]), conditions)
}

/// The numbers of a call on x86_64, x32 and i386, and those of the calls that multiplex it there.
fn numbers(name: &str) -> Vec<u32> {
    let row = include_str!("../syscalls.tsv")
        .lines()
        .find(|line| line.split('\t').next() == Some(name))
        .unwrap_or_default();
    let own = row.split('\t').skip(1).take(3).filter_map(|number| number.parse().ok());
    own.flat_map(|number: u32| [number, number | X32]).chain([102, 117]).collect()
}

fn same(oracle: &std::path::Path, profile: &Value, arguments: &[[u64; 6]]) -> Result<(), TestCaseError> {
    let rules = profile["syscalls"].as_array().unwrap();
    let alone = |rule: &Value| {
        let mut profile = profile.clone();
        profile["syscalls"] = json!([rule]);
        theirs(oracle, &parse(profile))
    };
    let theirs: Option<Vec<_>> = rules.iter().map(alone).collect();
    let Some(theirs) = theirs else {
        return Err(TestCaseError::reject("libseccomp refuses it"));
    };
    let seccomp = parse(profile.clone());
    let mut read = Profile::read(&seccomp).unwrap();
    // runc's addition to libseccomp.
    read.hides_newer = false;
    let ours = build(&read, Arch::ScmpArchX86_64).unwrap();
    let names = rules.iter().flat_map(|rule| rule["names"].as_array().into_iter().flatten());
    let mut looked_at: Vec<u32> = names.flat_map(|name| numbers(name.as_str().unwrap())).collect();
    looked_at.sort_unstable();
    looked_at.dedup();
    for arch in [AUDIT_X86_64, AUDIT_X86] {
        for number in (0..500).chain(X32..X32 + 560) {
            let looked_at = looked_at.binary_search(&number).is_ok();
            for args in &arguments[..if looked_at { arguments.len() } else { 1 }] {
                let we = run(&ours, arch, number, *args);
                // One call has one action here, so the rule that holds decides.
                let mut verdicts = theirs.iter().map(|one| run(one, arch, number, *args));
                let they = verdicts.find(|verdict| *verdict != read.default).unwrap_or(read.default);
                prop_assert!(
                    we == they,
                    "{profile}: arch {arch:#x} number {number:#x} arguments {args:x?}: {we:#x}, libseccomp {they:#x}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn same_verdicts_for_profiles_by_chance() {
    let Some((_dir, oracle)) = build_oracle() else { return };
    // A rule for a call that an architecture lacks makes libseccomp 2.5 forget to load the number there.
    let mut known = known(&oracle);
    known.retain(|name| numbers(name).len() == 3 * 2 + 2 && name != "map_shadow_stack");
    assert!(known.len() > 300);
    let archs = prop::sample::subsequence(vec!["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], 0..=3);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|count| count.parse().ok()).unwrap_or(50);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (
        select(&["ERRNO", "KILL", "KILL_PROCESS", "LOG", "ALLOW"][..]),
        archs,
        prop::collection::vec(rule(), 1..8),
        prop::collection::vec(prop::array::uniform6(argument()), 64),
    );
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&strategy, |(default, archs, rules, arguments)| {
        // Where rules with different actions hold at once, libseccomp decides by the shape of its tree.
        let mut taken = std::collections::BTreeMap::new();
        let mut syscalls = Vec::new();
        for (names, action, args) in rules {
            let names = names.iter().map(|index| index.get(&known).clone());
            let names: Vec<String> =
                names.filter(|name| *taken.entry(name.clone()).or_insert(action) == action).collect();
            if !names.is_empty() {
                syscalls.push(json!({"names": names, "action": format!("SCMP_ACT_{action}"), "args": args}));
            }
        }
        let default = format!("SCMP_ACT_{default}");
        same(
            &oracle,
            &json!({"defaultAction": default, "architectures": archs, "syscalls": syscalls}),
            &arguments,
        )
    });
    // The whole input is long; the reason holds the profile.
    if let Err(TestError::Fail(reason, _)) = outcome {
        panic!("{reason}");
    }
    outcome.unwrap();
}
