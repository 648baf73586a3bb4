//! The `linux.seccomp` section checked and reduced to what the compiler needs.

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{
    Arch, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator,
};

use super::calls::Call;
use crate::spec::seccomp::{self, Seccomp};

/// The verdict `errno` with `ENOSYS`.
pub(super) const ENOSYS: u32 = RET_ERRNO | libc::ENOSYS.cast_unsigned();
/// The verdict for calls of an architecture that the profile does not name: kill the thread.
pub(super) const BAD_ARCHITECTURE: u32 = 0;

const RET_KILL_THREAD: u32 = 0;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_NOTIFY: u32 = 0x7fc0_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// The action without its data, as the kernel is asked about it.
pub(super) fn plain_verdict(action: Action) -> u32 {
    match action {
        Action::ScmpActKill | Action::ScmpActKillThread => RET_KILL_THREAD,
        Action::ScmpActKillProcess => RET_KILL_PROCESS,
        Action::ScmpActTrap => RET_TRAP,
        Action::ScmpActErrno => RET_ERRNO,
        Action::ScmpActNotify => RET_NOTIFY,
        Action::ScmpActTrace => RET_TRACE,
        Action::ScmpActLog => RET_LOG,
        Action::ScmpActAllow => RET_ALLOW,
    }
}

/// A whole profile.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    /// The verdict for calls that no rule matches.
    pub default: u32,
    /// Whether calls newer than the profile answer `ENOSYS`, so that programs fall back to an older call.
    pub hides_newer: bool,
    /// Whether some rule asks the listener.
    pub notifies: bool,
    /// The architectures it names.
    pub architectures: &'a [Arch],
    /// The rules in the profile's order.
    pub rules: Vec<Rule<'a>>,
}

/// One `syscalls[]` entry.
#[derive(Debug)]
pub(super) struct Rule<'a> {
    /// The calls it is about.
    pub calls: &'a [Call],
    /// What happens on a match.
    pub verdict: u32,
    /// Sets of conditions: one whole set must hold. No set at all means always.
    pub alternatives: Vec<Vec<Condition>>,
}

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which of the six arguments.
    pub argument: u32,
    /// The comparison.
    pub operator: Operator,
    /// What the argument is compared with; for `MaskedEq` after masking.
    pub value: u64,
    /// The bits of the argument that `MaskedEq` looks at.
    pub mask: u64,
}

impl<'a> Profile<'a> {
    /// Checks a profile.
    ///
    /// # Errors
    /// An argument index beyond 5, an errno for an action that takes none or beyond 16 bits, an empty name, and
    /// notifications where they could stall the start of the container.
    pub fn read(seccomp: &'a Seccomp) -> Result<Self> {
        let default = verdict("defaultErrnoRet", seccomp.default_action, seccomp.default_errno_ret)?;
        // The agent gets its descriptor from processes that are filtered already: these calls must work.
        ensure!(
            seccomp.default_action != Action::ScmpActNotify,
            "SCMP_ACT_NOTIFY cannot be used as default action"
        );
        let mut rules = Vec::new();
        let mut notifies = false;
        for call in &seccomp.syscalls {
            let rule = Rule::read(call)?;
            notifies |= call.action == Action::ScmpActNotify;
            rules.push(rule);
        }
        if notifies {
            ensure!(!seccomp.listener_path.as_os_str().is_empty(), "SCMP_ACT_NOTIFY needs a listenerPath");
        }
        let permissive = matches!(
            seccomp.default_action,
            Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace
        );
        let hides_newer = !permissive && default != ENOSYS;
        Ok(Self { default, hides_newer, notifies, architectures: &seccomp.architectures, rules })
    }
}

impl<'a> Rule<'a> {
    fn read(rule: &'a seccomp::Rule) -> Result<Self> {
        let (calls, first) = (&rule.names.calls, &rule.names.first);
        ensure!(!rule.names.has_empty, "a rule names an empty system call");
        ensure!(!first.is_empty(), "a rule names no system call");
        if rule.action == Action::ScmpActNotify && calls.iter().any(|call| call.name() == "write") {
            bail!("SCMP_ACT_NOTIFY cannot be used for the write syscall");
        }
        let verdict = verdict(first, rule.action, rule.errno_ret)?;
        let conditions = rule.args.iter().map(|arg| condition(first, arg));
        let conditions = conditions.collect::<Result<Vec<_>>>()?;
        Ok(Self { calls, verdict, alternatives: alternatives(conditions) })
    }
}

/// Conditions hold together, unless two of them test the same argument: then each stands for itself (as in runc).
fn alternatives(conditions: Vec<Condition>) -> Vec<Vec<Condition>> {
    let repeated = conditions
        .iter()
        .enumerate()
        .any(|(index, one)| conditions[..index].iter().any(|other| other.argument == one.argument));
    match conditions.len() {
        0 => Vec::new(),
        _ if repeated => conditions.into_iter().map(|condition| vec![condition]).collect(),
        _ => vec![conditions],
    }
}

fn condition(name: &str, arg: &LinuxSeccompArg) -> Result<Condition> {
    let argument = u32::try_from(arg.index()).ok().filter(|index| *index < 6);
    let Some(argument) = argument else {
        bail!("{name}: argument index {} is not in 0 to 5", arg.index());
    };
    let operator = arg.op();
    Ok(if operator == Operator::ScmpCmpMaskedEq {
        Condition { argument, operator, value: arg.value_two().unwrap_or(0), mask: arg.value() }
    } else {
        Condition { argument, operator, value: arg.value(), mask: u64::MAX }
    })
}

fn verdict(what: &str, action: Action, errno: Option<u32>) -> Result<u32> {
    let plain = plain_verdict(action);
    match (action, errno) {
        (Action::ScmpActErrno | Action::ScmpActTrace, errno) => {
            let errno = errno.unwrap_or(libc::EPERM.cast_unsigned());
            ensure!(errno <= 0xffff, "{what}: errno {errno} does not fit the 16 bits of a verdict");
            Ok(plain | errno)
        }
        (_, None) => Ok(plain),
        // The specification: an action that cannot carry an errno must be refused with one.
        (_, Some(errno)) => bail!("{what}: action {action} does not take an errno ({errno})"),
    }
}
