//! From a profile to a BPF program: for each architecture a balanced tree over ranges of call numbers.
//!
//! The kernel walks the filter once for every number when it is loaded (to learn which calls are always allowed) and
//! then on each call it did not learn, so the length of the path counts, not that of the program. Of the rules
//! for one call an unconditional one wins over conditional ones, and the first that holds wins (libseccomp agrees but
//! where rules with different actions hold at once: there its tree has an order of its own).

use std::num::NonZero;

use anyhow::{Result, ensure};
use oci_spec::runtime::{Arch, LinuxSeccompOperator as Operator};
use sys::seccomp::Instruction;

use super::abi::{Abi, Site, X32_BIT, family};
use super::assemble::{Assembler, Goto, Test};
use super::profile::{BAD_ARCHITECTURE, Condition, ENOSYS, Profile, Rule};
use super::program::LONGEST;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What a rule says about one call number. Sorted by number, then as the profile has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    number: u32,
    /// Its place among the profile's rules.
    rule: u32,
    /// Which of the rule's alternatives.
    alternative: u32,
    /// What the first argument of a multiplexed call must be.
    selector: Option<NonZero<u32>>,
}

impl Entry {
    fn rule<'p>(self, profile: &'p Profile<'_>) -> &'p Rule<'p> {
        &profile.rules[self.rule as usize]
    }

    /// The conditions of the rule (none: always).
    fn stated<'p>(self, profile: &'p Profile<'_>) -> &'p [Condition] {
        self.rule(profile).alternatives.get(self.alternative as usize).map_or(&[], Vec::as_slice)
    }

    fn is_unconditional(self, profile: &Profile<'_>) -> bool {
        self.selector.is_none() && self.stated(profile).is_empty()
    }

    /// In a multiplexed call the first argument selects the sub-call, and the call's own arguments are in memory,
    /// where no filter can look: a condition on the first gives way to the selector (as in libseccomp).
    fn conditions(self, profile: &Profile<'_>) -> Vec<Condition> {
        let operator = Operator::ScmpCmpEq;
        let selector = self.selector.map(|selector| Condition {
            argument: 0,
            operator,
            value: selector.get().into(),
            mask: u64::MAX,
        });
        let own = self.stated(profile).iter().copied();
        selector.into_iter().chain(own.filter(|one| selector.is_none() || one.argument != 0)).collect()
    }
}

/// Numbers from an architecture's first that are looked up rather than sorted: all that there are so far but ARM's
/// private ones.
const TABLE: usize = 1024;

/// The rules by call number.
#[derive(Debug)]
struct Calls {
    /// The first rule that is about a number without conditions, counted from 1; 0 for none.
    always: [u16; TABLE],
    /// Behind the last of them.
    end: usize,
    /// All other entries, in order.
    rest: Vec<Entry>,
    /// The highest number that the profile names, whatever it says about it; private ones aside.
    newest: Option<u32>,
}

/// The numbers from `start` to the next span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span<'a> {
    start: u32,
    target: Target<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Target<'a> {
    Verdict(u32),
    /// Tried in order, on all 64 bits of the arguments if so; the default verdict where none holds.
    Conditions(&'a [Entry], bool),
}

/// Two sets of conditions are never the same: they are about different calls.
impl PartialEq for Target<'_> {
    fn eq(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Verdict(one), Self::Verdict(two)) if one == two)
    }
}
impl Eq for Target<'_> {}

/// Compiles a checked profile for a kernel of `native` architecture.
///
/// # Errors
/// The program is longer than the kernel takes.
pub(super) fn compile(profile: &Profile<'_>, native: Arch) -> Result<Vec<Instruction>> {
    let named = profile.architectures;
    // The native one need not be named: the list is of those besides it.
    let is_named = |abi: &Abi| named.contains(&abi.arch) || abi.arch == native;
    let mut assembler = Assembler::default();
    let mut start = Goto::Return(BAD_ARCHITECTURE);
    // Last written is first tested: the native architecture, which heads its family.
    for (index, abi) in family(native).iter().enumerate().rev() {
        if abi.is_x32() || !(is_named(abi) || index == 0) {
            continue; // x32 is part of x86_64's numbers
        }
        let part = Part { profile, abi, hides_newer: profile.hides_newer && is_named(abi) };
        let x32 = family(native).iter().find(|other| other.is_x32() && other.audit == abi.audit);
        let x32 = x32.map(|abi| Part { abi, hides_newer: profile.hides_newer, ..part });
        let calls = part.calls();
        let x32_calls = x32.filter(|part| is_named(part.abi)).map(|part| (part, part.calls()));
        let mut spans = part.spans(&calls);
        match (&x32_calls, x32) {
            (Some((part, calls)), _) => {
                spans.truncate(spans.partition_point(|span| span.start < X32_BIT));
                spans.extend(part.spans(calls));
            }
            (None, Some(_)) => {
                push(&mut spans, X32_BIT, Target::Verdict(BAD_ARCHITECTURE));
                // A tracer sets the number to -1 to skip a call; that is no call of x32.
                push(&mut spans, u32::MAX, Target::Verdict(profile.default));
            }
            (None, None) => {}
        }
        let tree = Code { assembler: &mut assembler, profile }.tree(&spans);
        let section = match tree {
            Goto::Return(_) => tree,
            Goto::Label(_) => assembler.load(NUMBER, tree),
        };
        start = assembler.branch(Test::Equal, abi.audit, (section, start));
    }
    if start != Goto::Return(BAD_ARCHITECTURE) {
        start = assembler.load(ARCHITECTURE, start);
    }
    let program = assembler.finish(start);
    ensure!(
        program.len() <= LONGEST,
        "the profile needs {} instructions, the kernel takes at most {LONGEST}",
        program.len()
    );
    Ok(program)
}

