//! From the command line to the verb.

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;

use crate::cli::Command;
use crate::{cmd, rootless};

/// Runs a verb.
///
/// # Errors
/// What went wrong, for `report::finish`.
pub fn run(command: Command) -> Result<Exit> {
    if gives_files_away(&command) {
        // A mount goes with the last process of its namespace, which would be this one.
        let mounts = match &command {
            Command::Bundle(args) => args.mounts(),
            other => matches!(other, Command::Mount(_)),
        };
        if mounts && !nix::unistd::geteuid().is_root() {
            fault!(
                Unsupported,
                "an ordinary user's mounts go with the command: run it in `imgtool unshare`, or make a bundle --rootless"
            );
        }
        rootless::enter()?;
    }
    match command {
        Command::Unshare(args) => cmd::unshare::run(&args),
        Command::Images(args) => cmd::images::run(&args),
        Command::Inspect(args) => cmd::inspect::run(&args),
        Command::History(args) => cmd::history::run(&args),
        Command::Tree(args) => cmd::tree::run(&args),
        Command::Tag(args) => cmd::tag::run(&args),
        Command::Untag(args) => cmd::untag::run(&args),
        Command::Rmi(args) => cmd::rmi::run(&args),
        Command::Prune(args) => cmd::prune::run(&args),
        Command::Relay(args) => cmd::relay::run(&args),
        Command::Recompress(args) => cmd::recompress::run(&args),
        Command::Pull(args) => cmd::pull::run(&args),
        Command::Push(args) => cmd::push::run(&args),
        Command::Save(args) => cmd::save::run(&args),
        Command::Load(args) => cmd::load::run(&args),
        Command::Import(args) => cmd::import::run(&args),
        Command::Copy(args) => cmd::copy::run(&args),
        Command::Login(args) => cmd::login::run(&args),
        Command::Logout(args) => cmd::logout::run(&args),
        Command::ListTags(args) => cmd::list_tags::run(&args),
        Command::Catalog(args) => cmd::catalog::run(&args),
        Command::Manifest(args) => cmd::manifest::run(&args),
        Command::Digest(args) => cmd::manifest::digest(&args),
        Command::Delete(args) => cmd::manifest::delete(&args),
        Command::Referrers(args) => cmd::referrers::run(&args),
        Command::Artifact(args) => cmd::artifact::run(&args),
        Command::Index(args) => cmd::index::run(&args),
        Command::Sync(args) => cmd::sync::run(&args),
        Command::Build(args) => cmd::build::run(&args),
        Command::Commit(args) => cmd::commit::run(&args),
        Command::Diff(args) => cmd::diff::run(&args),
        Command::Bundle(args) => cmd::bundle::run(&args),
        Command::Mount(args) => cmd::mount::run(&args),
        Command::Umount(args) => cmd::umount::run(&args),
        Command::Unbundle(args) => cmd::unbundle::run(&args),
        Command::Export(args) => cmd::export::run(&args),
        Command::Flatten(args) => cmd::flatten::run(&args),
        Command::Append(args) => cmd::append::run(&args),
        Command::Insert(args) => cmd::insert::run(&args),
        Command::Rebase(args) => cmd::rebase::run(&args),
        Command::Config(args) => cmd::config::run(&args),
        Command::Verify(args) => cmd::verify::run(&args),
    }
}

/// Whether a verb makes or removes files of owners other than its user: those of layers. (Most remove layers that nothing
/// uses any more.)
const fn gives_files_away(command: &Command) -> bool {
    matches!(
        command,
        Command::Rmi(_)
            | Command::Prune(_)
            | Command::Pull(_)
            | Command::Push(_)
            | Command::Load(_)
            | Command::Import(_)
            | Command::Copy(_)
            | Command::Sync(_)
            | Command::Build(_)
            | Command::Commit(_)
            | Command::Diff(_)
            | Command::Bundle(_)
            | Command::Mount(_)
            | Command::Umount(_)
            | Command::Unbundle(_)
            | Command::Export(_)
            | Command::Flatten(_)
            | Command::Append(_)
            | Command::Insert(_)
            | Command::Rebase(_)
            | Command::Verify(_)
    )
}
