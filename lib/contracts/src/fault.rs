//! The typed error for places where a caller branches; everything else is `anyhow` with context.

use std::fmt;

/// What kind of thing went wrong, as far as a caller cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The named object does not exist.
    NotFound,
    /// The name is taken.
    Exists,
    /// The object's state does not allow the operation.
    WrongState,
    /// Held by someone else.
    Busy,
    /// Wrong flags or wrong input.
    Usage,
    /// Not possible on this kernel or machine.
    Unsupported,
    /// Permission refused.
    Denied,
    /// A remote end failed.
    Remote,
    /// The container's program does not exist.
    CommandNotFound,
    /// The container's program cannot be executed.
    CommandNotExecutable,
}

impl Kind {
    /// The kind of the first [`Fault`] in an error's chain.
    #[must_use]
    pub fn of(err: &anyhow::Error) -> Option<Self> {
        // `downcast_ref` sees through `.context()`; the chain also finds a fault used as a source.
        err.downcast_ref::<Fault>()
            .or_else(|| err.chain().find_map(|cause| cause.downcast_ref::<Fault>()))
            .map(|fault| fault.kind)
    }
}

/// An error with a [`Kind`]; made with [`Fault::new`], turned into `anyhow::Error` by `?` or `.into()`.
#[derive(Debug, Clone)]
pub struct Fault {
    kind: Kind,
    message: String,
}

impl Fault {
    /// `message` names the object and says what is wrong with it, without the tool's name.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// The kind, for a caller that branches.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Fault {}

/// `bail!` with a kind: `fault!(NotFound, "container {id} does not exist")` returns from the function.
#[macro_export]
macro_rules! fault {
    ($kind:ident, $($message:tt)+) => {
        return Err($crate::fault::Fault::new($crate::fault::Kind::$kind, format!($($message)+)).into())
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn kind_survives_context() {
        let err: anyhow::Error = Fault::new(Kind::NotFound, "x").into();
        let err = Err::<(), _>(err).context("outer").context("outermost").unwrap_err();
        assert_eq!(Kind::of(&err), Some(Kind::NotFound));
        assert_eq!(format!("{err:#}"), "outermost: outer: x");
    }
}
