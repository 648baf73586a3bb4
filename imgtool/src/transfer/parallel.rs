//! Several blobs at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::Result;

use crate::store::document::Descriptor;

/// Does `work` for each blob, `jobs` at a time, up to the first failure.
pub(super) fn each(
    blobs: &[Descriptor],
    jobs: usize,
    work: impl Fn(&Descriptor) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let first: Mutex<Option<anyhow::Error>> = Mutex::new(None);
    let one = || {
        while !failed.load(Ordering::Relaxed) {
            let Some(blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(err) = work(blob) {
                failed.store(true, Ordering::Relaxed);
                let mut first = first.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                first.get_or_insert(err);
            }
        }
    };
    let threads = jobs.clamp(1, 16).min(blobs.len());
    thread::scope(|scope| {
        // This thread works too, so one blob needs no other.
        for _ in 1..threads {
            scope.spawn(one);
        }
        one();
    });
    first.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}
