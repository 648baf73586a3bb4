//! From a profile to a BPF program: for each architecture a balanced tree over ranges of call numbers.
//!
//! The kernel walks the filter once for every number when it is loaded (to learn which calls are always allowed) and
//! then on each call it did not learn, so the length of the path counts, not that of the program. Of the rules
//! for one call an unconditional one wins over conditional ones, and the first that holds wins (libseccomp agrees but
//! where rules with different actions hold at once: there its tree has an order of its own).

use anyhow::{Result, ensure};
use oci_spec::runtime::{Arch, LinuxSeccompOperator as Operator};
use sys::seccomp::Instruction;

use super::abi::{Abi, Site, X32_BIT, family};
use super::assemble::{Assembler, Goto, Test};
use super::profile::{BAD_ARCHITECTURE, Condition, ENOSYS, Profile};
use super::program::LONGEST;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A set of conditions (empty: always) and what follows from it, for one call number.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    number: u32,
    verdict: u32,
    conditions: &'a [Condition],
    /// What the first argument of a multiplexed call must be.
    selector: Option<u32>,
}

impl Entry<'_> {
    fn is_unconditional(&self) -> bool {
        self.conditions.is_empty() && self.selector.is_none()
    }

    /// In a multiplexed call the first argument selects the sub-call, and the call's own arguments are in memory,
    /// where no filter can look: a condition on the first gives way to the selector (as in libseccomp).
    fn conditions(&self) -> Vec<Condition> {
        let operator = Operator::ScmpCmpEq;
        let selector = self.selector.map(|selector| Condition {
            argument: 0,
            operator,
            value: selector.into(),
            mask: u64::MAX,
        });
        let own = self.conditions.iter().copied();
        selector.into_iter().chain(own.filter(|one| selector.is_none() || one.argument != 0)).collect()
    }
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
    Conditions(&'a [Entry<'a>], bool),
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
    let is_named = |abi: &Abi| {
        named.contains(&abi.arch) || (abi.arch == native && named.contains(&Arch::ScmpArchNative))
    };
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
        let entries = part.entries();
        let x32_entries = x32.filter(|part| is_named(part.abi)).map(|part| (part, part.entries()));
        let mut spans = part.spans(&entries);
        match (&x32_entries, x32) {
            (Some((part, entries)), _) => {
                spans.truncate(spans.partition_point(|span| span.start < X32_BIT));
                spans.extend(part.spans(entries));
            }
            (None, Some(_)) => {
                push(&mut spans, X32_BIT, Target::Verdict(BAD_ARCHITECTURE));
                // A tracer sets the number to -1 to skip a call; that is no call of x32.
                push(&mut spans, u32::MAX, Target::Verdict(profile.default));
            }
            (None, None) => {}
        }
        let tree = Code { assembler: &mut assembler, default: profile.default }.tree(&spans);
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

impl<'a> Part<'a> {
    /// Every rule at every number, by number, in the profile's order.
    fn entries(&self) -> Vec<Entry<'a>> {
        let mut entries = Vec::with_capacity(512);
        for rule in self.profile.rules.iter().filter(|rule| rule.verdict != self.profile.default) {
            for site in rule.calls.iter().flat_map(|call| self.abi.sites(*call)) {
                let mut add = |conditions| {
                    let Site { number, selector } = site;
                    entries.push(Entry { number, verdict: rule.verdict, conditions, selector });
                };
                match rule.alternatives.as_slice() {
                    [] => add(&[]),
                    sets => sets.iter().for_each(|set| add(set)),
                }
            }
        }
        // Numbers to sort, rather than entries: the place in the profile makes each one different.
        let mut order: Vec<u64> =
            (0..).zip(&entries).map(|(at, entry)| u64::from(entry.number) << 32 | at).collect();
        order.sort_unstable();
        let at = |key: u64| usize::try_from(key & u64::from(u32::MAX)).unwrap_or(0);
        order.into_iter().map(|key| entries[at(key)]).collect()
    }

    /// The whole number space, in order, neighbours with the same verdict as one.
    fn spans<'e>(&self, entries: &'e [Entry<'e>]) -> Vec<Span<'e>> {
        let default = Target::Verdict(self.profile.default);
        let mut spans = Vec::with_capacity(entries.len() + 2);
        let private_from = self.abi.private_from().unwrap_or(u32::MAX);
        let base = if self.abi.is_x32() { X32_BIT } else { 0 };
        push(&mut spans, base, default);
        let (table, private) = entries.split_at(entries.partition_point(|entry| entry.number < private_from));
        self.add_calls(&mut spans, table);
        if let Some(newest) = self.newest(private_from).filter(|_| self.hides_newer) {
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

    fn add_calls<'e>(&self, spans: &mut Vec<Span<'e>>, entries: &'e [Entry<'e>]) {
        for call in entries.chunk_by(|one, other| one.number == other.number) {
            let always = call.iter().find(|entry| entry.is_unconditional());
            let conditions = Target::Conditions(call, self.abi.wide);
            push(spans, call[0].number, always.map_or(conditions, |entry| Target::Verdict(entry.verdict)));
            push(spans, call[0].number + 1, Target::Verdict(self.profile.default));
        }
    }

    /// The highest number below `limit` that the profile names, whatever it says about it.
    fn newest(&self, limit: u32) -> Option<u32> {
        let calls = self.profile.rules.iter().flat_map(|rule| rule.calls);
        let sites = calls.flat_map(|call| self.abi.sites(*call));
        sites.map(|site| site.number).filter(|number| *number < limit).max()
    }
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
    default: u32,
}

impl Code<'_> {
    /// A decision over consecutive spans, with the number in the accumulator.
    fn tree(&mut self, spans: &[Span<'_>]) -> Goto {
        match spans {
            [] => Goto::Return(self.default),
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
        let mut otherwise = Goto::Return(self.default);
        for entry in entries.iter().rev() {
            let mut matched = Goto::Return(entry.verdict);
            for condition in entry.conditions().into_iter().rev() {
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
