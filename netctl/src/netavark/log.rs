//! What netavark says on stderr where `RUST_LOG` asks for it, in the form that its users' scripts look for.

use std::env;

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What failed; podman shows it.
    Error,
    /// What was left out.
    Warn,
    /// What is done.
    Info,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Warn => "WARN ",
            Self::Info => "INFO ",
        }
    }
}

/// Says `text` on behalf of the part `of` netavark.
pub fn say(level: Level, of: &str, text: &str) {
    if level <= asked(&env::var("RUST_LOG").unwrap_or_default()) {
        contracts::report::say(format_args!("[{} netavark::{of}] {text}", level.name()));
    }
}

/// `LEVEL` or `netavark=LEVEL`, several with commas; the last that is about us counts.
fn asked(directives: &str) -> Level {
    let mut found = Level::Error;
    for directive in directives.split(',') {
        let (target, level) = directive.split_once('=').unwrap_or(("netavark", directive));
        if !target.trim().starts_with("netavark") {
            continue;
        }
        found = match level.trim().to_ascii_lowercase().as_str() {
            "info" | "debug" | "trace" => Level::Info,
            "warn" => Level::Warn,
            "error" | "off" => Level::Error,
            _ => found,
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_as_env_logger_does() {
        assert_eq!(asked(""), Level::Error);
        assert_eq!(asked("netavark=info"), Level::Info);
        assert_eq!(asked("DEBUG"), Level::Info);
        assert_eq!(asked("warn,hyper=trace"), Level::Warn);
    }
}
