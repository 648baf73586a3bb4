//! config.json: what the runtime reads of it, and the checks before anything is made.
//!
//! The types are our own rather than `oci_spec`'s for the document's skeleton: those reject an unknown capability,
//! which the specification wants ignored with a warning, and bring a regular expression engine into a binary whose
//! start is the product. `resources` and the words of `seccomp` are
//! `oci_spec` types.

pub mod annotations;
pub mod check;
pub mod document;
pub mod example;
pub mod linux;
pub mod load;
pub mod process;
pub mod seccomp;

use serde::{Deserialize, Deserializer};

/// The version of the runtime specification that we implement.
pub const VERSION: &str = "1.3.0";

/// For `#[serde(deserialize_with)]`: JSON written by Go has `null` where a list or a map is empty.
pub fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
