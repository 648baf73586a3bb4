//! Signals by name or number.

use anyhow::Result;
use contracts::fault;
use nix::sys::signal::Signal;

/// `KILL`, `SIGKILL`, `9`, `RTMIN+3`.
pub fn parse(text: &str) -> Result<i32> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match name.parse::<i32>() {
        Ok(number) => Some(number),
        Err(_) => real_time(name).or_else(|| match name {
            "CLD" => Some(libc::SIGCHLD),
            "POLL" => Some(libc::SIGIO),
            _ => format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32),
        }),
    };
    match number {
        Some(number) if (1..=64).contains(&number) => Ok(number),
        _ => fault!(Usage, "invalid signal: {text}"),
    }
}

/// The kernel's numbers: 34 is the first that a C library leaves to programs.
fn real_time(name: &str) -> Option<i32> {
    if let Some(rest) = name.strip_prefix("RTMIN") {
        return if rest.is_empty() {
            Some(34)
        } else {
            rest.strip_prefix('+')?.parse().ok().map(|n: i32| 34 + n)
        };
    }
    let rest = name.strip_prefix("RTMAX")?;
    if rest.is_empty() { Some(64) } else { rest.strip_prefix('-')?.parse().ok().map(|n: i32| 64 - n) }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn names_and_numbers() {
        for (text, number) in
            [("KILL", 9), ("sigterm", 15), ("10", 10), ("RTMIN+3", 37), ("SIGRTMAX", 64), ("CLD", 17)]
        {
            assert_eq!(parse(text).unwrap(), number, "{text}");
        }
        for wrong in ["BOGUS", "0", "65", "", "RTMIN+99", "-1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
