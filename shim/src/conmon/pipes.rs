//! The pipes to podman or CRI-O, given by number in the environment: pipes, fifos or sockets; only read and written.

use std::fs::File;
use std::io::{Read as _, Write as _};

use anyhow::{Context as _, Result};

/// Takes over the descriptor that an environment variable names; `None` without the variable.
pub fn take(variable: &str) -> Result<Option<File>> {
    let Some(number) = number(variable)? else { return Ok(None) };
    let fd = sys::inherited::take(number).with_context(|| format!("{variable}={number}"))?;
    Ok(Some(File::from(fd)))
}

/// As [`take`]; the program executed next can take it, too.
pub fn share(variable: &str) -> Result<Option<File>> {
    let Some(number) = number(variable)? else { return Ok(None) };
    let fd = sys::inherited::duplicate(number).with_context(|| format!("{variable}={number}"))?;
    Ok(Some(File::from(fd)))
}

fn number(variable: &str) -> Result<Option<i32>> {
    let Some(text) = std::env::var_os(variable) else { return Ok(None) };
    let number = text.to_str().and_then(|text| text.parse().ok()).filter(|&number: &i32| number > 0);
    number.with_context(|| format!("{variable} is no descriptor")).map(Some)
}

/// Waits for any bytes, or for the other end to close.
pub fn wait_for_word(pipe: &mut File) -> Result<()> {
    let mut word = [0; 64];
    let _ = pipe.read(&mut word).context("read the start pipe")?;
    Ok(())
}

/// One line: a number under `key`, and perhaps why. A reader that went away is not waited for.
pub fn tell(pipe: &mut Option<File>, key: &str, number: i64, message: Option<&str>) {
    let Some(file) = pipe else { return };
    let mut line = format!("{{\"{key}\": {number}");
    if let Some(message) = message {
        let text = serde_json::Value::from(message).to_string();
        line.push_str(&format!(", \"message\": {text}"));
    }
    line.push_str("}\n");
    if file.write_all(line.as_bytes()).is_err() {
        *pipe = None;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_said_is_one_line_of_json(number in any::<i64>(), message in prop::option::of(any::<String>())) {
            let mut pipe = Some(tempfile::tempfile().unwrap());
            tell(&mut pipe, "data", number, message.as_deref());
            let mut file = pipe.unwrap();
            file.rewind().unwrap();
            let mut line = String::new();
            file.read_to_string(&mut line).unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(value["data"].as_i64(), Some(number));
            prop_assert_eq!(value["message"].as_str(), message.as_deref());
        }
    }
}
