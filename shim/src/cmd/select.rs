//! Which containers a command is for: named, or chosen by `--all`, `--latest`, `--filter`, `--cidfile`.

use std::fs;

use anyhow::{Context as _, Result};
use contracts::container::State;
use contracts::fault;

use super::ps::{self, filters};
use crate::cli::Selection;
use crate::container::{Store, status};

/// Puts the names of those that are chosen into `which`; with `--all` those in a state that `fit`s.
pub fn select(store: &Store, which: &mut Selection, fit: impl Fn(State) -> bool) -> Result<()> {
    for file in &which.cidfile {
        let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
        which.containers.push(text.trim().to_owned());
    }
    if !which.filter.is_empty() {
        let filters = filters::read(store, &which.filter)?;
        let mut rows = ps::rows(store)?;
        rows.retain(|row| {
            filters.iter().all(|filter| filter.matches(row)) && (!which.all || fit(row.status.state))
        });
        which.containers.extend(rows.into_iter().map(|row| row.record.id));
        return Ok(());
    }
    let more = chosen(store, &which.containers, which.all, which.latest, |id| {
        Ok(fit(status::read(store, id)?.state))
    })?;
    which.containers = more;
    Ok(())
}

/// The containers that are named, or all of those that `fit`, or the one that was made last.
pub fn chosen(
    store: &Store,
    names: &[String],
    all: bool,
    latest: bool,
    fit: impl Fn(&str) -> Result<bool>,
) -> Result<Vec<String>> {
    if !all && !latest {
        return Ok(names.to_vec());
    }
    let mut found = Vec::new();
    for id in store.ids()? {
        // One that is being removed is not there.
        let Ok(record) = store.load(&id) else { continue };
        if latest || fit(&id)? {
            found.push((record.created, id));
        }
    }
    found.sort();
    if latest {
        let Some(last) = found.pop() else { fault!(NotFound, "there is no container") };
        return Ok(vec![last.1]);
    }
    Ok(found.into_iter().map(|(_, id)| id).collect())
}
