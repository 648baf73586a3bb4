//! When to start again, and how long to wait before: docker's rules.

use std::time::Duration;

use contracts::container::RestartPolicy;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A run this long makes the next wait short again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// The wait before the next start: doubles from 100 ms to a minute.
#[derive(Debug, Default)]
pub struct Backoff {
    last: Option<Duration>,
}

impl Backoff {
    /// The wait after a run of length `ran`.
    pub fn next(&mut self, ran: Duration) -> Duration {
        let wait = match self.last {
            Some(last) if ran < GOOD_RUN => (last * 2).min(LONGEST),
            _ => FIRST,
        };
        self.last = Some(wait);
        wait
    }
}

/// Whether the policy starts a container again that ended with `code` after `count` restarts.
pub fn wants_restart(policy: &RestartPolicy, code: i32, count: u32) -> bool {
    match policy.name.as_str() {
        "always" | "unless-stopped" => true,
        "on-failure" => code != 0 && (policy.maximum_retry_count == 0 || count < policy.maximum_retry_count),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_a_good_run_resets_them() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<u128> = (0..12).map(|_| backoff.next(short).as_millis()).collect();
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[11], 60_000);
        assert_eq!(backoff.next(GOOD_RUN), FIRST);
        assert_eq!(backoff.next(short), FIRST * 2);
    }

    #[test]
    fn policies() {
        let policy = |name: &str, most| RestartPolicy { name: name.into(), maximum_retry_count: most };
        assert!(wants_restart(&policy("always", 0), 0, 99));
        assert!(
            wants_restart(&policy("on-failure", 0), 1, 99) && !wants_restart(&policy("on-failure", 0), 0, 0)
        );
        assert!(
            wants_restart(&policy("on-failure", 3), 1, 2) && !wants_restart(&policy("on-failure", 3), 1, 3)
        );
        assert!(!wants_restart(&policy("no", 0), 1, 0));
    }
}