/// The rules as they apply to one way of making system calls.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    profile: &'a Profile<'a>,
    abi: &'a Abi,
    hides_newer: bool,
}

impl Part<'_> {
    /// What the rules say about each number.
    fn calls(&self) -> Calls {
        let mut calls = Calls { always: [0; TABLE], end: 0, rest: Vec::new(), newest: None };
        for (rule, place) in self.profile.rules.iter().zip(0..) {
            for call in rule.calls {
                self.abi.sites(*call, |site| self.add_site(&mut calls, site, (rule, place)));
            }
        }
        calls.rest.sort_unstable();
        calls
    }

    fn add_site(&self, calls: &mut Calls, Site { number, selector }: Site, (rule, place): (&Rule<'_>, u32)) {
        if self.abi.private_from().is_none_or(|first| number < first) {
            calls.newest = calls.newest.max(Some(number));
        }
        if rule.verdict == self.profile.default {
            return;
        }
        let index = (number - self.abi.offset) as usize;
        if index < TABLE
            && let (true, None, Ok(mark)) = (rule.alternatives.is_empty(), selector, u16::try_from(place + 1))
        {
            if calls.always[index] == 0 {
                calls.always[index] = mark;
            }
            calls.end = calls.end.max(index + 1);
            return;
        }
        let alternatives = 0..u32::try_from(rule.alternatives.len()).unwrap_or(u32::MAX).max(1);
        calls.rest.extend(alternatives.map(|alternative| Entry {
            number,
            rule: place,
            alternative,
            selector,
        }));
    }

    /// The whole number space, in order, neighbours with the same verdict as one.
    fn spans<'e>(&self, calls: &'e Calls) -> Vec<Span<'e>> {
        let default = Target::Verdict(self.profile.default);
        let mut spans = Vec::with_capacity(TABLE / 4);
        push(&mut spans, if self.abi.is_x32() { X32_BIT } else { 0 }, default);
        let mut rest = calls.rest.as_slice();
        let mut last = 0;
        for (&mark, number) in calls.always[..calls.end].iter().zip(self.abi.offset..) {
            if rest.first().is_some_and(|entry| entry.number == number) {
                let conditional = take_number(&mut rest, number);
                if mark == 0 {
                    self.add_call(&mut spans, conditional);
                    last = 0;
                    continue;
                }
            }
            // Most are as the one before.
            if mark != last {
                let rule = mark.checked_sub(1).map(|place| &self.profile.rules[usize::from(place)]);
                push(&mut spans, number, rule.map_or(default, |rule| Target::Verdict(rule.verdict)));
                last = mark;
            }
        }
        if last != 0 {
            push(&mut spans, self.abi.offset + u32::try_from(calls.end).unwrap_or(0), default);
        }
        let private_from = self.abi.private_from().unwrap_or(u32::MAX);
        let (table, private) = rest.split_at(rest.partition_point(|entry| entry.number < private_from));
        self.add_calls(&mut spans, table);
        if let Some(newest) = calls.newest.filter(|_| self.hides_newer) {
            push(&mut spans, newest + 1, Target::Verdict(ENOSYS));
        }
        if private_from != u32::MAX {
            push(&mut spans, private_from, default);
            self.add_calls(&mut spans, private);
        }
        if matches!(self.abi.arch, Arch::ScmpArchS390x | Arch::ScmpArchS390) && self.hides_newer {
            // There a call that the kernel does not know arrives as number 0, once setup(2).
            spans[0].target = Target::Verdict(ENOSYS);
            if spans.get(1).is_none_or(|span| span.start > 1) {
                spans.insert(1, Span { start: 1, target: default });
            }
        }
        spans
    }

    fn add_calls<'e>(&self, spans: &mut Vec<Span<'e>>, entries: &'e [Entry]) {
        for call in entries.chunk_by(|one, other| one.number == other.number) {
            self.add_call(spans, call);
        }
    }

    /// What `entries`, all of one number, say.
    fn add_call<'e>(&self, spans: &mut Vec<Span<'e>>, entries: &'e [Entry]) {
        let Some(first) = entries.first() else { return };
        let always = entries.iter().find(|entry| entry.is_unconditional(self.profile));
        let verdict = always.map(|entry| Target::Verdict(entry.rule(self.profile).verdict));
        push(spans, first.number, verdict.unwrap_or(Target::Conditions(entries, self.abi.wide)));
        push(spans, first.number + 1, Target::Verdict(self.profile.default));
    }
}

