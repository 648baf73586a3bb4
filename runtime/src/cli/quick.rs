//! The command lines of everyday, read without clap: the whole grammar with its help takes a tenth of a millisecond and
//! twenty pages to build, which is more than most verbs need for their work.
//!
//! What is not plainly one of these lines (another verb or flag, help, letters in a row, a mistake) is left to clap, so
//! nothing here needs to know more than the usual, and a new flag works before it is listed here.

use std::ffi::OsString;

use super::{Cli, Container, Create, Delete, Exec, Global, Kill, LogFormat, Run, Verb};

/// `None` where clap has to say.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Option<Cli> {
    let words: Option<Vec<String>> = args.into_iter().skip(1).map(|word| word.into_string().ok()).collect();
    let mut words = Words(words?.into_iter());
    let mut global = Global::default();
    loop {
        match words.next()? {
            Word::Flag(flag) => set_global(&mut global, flag, &mut words)?,
            Word::Plain(verb) => return Some(Cli { global, version: None, verb: read_verb(&verb, words)? }),
        }
    }
}

fn set_global(global: &mut Global, flag: Flag, words: &mut Words) -> Option<()> {
    match flag.name.as_str() {
        "root" => global.root = Some(flag.value(words)?.into()),
        "log" => global.log = Some(flag.value(words)?.into()),
        "log-format" => {
            global.log_format = match flag.value(words)?.as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return None,
            }
        }
        "systemd-cgroup" => global.systemd_cgroup = flag.on()?,
        _ => return None,
    }
    Some(())
}

fn read_verb(verb: &str, words: Words) -> Option<Verb> {
    Some(match verb {
        "create" => Verb::Create(read_create(words, |_, _| None)?),
        "run" => {
            let mut run = Run::default();
            run.create = read_create(words, |flag, _| {
                match flag.name.as_str() {
                    "detach" | "d" => run.detach = flag.on()?,
                    "keep" => run.keep = flag.on()?,
                    _ => return None,
                }
                Some(())
            })?;
            Verb::Run(run)
        }
        "exec" => Verb::Exec(read_exec(words)?),
        "start" => Verb::Start(read_container(words)?),
        "state" => Verb::State(read_container(words)?),
        "pause" => Verb::Pause(read_container(words)?),
        "resume" => Verb::Resume(read_container(words)?),
        "kill" => {
            let mut kill = Kill { signal: "SIGTERM".into(), ..Kill::default() };
            let mut plain = words.split(|flag, _| {
                kill.all = matches!(flag.name.as_str(), "all" | "a").then_some(flag)?.on()?;
                Some(())
            })?;
            kill.id = plain.next()?;
            kill.signal = plain.next().unwrap_or(kill.signal);
            Verb::Kill(plain.next().is_none().then_some(kill)?)
        }
        "delete" => {
            let mut delete = Delete::default();
            let mut plain = words.split(|flag, _| {
                delete.force = matches!(flag.name.as_str(), "force" | "f").then_some(flag)?.on()?;
                Some(())
            })?;
            delete.id = plain.next()?;
            Verb::Delete(plain.next().is_none().then_some(delete)?)
        }
        _ => return None,
    })
}

fn read_container(words: Words) -> Option<Container> {
    let mut plain = words.split(|_, _| None)?;
    let id = plain.next()?;
    plain.next().is_none().then_some(Container { id })
}

/// `more` sets the flags that `create` has not.
fn read_create(words: Words, mut more: impl FnMut(Flag, &mut Words) -> Option<()>) -> Option<Create> {
    let mut create = Create { bundle: ".".into(), ..Create::default() };
    let mut plain = words.split(|flag, words| {
        match flag.name.as_str() {
            "bundle" | "b" => create.bundle = flag.value(words)?.into(),
            "config" | "f" => create.config = Some(flag.value(words)?.into()),
            "console-socket" => create.console_socket = Some(flag.value(words)?.into()),
            "pid-file" => create.pid_file = Some(flag.value(words)?.into()),
            "no-pivot" => create.no_pivot = flag.on()?,
            "no-subreaper" => create.no_subreaper = flag.on()?,
            "no-new-keyring" => create.no_new_keyring = flag.on()?,
            "preserve-fds" => create.preserve_fds = flag.value(words)?.parse().ok()?,
            _ => return more(flag, words),
        }
        Some(())
    })?;
    create.id = plain.next()?;
    plain.next().is_none().then_some(create)
}

