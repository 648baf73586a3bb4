//! A heap for programs that live for a few milliseconds: musl's own asks the kernel for pages, and gives them back,
//! for nearly every block above a few hundred bytes, which costs more than the work that the blocks are for.
//!
//! Blocks are cut one after the other from the program's own zeroed pages, then from big pieces of `mmap(2)`, in
//! sizes of powers of two. A copy of a program with several threads (`clone3(2)`, `fork(2)`) must not allocate: it could
//! find the lock held for ever. What `std::process::Command` does in one does not, nor do our closures
//! ([`crate::command`]). A freed block goes on its size's list. What is longer than the program says is musl's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::memory::PAGE;

/// Bytes of the smallest block, and the alignment of all.
const SHORTEST: usize = 16;
/// Powers of two from the shortest block to the longest that a program may ask for, 64 KiB.
const SIZES: usize = 13;
/// Bytes of one piece. A page costs nothing until it is touched.
const PIECE: usize = 256 << 10;

/// The allocator, for `#[global_allocator]`, of blocks up to `LONGEST` bytes, a power of two: 64 KiB at most, or a few
/// for a program that lives long, since nothing of them is given back to the kernel. Memory is made `AHEAD` bytes at a
/// time, which takes a fraction of the time of a page at every fault; where less is more, none.
#[derive(Debug)]
pub struct Heap<const LONGEST: usize, const AHEAD: usize = 0> {
    busy: AtomicBool,
    blocks: UnsafeCell<Blocks>,
}

#[derive(Debug)]
struct Blocks {
    next: *mut u8,
    /// How far the piece's pages have been made.
    made: *mut u8,
    end: *mut u8,
    free: [*mut Free; SIZES],
}

/// What stands in a block while nobody owns it.
#[derive(Debug)]
struct Free {
    next: *mut Free,
}

#[repr(align(16))]
pub(crate) struct Piece(UnsafeCell<[u8; PIECE]>);

// SAFETY: only `Blocks::refill` touches it, once, under the lock.
unsafe impl Sync for Piece {}

pub(crate) static FIRST: Piece = Piece(UnsafeCell::new([0; PIECE]));

// SAFETY: `blocks` is touched only while `busy` is held.
unsafe impl<const LONGEST: usize, const AHEAD: usize> Sync for Heap<LONGEST, AHEAD> {}

impl<const LONGEST: usize, const AHEAD: usize> Heap<LONGEST, AHEAD> {
    /// An empty heap. One for a program: all of them would cut from the same first piece.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "there must be one only")]
    pub const fn new() -> Self {
        assert!(LONGEST.is_power_of_two() && LONGEST >> (SIZES - 1) <= SHORTEST, "the lists end before");
        let none = ptr::null_mut();
        let blocks = Blocks { next: none, made: none, end: none, free: [none.cast(); SIZES] };
        Self { busy: AtomicBool::new(false), blocks: UnsafeCell::new(blocks) }
    }

    /// The list that a layout's blocks are on; `None` for what is musl's.
    const fn list(size: usize, align: usize) -> Option<usize> {
        if size > LONGEST || align > SHORTEST {
            return None;
        }
        let size = if size < SHORTEST { SHORTEST } else { size.next_power_of_two() };
        Some((size / SHORTEST).ilog2() as usize)
    }

    fn with<T>(&self, job: impl FnOnce(&mut Blocks) -> T) -> T {
        while self.busy.compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::thread::yield_now();
        }
        // SAFETY: `busy` is ours until it is cleared, and `job`, which is only code of this file, does not allocate.
        let result = job(unsafe { &mut *self.blocks.get() });
        self.busy.store(false, Ordering::Release);
        result
    }
}

impl Blocks {
    /// A block, or null, and whether it has been used before.
    fn take(&mut self, list: usize, ahead: usize) -> (*mut u8, bool) {
        let block = self.free[list];
        if !block.is_null() {
            // SAFETY: blocks on a list are unowned and begin with a `Free`.
            self.free[list] = unsafe { (*block).next };
            return (block.cast(), true);
        }
        let size = SHORTEST << list;
        if self.end as usize - (self.next as usize) < size && !self.refill() {
            return (ptr::null_mut(), false);
        }
        let block = self.next;
        // SAFETY: `size` bytes are left in the piece.
        self.next = unsafe { block.add(size) };
        if ahead > 0 && self.next > self.made {
            self.make(ahead);
        }
        (block, false)
    }

    /// Makes the next `bytes` of the piece. Pages that the kernel does not make now (before Linux 5.14) it makes when
    /// they are touched; so it is with a longer block too, of which perhaps little is used.
    #[cold]
    fn make(&mut self, bytes: usize) {
        let from = self.made as usize & !(PAGE - 1);
        let to = (from + bytes).min(self.end as usize & !(PAGE - 1));
        if to >= self.next as usize {
            // SAFETY: the range is the piece's, or on its first page, and no byte of it changes.
            unsafe { libc::madvise(from as *mut libc::c_void, to - from, libc::MADV_POPULATE_WRITE) };
        }
        self.made = self.next.max(to as *mut u8);
    }

    fn give(&mut self, block: *mut u8, list: usize) {
        let block: *mut Free = block.cast();
        // SAFETY: the block is at least 16 bytes, aligned to 16, and its owner has just given it up.
        unsafe { (*block).next = self.free[list] };
        self.free[list] = block;
    }

