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
pub mod insert;
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
pub mod recompress;
pub mod referrers;
pub mod relay;
pub mod rmi;
pub mod save;
pub mod sync;
pub mod tag;
pub mod tree;
pub mod umount;
pub mod unbundle;
pub mod unshare;
pub mod untag;
pub mod verify;

use anyhow::Result;
use contracts::paths::Paths;

use crate::store::Store;

/// The store for taking bundles down.
pub(crate) fn open_store_alone() -> Result<Store> {
    Store::open_alone(&Paths::from_env())
}

/// The store that every verb works on.
pub(crate) fn open_store() -> Result<Store> {
    Store::open(&Paths::from_env())
}