/// All that follows the container's id is the command's, unless it looks like a flag of ours.
fn read_exec(mut words: Words) -> Option<Exec> {
    let mut exec = Exec::default();
    loop {
        match words.next()? {
            Word::Plain(id) => {
                exec.id = id;
                exec.command = words.0.collect();
                let ours = exec.command.first().is_some_and(|word| word.starts_with('-'));
                return (!ours).then_some(exec);
            }
            Word::Flag(flag) => match flag.name.as_str() {
                "console-socket" => exec.console_socket = Some(flag.value(&mut words)?.into()),
                "cwd" => exec.cwd = Some(flag.value(&mut words)?.into()),
                "env" | "e" => exec.env.push(flag.value(&mut words)?),
                "tty" | "t" => exec.tty = flag.on()?,
                "user" | "u" => exec.user = Some(flag.value(&mut words)?),
                "process" | "p" => exec.process = Some(flag.value(&mut words)?.into()),
                "detach" | "d" => exec.detach = flag.on()?,
                "pid-file" => exec.pid_file = Some(flag.value(&mut words)?.into()),
                _ => return None,
            },
        }
    }
}

/// What is left of the command line.
struct Words(std::vec::IntoIter<String>);

enum Word {
    Flag(Flag),
    Plain(String),
}

/// A flag without its dashes, and what stood behind `=`.
struct Flag {
    name: String,
    value: Option<String>,
}

impl Words {
    fn next(&mut self) -> Option<Word> {
        let word = self.0.next()?;
        let Some(rest) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            return Some(Word::Plain(word));
        };
        let Some(long) = rest.strip_prefix('-') else {
            let single = rest.chars().count() == 1;
            return single.then(|| Word::Flag(Flag { name: rest.to_owned(), value: None }));
        };
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (long, None),
        };
        (name.len() > 1).then(|| Word::Flag(Flag { name: name.to_owned(), value }))
    }

    /// All words to the end: flags to `set`, the others returned.
    fn split(
        mut self,
        mut set: impl FnMut(Flag, &mut Self) -> Option<()>,
    ) -> Option<std::vec::IntoIter<String>> {
        let mut plain = Vec::new();
        while !self.0.as_slice().is_empty() {
            match self.next()? {
                Word::Flag(flag) => set(flag, &mut self)?,
                Word::Plain(word) => plain.push(word),
            }
        }
        Some(plain.into_iter())
    }
}

impl Flag {
    /// Its value: behind `=`, or the next word, unless that looks like a flag.
    fn value(self, words: &mut Words) -> Option<String> {
        match self.value {
            Some(value) => Some(value),
            None => words.0.next().filter(|word| !word.starts_with('-') || word == "-"),
        }
    }

    /// `true` for a flag that takes no value and was given none.
    fn on(self) -> Option<bool> {
        self.value.is_none().then_some(true)
    }
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
            "runtime exec --user 1:2 --cwd=/tmp -p f --pid-file q -d c run -- -t",
            "runtime exec c run",
            "runtime run -d c",
            "runtime --root run run c",
            "runtime run --pid-file p --bundle b --detach c",
            "runtime create c --bundle - --preserve-fds 3 --console-socket s",
            "runtime --root create state c",
            "runtime kill -a c KILL",
            "runtime kill c",
            "runtime delete --force c",
        ] {
            let quick = parse(words(line)).expect(line);
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
            "runtime --root --log state c",
            "runtime exec -td c sh",
            "runtime exec c -- sh",
            "runtime exec c -t sh",
            "runtime exec --env",
            "runtime create --no-pivot=yes c",
            "runtime create -- c",
            "runtime create --preserve-fds x c",
            "runtime create --b x c",
            "runtime --unknown state c",
            "runtime update c",
        ] {
            assert!(parse(words(line)).is_none(), "{line}");
        }
    }
}
