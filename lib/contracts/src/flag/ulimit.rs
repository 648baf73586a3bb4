//! `--ulimit nofile=1024:2048`.

use crate::container::Ulimit;

/// setrlimit(2)'s resources, as `ulimit` names them.
const NAMES: [&str; 15] = [
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// `NAME=SOFT[:HARD]`; -1 is no limit.
///
/// # Errors
/// What is wrong, in docker's words.
pub fn parse(text: &str) -> Result<Ulimit, String> {
    let Some((name, values)) = text.split_once('=') else {
        return Err(format!("invalid ulimit argument: {text}"));
    };
    if !NAMES.contains(&name) {
        return Err(format!("invalid ulimit type: {name}"));
    }
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= -1);
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (Some(soft), Some(hard)) = (number(soft), number(hard)) else {
        return Err(format!("invalid ulimit value: {values}"));
    };
    if hard != -1 && (soft > hard || soft == -1) {
        return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
    }
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

#[cfg(test)]
mod tests {
    use super::{Ulimit, parse};

    #[test]
    fn soft_and_hard() {
        for (text, soft, hard) in
            [("nofile=1:2", 1, 2), ("core=0", 0, 0), ("core=-1", -1, -1), ("nproc=5:-1", 5, -1)]
        {
            let (name, _) = text.split_once('=').unwrap();
            assert_eq!(parse(text), Ok(Ulimit { name: name.to_owned(), soft, hard }));
        }
        for wrong in ["nofile", "x=1", "nofile=2:1", "nofile=a", "nofile=-1:5", "nofile=-2", "nofile="] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