/// Cuts what is about `number` from the front of `entries`.
fn take_number<'e>(entries: &mut &'e [Entry], number: u32) -> &'e [Entry] {
    let count = entries.iter().take_while(|entry| entry.number == number).count();
    let (taken, rest) = entries.split_at(count);
    *entries = rest;
    taken
}

/// Appends a span; one that starts where the last does replaces it, one that goes on with the same is the same.
fn push<'e>(spans: &mut Vec<Span<'e>>, start: u32, target: Target<'e>) {
    spans.pop_if(|last| last.start == start);
    if spans.last().is_none_or(|last| last.target != target) {
        spans.push(Span { start, target });
    }
}

struct Code<'a> {
    assembler: &'a mut Assembler,
    profile: &'a Profile<'a>,
}

impl Code<'_> {
    /// A decision over consecutive spans, with the number in the accumulator.
    fn tree(&mut self, spans: &[Span<'_>]) -> Goto {
        match spans {
            [] => Goto::Return(self.profile.default),
            [span] => self.leaf(span.target),
            // One number that differs from both sides.
            [before, one, after]
                if before.target == after.target && one.start.wrapping_add(1) == after.start =>
            {
                let around = self.leaf(before.target);
                let this = self.leaf(one.target);
                self.assembler.branch(Test::Equal, one.start, (this, around))
            }
            _ => {
                let (low, high) = spans.split_at(spans.len() / 2);
                let pivot = high[0].start;
                let high = self.tree(high);
                let low = self.tree(low);
                self.assembler.branch(Test::GreaterOrEqual, pivot, (high, low))
            }
        }
    }

    fn leaf(&mut self, target: Target<'_>) -> Goto {
        let (entries, wide) = match target {
            Target::Verdict(verdict) => return Goto::Return(verdict),
            Target::Conditions(entries, wide) => (entries, wide),
        };
        let mut otherwise = Goto::Return(self.profile.default);
        for entry in entries.iter().rev() {
            let mut matched = Goto::Return(entry.rule(self.profile).verdict);
            for condition in entry.conditions(self.profile).into_iter().rev() {
                matched = self.compare(condition, wide, (matched, otherwise));
            }
            otherwise = matched;
        }
        otherwise
    }

    /// Tests one argument, the upper half first where it counts.
    fn compare(&mut self, condition: Condition, wide: bool, (yes, no): (Goto, Goto)) -> Goto {
        use Operator::{ScmpCmpEq, ScmpCmpGe, ScmpCmpGt, ScmpCmpLe, ScmpCmpLt, ScmpCmpMaskedEq, ScmpCmpNe};
        let [high, low] = halves(condition.value);
        let (test, yes, no) = match condition.operator {
            ScmpCmpEq | ScmpCmpMaskedEq => (Test::Equal, yes, no),
            ScmpCmpNe => (Test::Equal, no, yes),
            ScmpCmpGt => (Test::Greater, yes, no),
            ScmpCmpLe => (Test::Greater, no, yes),
            ScmpCmpGe => (Test::GreaterOrEqual, yes, no),
            ScmpCmpLt => (Test::GreaterOrEqual, no, yes),
        };
        let [high_mask, low_mask] = halves(condition.mask);
        let [high_at, low_at] = if cfg!(target_endian = "little") { [4, 0] } else { [0, 4] };
        let at = ARGUMENTS + 8 * condition.argument;
        let lower = self.assembler.branch(test, low, (yes, no));
        let lower = self.load_masked(at + low_at, low_mask, lower);
        if !wide {
            return lower;
        }
        let equal = self.assembler.branch(Test::Equal, high, (lower, no));
        let upper = match test {
            Test::Equal => equal,
            // Strictly greater decides at once, whatever the lower half.
            Test::Greater | Test::GreaterOrEqual => self.assembler.branch(Test::Greater, high, (yes, equal)),
        };
        self.load_masked(at + high_at, high_mask, upper)
    }

    fn load_masked(&mut self, offset: u32, mask: u32, next: Goto) -> Goto {
        let next = if mask == u32::MAX { next } else { self.assembler.and(mask, next) };
        self.assembler.load(offset, next)
    }
}

#[allow(clippy::cast_possible_truncation)]
fn halves(value: u64) -> [u32; 2] {
    [(value >> 32) as u32, value as u32]
}
