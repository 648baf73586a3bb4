//! The grammar of one verb alone, for the verbs of everyday: that of all of them with their help takes two milliseconds
//! and five hundred pages to build, which is a third of an `exec`.
//!
//! What it does not take (a mistake, help, another verb) is left to the whole, which then says why.

use std::ffi::OsString;

use clap::{Args, Command};

use super::Verb;

/// What reads the words from the verb on.
type Reader = fn(&[OsString]) -> Option<Verb>;

const VERBS: &[(&str, Reader)] = &[
    ("run", |words| Some(Verb::Run(Box::new(read(words)?)))),
    ("create", |words| Some(Verb::Create(Box::new(read(words)?)))),
    ("start", |words| Some(Verb::Start(read(words)?))),
    ("stop", |words| Some(Verb::Stop(read(words)?))),
    ("restart", |words| Some(Verb::Restart(read(words)?))),
    ("kill", |words| Some(Verb::Kill(read(words)?))),
    ("rm", |words| Some(Verb::Rm(read(words)?))),
    ("ps", |words| Some(Verb::Ps(read(words)?))),
    ("logs", |words| Some(Verb::Logs(read(words)?))),
    ("attach", |words| Some(Verb::Attach(read(words)?))),
    ("exec", |words| Some(Verb::Exec(read(words)?))),
    ("wait", |words| Some(Verb::Wait(read(words)?))),
    ("exists", |words| Some(Verb::Exists(read(words)?))),
    ("inspect", |words| Some(Verb::Inspect(read(words)?))),
    ("port", |words| Some(Verb::Port(read(words)?))),
    ("top", |words| Some(Verb::Top(read(words)?))),
    ("pause", |words| Some(Verb::Pause(read(words)?))),
    ("unpause", |words| Some(Verb::Unpause(read(words)?))),
    ("cp", |words| Some(Verb::Cp(read(words)?))),
    ("stats", |words| Some(Verb::Stats(read(words)?))),
];

/// `None` where the whole grammar has to say.
pub fn parse(arguments: &[OsString]) -> Option<Verb> {
    let words = arguments.get(1..)?;
    let verb = words.first()?;
    let (_, read) = VERBS.iter().find(|(name, _)| verb == name)?;
    read(words)
}

/// Reads the flags behind the verb, which stands where a program's name does.
fn read<T: Args>(words: &[OsString]) -> Option<T> {
    let verb = words.first()?.to_str()?;
    let bare =
        Command::new("shim").disable_help_flag(true).disable_version_flag(true).args_override_self(true);
    let command = super::as_docker_has_it(verb, T::augment_args(bare));
    let matches = command.try_get_matches_from(words).ok()?;
    T::from_arg_matches(&matches).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    /// The same, or nothing, as the whole grammar.
    #[test]
    fn it_reads_what_the_whole_reads() {
        let lines = [
            "run -it --rm=false --init=true -h web img sh -c --rm",
            "run --rm --network none -v /a:/b:ro -e A=1 -e B img",
            "run -d --name a --restart on-failure:3 --health-cmd true -p 80:80 img sh --help",
            "run --help",
            "run",
            "run --no-such img",
            "run -h",
            "run --sig-proxy=false -m 64m --cpus 1.5 img",
            "create --name a --tmpfs /t:size=1m --ulimit nofile=1:2 img true",
            "start -ai a",
            "start -a=false --checkpoint c a b",
            "start -l",
            "start --latest",
            "stop -t 3 a b",
            "stop --all",
            "stop",
            "restart --time 1 a",
            "kill -s HUP a",
            "rm -fv a",
            "rm a -f b",
            "run -d -it -dti --name a --name=b -e A=1 -e B=2 img",
            "rm -l a",
            "rm --latest",
            "rm --all=true --force",
            "ps -aq --no-trunc --filter status=running --format {{.ID}}",
            "ps -n 3 --last=2",
            "logs -f --tail 3 --since 1m a",
            "logs -ft=false a",
            "attach --no-stdin a",
            "exec -it -e A=b -u 1:2 -w / a sh -c --env",
            "exec a",
            "exec --help a",
            "exec a true --help",
            "exec -- a true",
            "wait --condition healthy a b",
            "exists a",
            "exists",
            "inspect -f {{.Id}} -s a",
            "inspect --type image a",
            "port a 80/tcp",
            "top a -o pid,user",
            "pause a b",
            "unpause --all",
            "cp -aL a:/x -",
            "stats --no-stream a",
            "--help",
            "-v",
            "volume ls",
            "",
        ];
        let mut read = 0;
        for line in lines {
            let words: Vec<OsString> =
                ["shim"].into_iter().chain(line.split_whitespace()).map(Into::into).collect();
            let Some(verb) = parse(&words) else { continue };
            let whole =
                cli::command().try_get_matches_from(&words).unwrap_or_else(|err| panic!("{line}: {err}"));
            let whole = <cli::Cli as clap::FromArgMatches>::from_arg_matches(&whole).unwrap();
            assert_eq!(format!("{verb:?}"), format!("{:?}", whole.verb), "{line}");
            read += 1;
        }
        assert!(read > 25, "only {read} were read");
    }

    /// A misspelt one would never be asked for, and its verb be slow again.
    #[test]
    fn every_verb_that_is_listed_is_one() {
        let whole = cli::command();
        for (verb, _) in VERBS {
            assert!(whole.get_subcommands().any(|known| known.get_name() == *verb), "no verb: {verb}");
        }
    }

    /// The flags of each verb fit together.
    #[test]
    fn the_definitions_are_consistent() {
        let whole = cli::command();
        for verb in whole.get_subcommands().map(|verb| verb.get_name().to_owned()) {
            let line = [OsString::from("shim"), verb.into(), "a".into(), "b".into()];
            let _ = parse(&line);
        }
    }
}
