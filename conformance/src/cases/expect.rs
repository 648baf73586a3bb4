//! What cases say about facts, so that a failure names what was found and what was wanted.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// `found` must equal `wanted`.
pub fn same(what: &str, found: &Value, wanted: impl Into<Value>) -> Result<()> {
    let wanted = wanted.into();
    ensure!(*found == wanted, "{what} is {found}, not {wanted}");
    Ok(())
}

/// The operation must have worked; its data.
pub fn allowed<'a>(outcomes: &'a Value, operation: &str) -> Result<&'a Value> {
    let outcome = &outcomes[operation];
    ensure!(outcome["ok"] == true, "{operation:?} failed with {}, but should work", outcome["errno"]);
    Ok(&outcome["data"])
}

/// The operation must have failed, with one of these errors where any are named.
pub fn refused(outcomes: &Value, operation: &str, errors: &[&str]) -> Result<()> {
    let outcome = &outcomes[operation];
    ensure!(outcome["ok"] == false, "{operation:?} worked ({outcome}), but should be refused");
    let error = outcome["errno"].as_str().unwrap_or_default();
    ensure!(
        errors.is_empty() || errors.contains(&error),
        "{operation:?} failed with {error}, not {errors:?}"
    );
    Ok(())
}

/// The topmost mount on `target`.
pub fn mount_at<'a>(facts: &'a Value, target: &str) -> Result<&'a Value> {
    let mounts = facts["mounts"].as_array().context("the container cannot read its mounts")?;
    mounts
        .iter()
        .rev()
        .find(|mount| mount["target"] == target)
        .with_context(|| format!("nothing is mounted on {target}"))
}

/// A list must hold `word`.
pub fn holds(what: &str, list: &Value, word: &str) -> Result<()> {
    let Some(words) = list.as_array() else { bail!("{what} is {list}, not a list") };
    ensure!(words.iter().any(|found| found == word), "{what} are {list}, without {word}");
    Ok(())
}
