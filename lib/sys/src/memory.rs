//! Memory that a process which sleeps for days need not hold (madvise(2)).

use std::fs;
use std::io;

/// Lets go of this program's text and constants: pages that came from its file, unchanged. What is used again comes
/// back from the page cache, a few pages at a time.
///
/// # Errors
/// `/proc` is not mounted.
pub fn forget_text() -> io::Result<()> {
    let text = fs::read_to_string("/proc/self/smaps")?;
    let mut mapping = None;
    for line in text.lines() {
        if let Some(found) = file_mapping(line) {
            mapping = found;
        } else if line.starts_with("Anonymous:")
            && let Some((start, end)) = mapping.take()
            && line.ends_with(" 0 kB")
        {
            // SAFETY: the range is a private mapping of a file that is not writable and of which no page was ever
            // changed (no relocation either: nothing anonymous), so the same bytes come back when they are read.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
    Ok(())
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
