//! The grammar of one verb alone, for the verbs of everyday: that of all of them with their help takes two milliseconds
//! and five hundred pages to build, which is a third of an `exec`.
//!
//! What it does not take (a mistake, help, another verb) is left to the whole, which then says why.

use std::ffi::OsString;

use clap::{Args, Command};

use super::Verb;

/// `None` where the whole grammar has to say.
pub fn parse(arguments: &[OsString]) -> Option<Verb> {
    let words = arguments.get(1..)?;
    let verb = words.first()?.to_str()?;
    Some(match verb {
        "run" => Verb::Run(Box::new(read(verb, words)?)),
        "create" => Verb::Create(Box::new(read(verb, words)?)),
        "start" => Verb::Start(read(verb, words)?),
        "stop" => Verb::Stop(read(verb, words)?),
        "restart" => Verb::Restart(read(verb, words)?),
        "kill" => Verb::Kill(read(verb, words)?),
        "rm" => Verb::Rm(read(verb, words)?),
        "ps" => Verb::Ps(read(verb, words)?),
        "logs" => Verb::Logs(read(verb, words)?),
        "attach" => Verb::Attach(read(verb, words)?),
        "exec" => Verb::Exec(read(verb, words)?),
        "wait" => Verb::Wait(read(verb, words)?),
        "exists" => Verb::Exists(read(verb, words)?),
        "inspect" => Verb::Inspect(read(verb, words)?),
        "port" => Verb::Port(read(verb, words)?),
        "top" => Verb::Top(read(verb, words)?),
        "pause" => Verb::Pause(read(verb, words)?),
        "unpause" => Verb::Unpause(read(verb, words)?),
        "cp" => Verb::Cp(read(verb, words)?),
        "stats" => Verb::Stats(read(verb, words)?),
        _ => return None,
    })
}

/// Reads the flags behind `verb`, which stands where a program's name does.
fn read<T: Args>(verb: &str, words: &[OsString]) -> Option<T> {
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

    /// Every verb that is listed is one, with flags that fit together.
    #[test]
    fn the_definitions_are_consistent() {
        let whole = cli::command();
        for verb in whole.get_subcommands().map(|verb| verb.get_name().to_owned()) {
            let line = [OsString::from("shim"), verb.into(), "a".into(), "b".into()];
            let _ = parse(&line);
        }
    }
}
