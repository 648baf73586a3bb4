//! The examples at the end of each verb's help.

use clap::Command;

/// The verb (and what is below it), and lines that a user would type.
const EXAMPLES: &[(&[&str], &[&str])] = &[
    (&["run"], &["shim run --rm -it alpine sh", "shim run -d --name web -p 8080:80 --restart always nginx"]),
    (&["create"], &["shim create --name db -v data:/var/lib/data --memory 1g postgres"]),
    (&["init"], &["shim init web"]),
    (&["start"], &["shim start web db", "shim start -ai job"]),
    (&["stop"], &["shim stop -t 30 web", "shim stop --all"]),
    (&["restart"], &["shim restart web", "shim restart --filter label=tier=front"]),
    (
        &["clone"],
        &["shim clone web web2", "shim clone --destroy --run --memory 2g web web-larger nginx:1.29"],
    ),
    (&["kill"], &["shim kill web", "shim kill -s HUP web"]),
    (&["rm"], &["shim rm -f -v web", "shim rm --filter status=exited"]),
    (&["ps"], &["shim ps -a --filter status=exited", "shim ps --format '{{.Names}} {{.Status}}'"]),
    (&["logs"], &["shim logs -f -n 20 web", "shim logs --since 10m -t web"]),
    (&["attach"], &["shim attach --detach-keys ctrl-x job"]),
    (&["exec"], &["shim exec -it web sh", "shim exec -u nobody -w /tmp web id"]),
    (&["exists"], &["shim exists web"]),
    (&["inspect"], &["shim inspect web", "shim inspect -f '{{.State.Pid}}' web"]),
    (&["export"], &["shim export -o web.tar web"]),
    (&["commit"], &["shim commit -m 'with my files' web web:mine"]),
    (&["diff"], &["shim diff web"]),
    (&["port"], &["shim port web 80/tcp"]),
    (&["top"], &["shim top web -o pid,args"]),
    (&["rename"], &["shim rename web web-old"]),
    (&["pause"], &["shim pause web", "shim pause --all"]),
    (&["unpause"], &["shim unpause --all"]),
    (&["mount"], &["shim mount web", "shim mount"]),
    (&["unmount"], &["shim unmount web", "shim unmount --all"]),
    (&["cp"], &["shim cp web:/etc/hosts .", "shim cp -a files/. web:/srv", "shim cp web:/var/log -"]),
    (&["stats"], &["shim stats --no-stream", "shim stats --format json web"]),
    (&["update"], &["shim update --memory 2g --cpus 1.5 web", "shim update --restart unless-stopped web"]),
    (&["cleanup"], &["shim cleanup --all --stopped-only"]),
    (&["prune"], &["shim prune -f --filter until=24h"]),
    (&["events"], &["shim events --since 1h --filter event=die"]),
    (&["info"], &["shim info --format json"]),
    (&["version"], &["shim version -f '{{.Client.Version}}'"]),
    (&["healthcheck", "run"], &["shim healthcheck run web"]),
    (&["checkpoint", "create"], &["shim checkpoint create --leave-running web noon"]),
    (&["checkpoint", "ls"], &["shim checkpoint ls web"]),
    (&["checkpoint", "rm"], &["shim checkpoint rm web noon"]),
    (
        &["volume", "create"],
        &["shim volume create data", "shim volume create -o type=tmpfs -o device=tmpfs -o o=size=1g scratch"],
    ),
    (&["volume", "ls"], &["shim volume ls --filter dangling=true"]),
    (&["volume", "inspect"], &["shim volume inspect data"]),
    (&["volume", "rm"], &["shim volume rm data"]),
    (&["volume", "exists"], &["shim volume exists data"]),
    (&["volume", "export"], &["shim volume export -o data.tar data"]),
    (&["volume", "import"], &["shim volume import data data.tar"]),
    (&["volume", "prune"], &["shim volume prune -a -f"]),
];

/// Adds them.
pub fn add(mut command: Command) -> Command {
    for (path, lines) in EXAMPLES {
        command = below(command, path, &format!("Examples:\n  {}", lines.join("\n  ")));
    }
    command
}

fn below(command: Command, path: &[&str], text: &str) -> Command {
    match path {
        [] => command.after_help(text.to_owned()),
        [verb, rest @ ..] => command.mut_subcommand(*verb, |verb| below(verb, rest, text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words of a line, as a shell takes them apart.
    fn words(line: &str) -> Vec<std::ffi::OsString> {
        let mut words = Vec::new();
        for (at, part) in line.split('\'').enumerate() {
            if at % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words.into_iter().map(Into::into).collect()
    }

    #[test]
    fn every_example_is_taken_and_every_verb_has_one() {
        for line in EXAMPLES.iter().flat_map(|(_, lines)| *lines) {
            if let Err(err) = super::super::parse(words(line)) {
                panic!("{line}: {err}");
            }
        }
        fn check(command: &Command) {
            for verb in
                command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
            {
                let helped = verb.get_after_help().is_some() || verb.get_subcommands().next().is_some();
                assert!(helped, "{} has no example", verb.get_name());
                check(verb);
            }
        }
        check(&super::super::command());
    }
}
