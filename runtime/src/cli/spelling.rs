//! Flags as runc's callers may also spell them, for it reads them as Go does: `-root DIR` for `--root DIR`, and
//! `--debug=true` or `--debug=false` for a flag without a value.

use std::ffi::{OsStr, OsString};

use clap::{Arg, ArgAction, Command};

/// The command line in the spelling that clap knows.
pub fn normal(root: Command, args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = args.into_iter();
    let mut out: Vec<OsString> = args.next().into_iter().collect();
    let mut command = &root;
    let mut positionals = 0;
    while let Some(word) = args.next() {
        let Some(Flag { dashes, name, value }) = Flag::read(&word) else {
            match command.find_subcommand(&word) {
                Some(verb) => command = verb,
                None => positionals += 1,
            }
            out.push(word);
            // The rest is another program's.
            if positionals > 0 && command.is_trailing_var_arg_set() {
                break;
            }
            continue;
        };
        if name.is_empty() {
            // What follows `--` is no flag.
            out.push(word);
            break;
        }
        let Some(arg) = find(command, &name) else {
            out.push(word);
            continue;
        };
        let long = arg.get_long().is_some_and(|long| long == name);
        if matches!(arg.get_action(), ArgAction::SetTrue) {
            match value.as_deref().map(truth) {
                None if long => out.push(format!("--{name}").into()),
                Some(Some(true)) => out.push(format!("{}{name}", if long { "--" } else { "-" }).into()),
                Some(Some(false)) => {}
                _ => out.push(word),
            }
            continue;
        }
        let takes_next = value.is_none() && !(dashes == 1 && !long && name.len() > 1);
        match value {
            Some(value) if long => out.push(format!("--{name}={value}").into()),
            None if long => out.push(format!("--{name}").into()),
            _ => out.push(word),
        }
        // Its value, whatever that looks like.
        if takes_next && matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) {
            out.extend(args.next());
        }
    }
    out.extend(args);
    out
}

/// A word that begins with dashes.
struct Flag {
    dashes: usize,
    name: String,
    value: Option<String>,
}

impl Flag {
    fn read(word: &OsStr) -> Option<Self> {
        let text = word.to_str()?;
        let rest = text.strip_prefix('-').filter(|rest| !rest.is_empty())?;
        let (dashes, rest) = rest.strip_prefix('-').map_or((1, rest), |rest| (2, rest));
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (rest, None),
        };
        Some(Self { dashes, name: name.to_owned(), value })
    }
}

fn find<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    command.get_arguments().find(|arg| {
        let short = arg.get_short().is_some_and(|short| name.len() == 1 && name.starts_with(short));
        short || arg.get_long().is_some_and(|long| long == name)
    })
}

/// As Go's `strconv.ParseBool`.
fn truth(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn is(line: &str, wanted: &str) {
        let words = line.split(' ').map(OsString::from);
        let got: Vec<_> = normal(crate::cli::Cli::command(), words).into_iter().collect();
        assert_eq!(got, wanted.split(' ').map(OsString::from).collect::<Vec<_>>(), "{line}");
    }

    #[test]
    fn as_go_reads_them() {
        is("r -root /x --systemd-cgroup=true list -quiet", "r --root /x --systemd-cgroup list --quiet");
        is("r --debug=false -log=/l delete -f=1 -force=0 c", "r --log=/l delete -f c");
        is("r create -bundle /b -no-pivot=T c", "r create --bundle /b --no-pivot c");
        is("r --rootless=false list", "r --rootless=false list");
    }

    #[test]
    fn what_is_right_or_wrong_stays() {
        let lines = [
            "r exec -it --env -root -e --tty=true c sh -root x --debug=true",
            "r ps c -ef",
            "r kill c -9",
            "r kill -- -root",
            "r --debug=maybe list",
            "r --nosuch=true list -nosuch",
            "r update -r - --cpu-quota -1 c",
            "r exec -u0 -e-root c x",
        ];
        for line in lines {
            is(line, line);
        }
    }
}
