//! Names and ids that become file names: checked once, at the door.

use crate::fault::{Fault, Kind};

/// Checks a container id or an object's name: a letter or digit, then letters, digits, `_`, `.`, `+`, `-`; at most
/// 128 bytes. So it is never empty, never `.` or `..`, never holds a slash.
///
/// # Errors
/// A [`Kind::Usage`] fault that names `what` and the rule.
pub fn check(what: &str, name: &str) -> Result<(), Fault> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte));
    if first && rest && name.len() <= 128 {
        return Ok(());
    }
    let shown: String = name.chars().take(128).flat_map(char::escape_default).collect();
    let rule = "1 to 128 characters, a letter or digit, then letters, digits, _ . + -";
    Err(Fault::new(Kind::Usage, format!("invalid {what} \"{shown}\": {rule}")))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_plain_file_names_pass() {
        let long = "a".repeat(129);
        for bad in ["", ".", "..", "../x", "a/b", "-x", "a b", "a\nb", "ü", &long] {
            assert!(check("id", bad).is_err(), "{bad:?}");
        }
        for good in ["a", "0", "web-1", "a.b_c+d", &long[1..]] {
            check("id", good).unwrap();
        }
    }
}
