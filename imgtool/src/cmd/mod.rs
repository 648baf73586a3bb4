//! One file per verb.

pub mod append;
pub mod artifact;
pub mod build;
pub mod bundle;
pub mod catalog;
pub mod commit;
pub mod config;
pub mod copy;
pub mod diff;
pub mod export;
pub mod flatten;
pub mod history;
pub mod images;
pub mod import;
pub mod index;
pub mod inspect;
pub mod list_tags;
pub mod load;
pub mod login;
pub mod logout;
pub mod manifest;
pub mod mount;
pub mod prune;
pub mod pull;
pub mod push;
pub mod rebase;
pub mod referrers;
pub mod relay;
pub mod rmi;
pub mod save;
pub mod sync;
pub mod tag;
pub mod umount;
pub mod unbundle;
pub mod unshare;
pub mod verify;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::fault;
use contracts::paths::Paths;

use crate::cli::Command;
use crate::rootless;
use crate::store::Store;

/// Runs a verb.
///
/// # Errors
/// What went wrong, for `report::finish`.
pub fn run(command: Command) -> Result<Exit> {
    if gives_files_away(&command) {
        // A mount goes with the last process of its namespace, which would be this one.
        if matches!(command, Command::Bundle(_) | Command::Mount(_)) && !nix::unistd::geteuid().is_root() {
            fault!(Unsupported, "an ordinary user's mounts go with the command: run it in `imgtool unshare`");
        }
        rootless::enter()?;
    }
    match command {
        Command::Unshare(args) => unshare::run(&args),
        Command::Images(args) => images::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::History(args) => history::run(&args),
        Command::Tag(args) => tag::run(&args),
        Command::Rmi(args) => rmi::run(&args),
        Command::Prune(args) => prune::run(&args),
        Command::Relay(args) => relay::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Push(args) => push::run(&args),
        Command::Save(args) => save::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Copy(args) => copy::run(&args),
        Command::Login(args) => login::run(&args),
        Command::Logout(args) => logout::run(&args),
        Command::ListTags(args) => list_tags::run(&args),
        Command::Catalog(args) => catalog::run(&args),
        Command::Manifest(args) => manifest::run(&args),
        Command::Digest(args) => manifest::digest(&args),
        Command::Delete(args) => manifest::delete(&args),
        Command::Referrers(args) => referrers::run(&args),
        Command::Artifact(args) => artifact::run(&args),
        Command::Index(args) => index::run(&args),
        Command::Sync(args) => sync::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Commit(args) => commit::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Bundle(args) => bundle::run(&args),
        Command::Mount(args) => mount::run(&args),
        Command::Umount(args) => umount::run(&args),
        Command::Unbundle(args) => unbundle::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Flatten(args) => flatten::run(&args),
        Command::Append(args) => append::run(&args),
        Command::Rebase(args) => rebase::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Verify(args) => verify::run(&args),
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
            | Command::Rebase(_)
            | Command::Verify(_)
    )
}

/// The store for taking bundles down.
pub(crate) fn open_store_alone() -> Result<Store> {
    Store::open_alone(&Paths::from_env())
}

/// The store that every verb works on.
pub(crate) fn open_store() -> Result<Store> {
    Store::open(&Paths::from_env())
}
