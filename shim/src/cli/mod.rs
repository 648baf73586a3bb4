//! Flags and help only.

mod checkpoint;
mod create;
mod examples;
pub mod foreign;
mod podman;
mod podman_verbs;
mod quick;
mod selection;
mod verbs;

pub use checkpoint::{CheckpointCommand, CheckpointDump, CheckpointPlace, CheckpointVerb, RestoreFlags};
pub use create::{CreateFlags, HealthFlags, NetworkFlags, ResourceFlags, SecurityFlags, WindowsFlags};
pub use podman_verbs::*;
pub use selection::Selection;
pub use verbs::*;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Containers with one supervisor each and no daemon: run, stop, logs, exec, restart.
#[derive(Debug, Parser)]
#[command(
    name = "shim",
    version,
    disable_help_flag = true,
    disable_help_subcommand = true,
    args_override_self = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 exists or wrong state, 5 busy, 6 remote, \
                  7 not supported here.\nrun, exec and start -a: the payload's own code, 125 shim failed, 126 not \
                  executable, 127 not found, 128+n killed by signal n."
)]
pub struct Cli {
    /// Show help
    #[arg(long, global = true, action = ArgAction::Help)]
    help: Option<bool>,
    #[command(subcommand)]
    pub verb: Verb,
}

/// What the user types.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a container from an image and start it
    Run(Box<RunFlags>),
    /// Make a container without starting it
    Create(Box<CreateFlags>),
    /// Make containers ready up to their program, which `shim start` then starts
    Init(Names),
    /// Start stopped containers
    Start(StartFlags),
    /// Stop containers: signal, wait, SIGKILL
    Stop(StopFlags),
    /// Stop and start containers
    Restart(StopFlags),
    /// Make a new container that is like another
    Clone(Box<CloneFlags>),
    /// Send a signal to containers
    Kill(KillFlags),
    /// Remove containers
    Rm(RmFlags),
    /// Put a running container away into files (CRIU), to go on later from where it was
    #[command(
        args_conflicts_with_subcommands = true,
        subcommand_negates_reqs = true,
        after_help = "Examples:\n  shim checkpoint web; shim restore web\n  shim checkpoint create --leave-running web \
                      noon; shim stop web; shim start --checkpoint noon web"
    )]
    Checkpoint(CheckpointCommand),
    /// Let containers go on from where `shim checkpoint` put them away
    #[command(
        after_help = "Examples:\n  shim checkpoint web; shim restore web\n  shim checkpoint --export web.tar.zst web; scp web.tar.zst \
                      other:; ssh other shim restore --import web.tar.zst"
    )]
    Restore(RestoreFlags),
    /// List containers
    #[command(visible_aliases = ["ls", "list"])]
    Ps(PsFlags),
    /// Show what a container wrote
    Logs(LogsFlags),
    /// Connect to a running container's streams
    Attach(AttachFlags),
    /// Run a command in a running container
    Exec(ExecFlags),
    /// Wait for containers to end and print their exit codes
    #[command(
        after_help = "Examples:\n  shim wait job\n  shim wait --condition healthy db && shim start web"
    )]
    Wait(WaitFlags),
    /// Whether there is such a container: exit code 0 or 1
    Exists(ExistsFlags),
    /// Show everything about containers
    Inspect(InspectFlags),
    /// Write a container's file system as a tar
    Export(ExportFlags),
    /// Make an image from a container
    Commit(CommitFlags),
    /// Show what changed in a container's file system
    Diff(OneName),
    /// List a container's published ports
    Port(PortFlags),
    /// List a container's processes
    Top(TopFlags),
    /// Give a container another name
    Rename(RenameFlags),
    /// Freeze containers
    Pause(Names),
    /// Thaw containers
    Unpause(Names),
    /// Mount root file systems and print where; without a name, show what is mounted
    Mount(MountFlags),
    /// Unmount what `shim mount` mounted
    #[command(visible_alias = "umount")]
    Unmount(UnmountFlags),
    /// Copy files between a container and here
    Cp(CpFlags),
    /// Show what containers use
    Stats(StatsFlags),
    /// Change limits and restart policy of containers
    Update(Box<UpdateFlags>),
    /// Unmount and disconnect what has ended (every other command does so, too)
    Cleanup(CleanupFlags),
    /// Remove all stopped containers
    Prune(PruneFlags),
    /// Show what happened
    Events(EventsFlags),
    /// Work with volumes
    #[command(subcommand)]
    Volume(VolumeVerb),
    /// Run a container's health check now
    #[command(subcommand)]
    Healthcheck(HealthcheckVerb),
    /// Start the containers whose restart policy asks for it, after a boot
    #[command(
        after_help = "`make install` brings shim/boot/bulkhead.service (systemd) and bulkhead.init (any other init), which call it, and \
            bulkhead-look.timer: whatever was killed, within half a minute `shim ps` has looked and restart policies hold."
    )]
    Boot(BootFlags),
    /// Show the machine as shim sees it
    Info(FormatOnly),
    /// Show the version
    Version(FormatOnly),
}

/// Parses the command line; every switch also takes `=true` and `=false`, as docker's do.
///
/// `shim container VERB` is `shim VERB`, as docker groups them.
pub fn parse(mut arguments: Vec<std::ffi::OsString>) -> Result<Cli, clap::Error> {
    if arguments.get(1).is_some_and(|word| word == "container") {
        arguments.remove(1);
    }
    if let Some(verb) = quick::parse(&arguments) {
        return Ok(Cli { help: None, verb });
    }
    let matches = command().try_get_matches_from(arguments)?;
    Cli::from_arg_matches(&matches)
}

/// The command line, whole: with examples, and flags as docker has them.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let verbs: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    let each = |command: clap::Command, verb: String| {
        command.mut_subcommand(&verb, |flags| as_docker_has_it(&verb, flags))
    };
    examples::add(verbs.into_iter().fold(command, each))
}

/// The flags of a verb: switches that take a value, and no letters where docker has other flags of these.
fn as_docker_has_it(verb: &str, flags: clap::Command) -> clap::Command {
    let flags = switches(flags);
    let without_letter: &[&str] = match verb {
        "start" => &["all", "latest"],
        "rm" => &["latest"],
        "stop" => return flags.mut_arg("running", |arg| arg.hide(true)),
        _ => &[],
    };
    without_letter.iter().fold(flags, |flags, name| flags.mut_arg(*name, |arg| arg.short(None)))
}

fn switches(command: clap::Command) -> clap::Command {
    let command = command.mut_args(|arg| {
        if !matches!(arg.get_action(), ArgAction::SetTrue) {
            return arg;
        }
        arg.action(ArgAction::Set)
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .default_value("false")
            .hide_default_value(true)
            .hide_possible_values(true)
            .value_name("BOOL")
            .value_parser(clap::value_parser!(bool))
    });
    command.mut_subcommands(switches)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str) -> RunFlags {
        let words = ["shim", "run"].into_iter().chain(line.split(' ')).map(Into::into).collect();
        match parse(words).unwrap().verb {
            Verb::Run(flags) => *flags,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_after_the_image_belong_to_the_command() {
        let flags = run("-it --rm=false --init=true -h web img sh -c --rm");
        assert!(
            flags.create.interactive
                && flags.create.tty
                && flags.create.init == Some(true)
                && !flags.create.rm
        );
        assert_eq!(flags.create.hostname.as_deref(), Some("web"));
        assert_eq!(flags.create.image_and_command, ["img", "sh", "-c", "--rm"]);
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }
}
