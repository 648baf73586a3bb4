//! Version 1 units as the configuration has them, turned into those of version 2.

use anyhow::{Result, bail};

/// `cpu.shares` (2 to 262144, normally 1024) as `cpu.weight` (1 to 10000, normally 100).
///
/// The curve of runc 1.4 and crun 1.24: quadratic in the logarithm, so that the two ends and the two defaults meet.
#[must_use]
pub fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            #[allow(clippy::cast_precision_loss)]
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let weight = 10_f64.powf(exponent).ceil() as u64;
            weight
        }
    }
}

/// `blkio.weight` (10 to 1000) as `io.weight` (1 to 10000).
#[must_use]
pub fn blkio_to_io_weight(weight: u16) -> u64 {
    match weight {
        0 => 0,
        weight => 1 + u64::from(weight.clamp(10, 1000) - 10) * 9999 / 990,
    }
}

/// A limit where -1 means none.
#[must_use]
pub fn or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Version 1 limits memory and swap together, version 2 swap alone. `None`: leave it.
///
/// # Errors
/// A sum smaller than the memory limit, or a sum without one.
pub fn swap_alone(memory: Option<i64>, both: Option<i64>) -> Result<Option<String>> {
    match (memory.unwrap_or(0), both.unwrap_or(0)) {
        (-1, 0) | (_, -1) => Ok(Some("max".to_owned())),
        (_, 0) => Ok(None),
        (_, both) if both < -1 => bail!("memory.swap {both} is negative"),
        (0 | -1, both) => bail!("memory.swap {both} needs a memory.limit: it is their sum"),
        (memory, both) if both < memory => {
            bail!("memory.swap {both} is less than memory.limit {memory}: it is their sum")
        }
        (memory, both) => Ok(Some((both - memory).to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_meet_at_ends_and_defaults() {
        let pairs = [(0, 0), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (1 << 40, 10_000), (512, 59)];
        for (shares, weight) in pairs {
            assert_eq!(shares_to_weight(shares), weight, "{shares}");
        }
        assert_eq!([0, 10, 500, 1000].map(blkio_to_io_weight), [0, 1, 4950, 10_000]);
    }

    #[test]
    fn swap_is_what_exceeds_memory() {
        let swap = |memory: i64, both: i64| swap_alone(Some(memory), Some(both)).map_err(|_| ());
        assert_eq!(swap(100, 150), Ok(Some("50".into())));
        assert_eq!(swap(100, 100), Ok(Some("0".into())));
        assert_eq!(swap(100, -1), Ok(Some("max".into())));
        assert_eq!(swap(100, 0), Ok(None));
        assert_eq!(swap_alone(Some(-1), None).unwrap(), Some("max".into()));
        assert_eq!(
            (swap(100, 50), swap(0, 50), swap(-1, 50), swap(100, -2)),
            (Err(()), Err(()), Err(()), Err(()))
        );
    }
}
