//! One file per verb.

pub mod history;
pub mod images;
pub mod inspect;
pub mod prune;
pub mod rmi;
pub mod tag;

use anyhow::Result;
use contracts::exit::Exit;
use contracts::paths::Paths;

use crate::cli::Command;
use crate::store::Store;

/// Runs a verb.
///
/// # Errors
/// What went wrong, for `report::finish`.
pub fn run(command: Command) -> Result<Exit> {
    match command {
        Command::Images(args) => images::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::History(args) => history::run(&args),
        Command::Tag(args) => tag::run(&args),
        Command::Rmi(args) => rmi::run(&args),
        Command::Prune(args) => prune::run(&args),
    }
}

/// The store that every verb works on.
pub(crate) fn open_store() -> Result<Store> {
    Store::open(&Paths::from_env())
}
