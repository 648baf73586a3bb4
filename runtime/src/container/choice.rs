//! Which containers `kill` and `delete` mean: one by its id, or with `--regex` all whose ids match.

use std::path::Path;

use anyhow::Result;
use contracts::fault;
use regex_lite::Regex;

use super::directory::Directory;

/// Calls `each` for every container that is meant. With `regex` the failures of some do not keep it from the others.
///
/// # Errors
/// The first failure; a pattern that is none.
pub fn for_each(root: &Path, id: &str, regex: bool, mut each: impl FnMut(&str) -> Result<()>) -> Result<()> {
    if !regex {
        return each(id);
    }
    let pattern = match Regex::new(id) {
        Ok(pattern) => pattern,
        Err(err) => fault!(Usage, "--regex {id:?}: {err}"),
    };
    let ids = Directory::ids(root)?;
    let outcomes: Vec<Result<()>> = ids.iter().filter(|id| pattern.is_match(id)).map(|id| each(id)).collect();
    outcomes.into_iter().collect()
}
