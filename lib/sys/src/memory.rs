//! Memory that a process which sleeps for days need not hold (madvise(2)).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};

/// Bytes of the smallest page there is. A kernel of bigger ones refuses what begins within one of its own.
pub(crate) const PAGE: usize = 4096;

/// What of this program can be let go of, found once.
#[derive(Debug)]
pub struct Text {
    ranges: Vec<(usize, usize)>,
    /// The end of the main thread's stack.
    stack: usize,
}

impl Text {
    /// Looks which mappings came from this program's file and were never changed.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn find() -> io::Result<Self> {
        // Line by line: the whole list would leave more pages behind than it lets go.
        let mut list = BufReader::with_capacity(2048, File::open("/proc/self/smaps")?);
        let (mut line, mut mapping) = (String::with_capacity(256), None);
        let mut found = Self { ranges: Vec::new(), stack: 0 };
        while list.read_line(&mut line)? > 0 {
            if let Some(range) = file_mapping(&line) {
                mapping = range;
                if line.trim_end().ends_with("[stack]") {
                    found.stack = range_of(&line).map_or(0, |(_, end)| end);
                }
            } else if line.starts_with("Anonymous:")
                && let Some(range) = mapping.take()
                && line.trim_end().ends_with(" 0 kB")
            {
                found.ranges.push(range);
            }
            line.clear();
        }
        Ok(found)
    }

    /// Lets go of the text and constants, and of the stack below the caller, where nothing lives. What is used again
    /// comes back, a few pages at a time.
    pub fn forget(&self) {
        forget_stack(self.stack);
        for &(start, end) in &self.ranges {
            // SAFETY: the range is a private mapping of a file that is not writable and of which no page was ever
            // changed (no relocation either: nothing anonymous), so the same bytes come back when they are read.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
}

/// [`Text::find`] and [`Text::forget`], once.
///
/// # Errors
/// `/proc` is not mounted.
pub fn forget_text() -> io::Result<()> {
    Text::find().map(|text| text.forget())
}

/// Lets go of the pages of the main thread's stack, which ends at `end`, that deeper calls used. Must not be inlined: what
/// is below this frame is below every frame in use.
#[inline(never)]
fn forget_stack(end: usize) {
    /// Deeper than anything here goes; the kernel leaves out what was never part of the stack.
    const DEPTH: usize = 256 << 10;
    /// No frame of ours is further from the stack's end, and the kernel maps nothing else that close below it.
    const HEIGHT: usize = 1 << 20;
    let here = 0_u8;
    // Two pages of room for this frame, for the call below and for what the ABI lets it use.
    let top = ((&raw const here) as usize / PAGE - 2) * PAGE;
    // Only the main thread's is known; any other one has nothing below that is surely its own.
    if top >= end || end - top > HEIGHT {
        return;
    }
    // SAFETY: the pages belong to this thread's stack, or to nobody, and lie at least a page below this frame: no live
    // object is there, and no signal handler of this program runs on it. They read as zeros when they are used again.
    unsafe { libc::madvise((top - DEPTH) as *mut libc::c_void, DEPTH, libc::MADV_DONTNEED) };
}

/// A mapping's first line in smaps: `Some(Some(range))` for a read-only one of a file, `Some(None)` for another one,
/// `None` where the line is none.
fn file_mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let range = range_of(line)?;
    let mut words = line.split_ascii_whitespace().skip(1);
    let flags = words.next()?;
    let is_file = words.nth(2).is_some_and(|inode| inode != "0");
    Some((is_file && flags.starts_with("r-") && flags.ends_with('p')).then_some(range))
}

fn range_of(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_ascii_whitespace().next()?.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unwritable_mappings_of_files() {
        let text = "7f8624611000-7f86248ae000 r-xp 00011000 fe:00 10223686   /bin/shim";
        assert_eq!(file_mapping(text), Some(Some((0x7f86_2461_1000, 0x7f86_248a_e000))));
        assert_eq!(file_mapping("55555789-55555889 rw-p 00000000 00:00 0 [heap]"), Some(None));
        assert_eq!(file_mapping("55555789-55555889 r-xp 00000000 00:00 0 [vdso]"), Some(None));
        assert_eq!(file_mapping("Rss:   4 kB"), None);
        assert_eq!(file_mapping("THPeligible:           0"), None);
    }

    #[test]
    fn the_program_goes_on() {
        forget_text().unwrap();
        assert_eq!("constants are back".len(), 18);
    }
}