    /// Grows the block cut last where it stands.
    fn grow(&mut self, block: *mut u8, from: usize, to: usize) -> bool {
        let is_last = block.wrapping_add(SHORTEST << from) == self.next;
        // Asked last: a block of another piece may lie behind this one's end.
        if is_last && to > from && self.end as usize - block as usize >= SHORTEST << to {
            // SAFETY: as many bytes are left in the piece.
            self.next = unsafe { block.add(SHORTEST << to) };
            return true;
        }
        false
    }

    /// A new piece. What was left of the old one is lost: less than one block.
    fn refill(&mut self) -> bool {
        let piece: *mut u8 = if self.end.is_null() {
            FIRST.0.get().cast()
        } else {
            // SAFETY: asks for fresh pages anywhere.
            let pages = unsafe {
                libc::mmap(
                    ptr::null_mut(),
                    PIECE,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            if pages == libc::MAP_FAILED {
                return false;
            }
            pages.cast()
        };
        (self.next, self.made) = (piece, piece);
        // SAFETY: one past the end of the piece.
        self.end = unsafe { piece.add(PIECE) };
        true
    }
}

// Never inlined: there are thousands of callers.
// SAFETY: blocks are at least as long and as aligned as asked, belong to one owner until given back, and never move;
// nothing here panics, or allocates by this allocator.
unsafe impl<const LONGEST: usize, const AHEAD: usize> GlobalAlloc for Heap<LONGEST, AHEAD> {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Self::list(layout.size(), layout.align()) {
            Some(list) => self.with(|blocks| blocks.take(list, AHEAD)).0,
            // SAFETY: the caller's promises, passed on.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline(never)]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(list) = Self::list(layout.size(), layout.align()) else {
            // SAFETY: the caller's promises, passed on.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let (block, used) = self.with(|blocks| blocks.take(list, AHEAD));
        if used {
            // SAFETY: the block is ours and at least that long. A new one is zeroed, and its pages stay untouched.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Self::list(layout.size(), layout.align()) {
            Some(list) => self.with(|blocks| blocks.give(block, list)),
            // SAFETY: `alloc` of this layout was the system's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let from = Self::list(layout.size(), layout.align());
        let to = Self::list(size, layout.align());
        match (from, to) {
            (None, None) => {
                // SAFETY: the block is the system's, and stays so.
                return unsafe { System.realloc(block, layout, size) };
            }
            (Some(from), Some(to)) if from == to || self.with(|blocks| blocks.grow(block, from, to)) => {
                return block;
            }
            _ => {}
        }
        // SAFETY: the caller promises a size that makes a layout with this alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both are that long, and the new one overlaps no owned block.
            unsafe {
                ptr::copy_nonoverlapping(block, new, layout.size().min(size));
                self.dealloc(block, layout);
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: usize = 64 << 10;
    static HEAP: Heap<LONGEST, { 16 << 10 }> = Heap::new();

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).unwrap()
    }

    #[test]
    fn blocks_do_not_overlap_and_keep_their_bytes() {
        let work = |seed: usize| {
            let mut owned: Vec<(*mut u8, usize, u8)> = Vec::new();
            let mut random = seed;
            for round in 0..20_000_usize {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let size = 1 + (random >> 33) % if round % 50 == 0 { 200_000 } else { 600 };
                let mark = u8::try_from(round % 251).unwrap();
                let check = |(block, size, mark): (*mut u8, usize, u8)| {
                    // SAFETY: ours, and written in full.
                    let bytes = unsafe { std::slice::from_raw_parts(block, size) };
                    assert!(bytes.iter().all(|byte| *byte == mark));
                };
                if owned.len() > 100 {
                    let (block, old, old_mark) = owned.swap_remove(random % 100);
                    check((block, old, old_mark));
                    if round % 2 == 0 {
                        // SAFETY: ours, with its layout.
                        unsafe { HEAP.dealloc(block, layout(old)) };
                        continue;
                    }
                    // SAFETY: ours, with its layout.
                    let block = unsafe { HEAP.realloc(block, layout(old), size) };
                    check((block, old.min(size), old_mark));
                    // SAFETY: `size` bytes are ours.
                    unsafe { block.write_bytes(mark, size) };
                    owned.push((block, size, mark));
                    continue;
                }
                // SAFETY: a layout that is not empty.
                let block = unsafe { HEAP.alloc_zeroed(layout(size)) };
                check((block, size, 0));
                assert_eq!(block as usize % 8, 0);
                // SAFETY: `size` bytes are ours.
                unsafe { block.write_bytes(mark, size) };
                owned.push((block, size, mark));
            }
        };
        std::thread::scope(|scope| {
            for seed in 1..4 {
                scope.spawn(move || work(seed));
            }
        });
    }

    #[test]
    fn sizes_are_powers_of_two_up_to_the_longest() {
        assert_eq!(Heap::<LONGEST>::list(0, 1), Some(0));
        assert_eq!(Heap::<LONGEST>::list(16, 16), Some(0));
        assert_eq!(Heap::<LONGEST>::list(17, 8), Some(1));
        assert_eq!(Heap::<LONGEST>::list(LONGEST, 1), Some(SIZES - 1));
        assert_eq!(Heap::<LONGEST>::list(LONGEST + 1, 1), None);
        assert_eq!(Heap::<LONGEST>::list(1, 32), None);
    }
}
