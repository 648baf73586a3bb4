//! CNI's error numbers and document (CNI specification 1.1, section 5).

use contracts::fault::Kind;
use serde_json::{Value, json};

/// The configuration's version is none of ours.
pub const INCOMPATIBLE_VERSION: u32 = 1;
/// A field that we know but cannot do.
pub const UNSUPPORTED_FIELD: u32 = 2;
/// The container does not exist; there is nothing to clean up.
pub const UNKNOWN_CONTAINER: u32 = 3;
/// A variable of the environment is missing or wrong.
pub const INVALID_ENVIRONMENT: u32 = 4;
/// Input or output failed.
pub const IO: u32 = 5;
/// The configuration is not JSON of the expected form.
pub const DECODING: u32 = 6;
/// The configuration makes no sense.
pub const INVALID_CONFIG: u32 = 7;
/// Something else is in the way for now.
pub const TRY_AGAIN: u32 = 11;
/// The first of the plugin's own: the kernel refused.
pub const KERNEL: u32 = 100;
/// CHECK found something missing or different.
pub const CHECK_FAILED: u32 = 101;
/// No address is left, or the wanted one is taken.
pub const NO_ADDRESS: u32 = 102;

/// An error with its number.
#[derive(Debug, Clone)]
pub struct Failure {
    /// See the constants; a delegated plugin's number is passed on.
    pub code: u32,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The error document for a failed command.
pub fn document(version: &str, err: &anyhow::Error) -> Value {
    let code = err.downcast_ref::<Failure>().map_or_else(|| code_of(err), |failure| failure.code);
    json!({"cniVersion": version, "code": code, "msg": contracts::report::one_line(err), "details": ""})
}

fn code_of(err: &anyhow::Error) -> u32 {
    match Kind::of(err) {
        Some(Kind::Usage) => INVALID_CONFIG,
        Some(Kind::Busy) => TRY_AGAIN,
        Some(Kind::Unsupported) => UNSUPPORTED_FIELD,
        _ if err.chain().any(|cause| cause.is::<std::io::Error>()) => IO,
        _ => KERNEL,
    }
}

/// `bail!` with a CNI error number.
macro_rules! fail {
    ($code:expr, $($message:tt)+) => {
        return Err($crate::cni::failure::Failure { code: $code, message: format!($($message)+) }.into())
    };
}
pub(crate) use fail;
