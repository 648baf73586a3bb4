//! Sizes: `64m`, `1.5g`, `10 MiB`, `4096`.

/// The bytes of `text`. Units are powers of 1024, whatever their spelling: what docker's memory flags take
/// (`RAMInBytes` of go-units). `None` for anything else, a negative size included.
#[must_use]
pub fn memory(text: &str) -> Option<i64> {
    parse(text, 1024)
}

/// The bytes of `text`. Units are powers of 1000, as sizes are shown; `KiB` and the like of 1024. `None` for
/// anything else.
#[must_use]
pub fn storage(text: &str) -> Option<u64> {
    parse(text, 1000).and_then(|bytes| u64::try_from(bytes).ok())
}

fn parse(text: &str, base: i64) -> Option<i64> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let (unit, base) = match unit.trim_start() {
        "b" => ("", base),
        unit => match unit.strip_suffix("ib") {
            Some(unit) => (unit, 1024),
            None => (unit.strip_suffix('b').unwrap_or(unit), base),
        },
    };
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|name| *name == unit)?;
    let scale = base.pow(u32::try_from(power).ok()?);
    if let Ok(whole) = number.parse::<i64>() {
        return whole.checked_mul(scale);
    }
    #[allow(clippy::cast_precision_loss)] // of a power of ten or two below 2^53: none
    let bytes = number.parse::<f64>().ok()? * scale as f64;
    // Above it the number is not exact, and nothing is as large.
    #[allow(clippy::cast_possible_truncation)]
    (bytes < 9e15).then_some(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::{memory, storage};

    #[test]
    fn memory_counts_in_1024() {
        for (text, bytes) in [
            ("512", 512),
            ("64m", 64 << 20),
            ("64MB", 64 << 20),
            ("10MiB", 10 << 20),
            ("1.5g", 3 << 29),
            ("1.5k", 1536),
            ("0", 0),
            ("7 k", 7 << 10),
            ("10b", 10),
            ("2P", 2 << 50),
        ] {
            assert_eq!(memory(text), Some(bytes), "{text}");
        }
        for wrong in
            ["", "m", "ib", "-1", "-2m", "x", "1x", "1e3", "inf", "1.2.3m", "9999999999g", "1e99t", "."]
        {
            assert_eq!(memory(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn storage_counts_in_1000() {
        for (text, bytes) in [("0", 0), ("7b", 7), ("2k", 2000), ("10GB", 10_000_000_000), ("1KiB", 1024)] {
            assert_eq!(storage(text), Some(bytes), "{text}");
        }
        assert_eq!(storage("99999999999t"), None);
    }
}
