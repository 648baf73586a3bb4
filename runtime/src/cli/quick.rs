//! Parsing with the one verb that is asked for: the whole command line with its help takes a quarter of a millisecond
//! to build, which is more than most verbs need for their work.

use std::ffi::OsString;

use clap::{ArgMatches, Args, Command, Error, FromArgMatches as _};

use super::{Cli, Container, Create, Delete, Exec, Global, Kill, Run, Verb};

type Declare = fn(Command) -> Command;
type Read = fn(&ArgMatches) -> Result<Verb, Error>;

/// The verbs of everyday, each with how its flags are declared and read.
const VERBS: [(&str, Declare, Read); 9] = [
    ("create", Create::augment_args, |found| Create::from_arg_matches(found).map(Verb::Create)),
    ("start", Container::augment_args, |found| Container::from_arg_matches(found).map(Verb::Start)),
    ("run", Run::augment_args, |found| Run::from_arg_matches(found).map(Verb::Run)),
    ("exec", Exec::augment_args, |found| Exec::from_arg_matches(found).map(Verb::Exec)),
    ("state", Container::augment_args, |found| Container::from_arg_matches(found).map(Verb::State)),
    ("kill", Kill::augment_args, |found| Kill::from_arg_matches(found).map(Verb::Kill)),
    ("delete", Delete::augment_args, |found| Delete::from_arg_matches(found).map(Verb::Delete)),
    ("pause", Container::augment_args, |found| Container::from_arg_matches(found).map(Verb::Pause)),
    ("resume", Container::augment_args, |found| Container::from_arg_matches(found).map(Verb::Resume)),
];

/// `None` where the whole command line has to say: another verb, help, a mistake.
pub fn parse(args: impl Iterator<Item = OsString>) -> Option<Cli> {
    let args: Vec<OsString> = args.collect();
    // A guess: it may be the value of a flag. Then the real verb is unknown below, and the whole has to say.
    let (name, augment, read) =
        args.iter().skip(1).find_map(|arg| VERBS.iter().find(|(name, ..)| arg == name))?;
    let verb = augment(Command::new(*name)).disable_help_flag(true);
    let command = Global::augment_args(Command::new("runtime"))
        .args_override_self(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .subcommand(verb);
    let found = command.try_get_matches_from(&args).ok()?;
    let (_, flags) = found.subcommand()?;
    Some(Cli { global: Global::from_arg_matches(&found).ok()?, verb: read(flags).ok()? })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn says_the_same_as_the_whole() {
        for line in [
            "runtime state c",
            "runtime --root /r --log l --log-format json state c",
            "runtime --log a --log b --systemd-cgroup create --bundle b --pid-file p c",
            "runtime create --bundle=b -b c --no-pivot c",
            "runtime exec -t -e A=b --env C=d c sh -c --flag",
            "runtime exec --user 1:2 c -- run",
            "runtime exec c run",
            "runtime run -d c",
            "runtime --root run run c",
            "runtime kill -a c KILL",
            "runtime delete --force c",
        ] {
            let quick = parse(words(line).into_iter()).expect(line);
            let whole = Cli::parse_from(words(line));
            assert_eq!(format!("{quick:?}"), format!("{whole:?}"), "{line}");
        }
    }

    #[test]
    fn leaves_the_rest_to_the_whole() {
        for line in [
            "runtime",
            "runtime --version",
            "runtime --help",
            "runtime state",
            "runtime state --help",
            "runtime state -h",
            "runtime state c d",
            "runtime --root state list",
            "runtime --root create state c",
            "runtime --unknown state c",
            "runtime update c",
        ] {
            assert!(parse(words(line).into_iter()).is_none(), "{line}");
        }
    }
}
