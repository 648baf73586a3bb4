//! Whom the host itself asks: `/etc/resolv.conf`, read again when it has changed. Its own loopback servers count, too:
//! the name server lives where they listen. Where it does not ([`crate::rootless`]), the other side's are in a file of
//! the same form.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const FILE: &str = "/etc/resolv.conf";
/// How old our knowledge may be.
const AGE: Duration = Duration::from_secs(1);

/// The host's servers.
#[derive(Debug)]
pub struct Servers {
    file: PathBuf,
    found: Vec<IpAddr>,
    looked: Option<Instant>,
    /// What tells one state of the file from the next.
    stamp: (u64, i64, i64),
}

impl Servers {
    /// Those of the host, or of `own` where that file exists.
    pub fn new(own: PathBuf) -> Self {
        let file = if own.exists() { own } else { FILE.into() };
        Self { file, found: Vec::new(), looked: None, stamp: (0, 0, 0) }
    }

    /// As they are now.
    pub fn get(&mut self) -> &[IpAddr] {
        if self.looked.is_none_or(|time| time.elapsed() >= AGE) {
            self.looked = Some(Instant::now());
            let stamp = fs::metadata(&self.file).map(|data| (data.ino(), data.mtime(), data.mtime_nsec()));
            let stamp = stamp.unwrap_or_default();
            if stamp != self.stamp {
                self.stamp = stamp;
                self.found = parse(&fs::read_to_string(&self.file).unwrap_or_default());
            }
        }
        &self.found
    }
}

fn parse(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| *word == "nameserver").and_then(|_| words.next()?.parse().ok())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn servers_of_any_kind_are_found() {
        let found = parse(
            "search a\n nameserver 127.0.0.53 # x\nnameserver ::1\nnameserver fe80::1%eth0\n#nameserver 1.1.1.1\n",
        );
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.53", "::1"]);
    }
}
