//! Memory that a process which sleeps for days need not hold (madvise(2)).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};

/// Lets go of this program's text and constants, pages that came from its file, unchanged, and of the stack below the
/// caller, where nothing lives. What is used again comes back, a few pages at a time.
///
/// # Errors
/// `/proc` is not mounted.
pub fn forget_text() -> io::Result<()> {
    // Line by line: the whole list would leave more pages behind than it lets go.
    let mut list = BufReader::with_capacity(2048, File::open("/proc/self/smaps")?);
    let (mut line, mut mapping) = (String::with_capacity(256), None);
    while list.read_line(&mut line)? > 0 {
        if let Some(found) = file_mapping(&line) {
            mapping = found;
        } else if line.starts_with("Anonymous:")
            && let Some((start, end)) = mapping.take()
            && line.trim_end().ends_with(" 0 kB")
        {
            // SAFETY: the range is a private mapping of a file that is not writable and of which no page was ever
            // changed (no relocation either: nothing anonymous), so the same bytes come back when they are read.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
        line.clear();
    }
    forget_stack();
    Ok(())
}

/// Lets go of the pages of the main thread's stack that deeper calls used. Must not be inlined: what is below this frame
/// is below every frame in use.
#[inline(never)]
fn forget_stack() {
    const PAGE: usize = 4096;
    /// Deeper than anything here goes; the kernel leaves out what was never part of the stack.
    const DEPTH: usize = 256 << 10;
    let here = 0_u8;
    // Two pages of room for this frame, for the call below and for what the ABI lets it use.
    let top = ((&raw const here) as usize / PAGE - 2) * PAGE;
    let Ok(list) = File::open("/proc/self/maps") else { return };
    let stack = BufReader::with_capacity(2048, list).lines().map_while(Result::ok).find_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
        (range.contains(&top) && line.ends_with("[stack]")).then_some(range)
    });
    // Only the main thread's is found; any other one has nothing below that is surely its own.
    let Some(stack) = stack else { return };
    let bottom = stack.start.max(top.saturating_sub(DEPTH));
    // SAFETY: the pages belong to this thread's stack and lie at least a page below this frame: no live object is there,
    // and no signal handler of this program runs on it. They read as zeros when they are used again.
    unsafe { libc::madvise(bottom as *mut libc::c_void, top - bottom, libc::MADV_DONTNEED) };
}

/// A mapping's first line in smaps: `Some(Some(range))` for a read-only one of a file, `Some(None)` for another one,
/// `None` where the line is none.
fn file_mapping(line: &str) -> Option<Option<(usize, usize)>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let range = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let flags = words.next()?;
    let is_file = words.nth(2).is_some_and(|inode| inode != "0");
    Some((is_file && flags.starts_with("r-") && flags.ends_with('p')).then_some(range))
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
