//! The system calls by name: their numbers on each architecture, and where a multiplexer carries them.
//!
//! Everything here is made by the compiler from `syscalls.tsv`; the program holds the results alone, column by column,
//! so that a filter for one machine touches a few pages of them.

/// One line per system call: its name and its number on each architecture (`-` where it has none), from the
/// kernel's own `asm/unistd*.h` (Linux 7.0; those of 31-bit s390, which have since gone, from 6.1).
const TABLE: &[u8] = include_bytes!("syscalls.tsv");

/// Lines of the table without its heading.
const CALLS: usize = count();
/// Columns of numbers.
const COLUMNS: usize = 14;
/// All names, one after the other.
static NAMES: [u8; bytes_of_names()] = names();
/// Where each name begins in [`NAMES`], and the last ends.
static STARTS: [u16; CALLS + 1] = starts();
/// The numbers by column; [`NONE`] where the architecture has no such call.
static NUMBERS: [[u16; CALLS]; COLUMNS] = numbers();
/// What `socketcall(2)` (1 and up) or `ipc(2)` ([`IPC`] and up) want as their first argument; 0 for the others.
static CARRIED: [u8; CALLS] = carried();
/// The calls by the hash of their name, counted from 1; 0 marks a free slot.
static SLOTS: [u16; 1024] = slots();

const NONE: u16 = u16::MAX;
/// Stands for [`PRIVATE`] in 16 bits; no table reaches it.
const PRIVATE_MARK: u16 = 0xf000;
/// The first of ARM's private calls.
pub(super) const PRIVATE: u32 = 0x000f_0000;
/// Added to the sub-calls of `ipc(2)` in [`CARRIED`].
const IPC: u8 = 128;

/// The sub-calls of `socketcall(2)` in their order from 1 (`linux/net.h`).
const SOCKETCALL: [&[u8]; 20] = [
    b"socket",
    b"bind",
    b"connect",
    b"listen",
    b"accept",
    b"getsockname",
    b"getpeername",
    b"socketpair",
    b"send",
    b"recv",
    b"sendto",
    b"recvfrom",
    b"shutdown",
    b"setsockopt",
    b"getsockopt",
    b"sendmsg",
    b"recvmsg",
    b"accept4",
    b"recvmmsg",
    b"sendmmsg",
];
/// The sub-calls of `ipc(2)` (`linux/ipc.h`).
const IPC_CALLS: [(&[u8], u8); 12] = [
    (b"semop", 1),
    (b"semget", 2),
    (b"semctl", 3),
    (b"semtimedop", 4),
    (b"msgsnd", 11),
    (b"msgrcv", 12),
    (b"msgget", 13),
    (b"msgctl", 14),
    (b"shmat", 21),
    (b"shmdt", 22),
    (b"shmget", 23),
    (b"shmctl", 24),
];

/// A system call that some architecture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call(u16);

impl Call {
    /// The call of this name.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        let mut slot = hash(name.as_bytes());
        while SLOTS[slot] != 0 {
            let call = Self(SLOTS[slot] - 1);
            if is_same(call.bytes(), name.as_bytes()) {
                return Some(call);
            }
            slot = (slot + 1) % SLOTS.len();
        }
        None
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        std::str::from_utf8(self.bytes()).unwrap_or_default()
    }

    fn bytes(self) -> &'static [u8] {
        let index = usize::from(self.0);
        &NAMES[usize::from(STARTS[index])..usize::from(STARTS[index + 1])]
    }

    /// Its number in a column of the table.
    pub(super) fn number(self, column: usize) -> Option<u32> {
        match NUMBERS[column][usize::from(self.0)] {
            NONE => None,
            number if number >= PRIVATE_MARK => Some(PRIVATE + u32::from(number - PRIVATE_MARK)),
            number => Some(number.into()),
        }
    }

    /// The call that carries it where calls are multiplexed, and what selects it there.
    pub(super) fn carrier(self) -> Option<(&'static str, u32)> {
        match CARRIED[usize::from(self.0)] {
            0 => None,
            ipc if ipc >= IPC => Some(("ipc", u32::from(ipc - IPC))),
            socket => Some(("socketcall", socket.into())),
        }
    }

    /// All of them.
    #[cfg(test)]
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (0..u16::try_from(CALLS).unwrap()).map(Self)
    }
}

/// The slot of a name: FNV-1a, but of eight bytes at a time, for a profile has hundreds of names.
const fn hash(mut text: &[u8]) -> usize {
    let (mut hash, mut rest) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while let Some((word, more)) = text.split_first_chunk() {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        text = more;
    }
    while let Some((&byte, more)) = text.split_first() {
        rest = rest << 8 | byte as u64;
        text = more;
    }
    hash = (hash ^ rest).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 54) as usize
}

/// What `==` says, but eight bytes at a time: musl's memcmp(3) looks at each.
fn is_same(mut one: &[u8], mut other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    while let (Some((word, more)), Some((other_word, other_more))) =
        (one.split_first_chunk::<8>(), other.split_first_chunk::<8>())
    {
        if u64::from_ne_bytes(*word) != u64::from_ne_bytes(*other_word) {
            return false;
        }
        (one, other) = (more, other_more);
    }
    one.iter().zip(other).all(|(byte, other)| byte == other)
}

/// Where the line after the one at `at` begins.
const fn next_line(mut at: usize) -> usize {
    while TABLE[at] != b'\n' {
        at += 1;
    }
    at + 1
}

/// Where the field at `at` ends.
const fn end_of_field(mut at: usize) -> usize {
    while TABLE[at] != b'\t' && TABLE[at] != b'\n' {
        at += 1;
    }
    at
}

const fn count() -> usize {
    let (mut at, mut count) = (next_line(0), 0);
    while at < TABLE.len() {
        count += 1;
        at = next_line(at);
    }
    count
}

const fn bytes_of_names() -> usize {
    let (mut at, mut bytes) = (next_line(0), 0);
    while at < TABLE.len() {
        bytes += end_of_field(at) - at;
        at = next_line(at);
    }
    bytes
}

const fn names() -> [u8; bytes_of_names()] {
    let mut names = [0; bytes_of_names()];
    let (mut at, mut to) = (next_line(0), 0);
    while at < TABLE.len() {
        let end = end_of_field(at);
        while at < end {
            names[to] = TABLE[at];
            (at, to) = (at + 1, to + 1);
        }
        at = next_line(at);
    }
    names
}

#[allow(clippy::cast_possible_truncation)]
const fn starts() -> [u16; CALLS + 1] {
    assert!(bytes_of_names() < u16::MAX as usize, "a start no longer fits");
    let mut starts = [0; CALLS + 1];
    let (mut at, mut index) = (next_line(0), 0);
    while at < TABLE.len() {
        starts[index + 1] = starts[index] + (end_of_field(at) - at) as u16;
        index += 1;
        at = next_line(at);
    }
    starts
}

#[allow(long_running_const_eval)]
const fn numbers() -> [[u16; CALLS]; COLUMNS] {
    let mut numbers = [[NONE; CALLS]; COLUMNS];
    let (mut at, mut index) = (next_line(0), 0);
    while at < TABLE.len() {
        let mut column = 0;
        at = end_of_field(at);
        while column < COLUMNS {
            let end = end_of_field(at + 1);
            if TABLE[at + 1] != b'-' {
                numbers[column][index] = number(at + 1, end);
            }
            at = end;
            column += 1;
        }
        assert!(TABLE[at] == b'\n', "a line has more columns than the others");
        at += 1;
        index += 1;
    }
    numbers
}

#[allow(clippy::cast_possible_truncation)]
const fn number(mut at: usize, end: usize) -> u16 {
    let mut number: u32 = 0;
    while at < end {
        number = number * 10 + (TABLE[at] - b'0') as u32;
        at += 1;
    }
    if number >= PRIVATE {
        return PRIVATE_MARK + (number - PRIVATE) as u16;
    }
    assert!(number < PRIVATE_MARK as u32, "a number no longer fits");
    number as u16
}

#[allow(clippy::cast_possible_truncation)]
const fn carried() -> [u8; CALLS] {
    let mut carried = [0; CALLS];
    let (mut at, mut index) = (next_line(0), 0);
    while at < TABLE.len() {
        let mut which = 0;
        while which < SOCKETCALL.len() {
            if is_at(SOCKETCALL[which], at) {
                carried[index] = which as u8 + 1;
            }
            which += 1;
        }
        which = 0;
        while which < IPC_CALLS.len() {
            if is_at(IPC_CALLS[which].0, at) {
                carried[index] = IPC + IPC_CALLS[which].1;
            }
            which += 1;
        }
        index += 1;
        at = next_line(at);
    }
    carried
}

/// Whether the field at `at` is this name.
const fn is_at(name: &[u8], at: usize) -> bool {
    if end_of_field(at) - at != name.len() {
        return false;
    }
    let mut offset = 0;
    while offset < name.len() {
        if TABLE[at + offset] != name[offset] {
            return false;
        }
        offset += 1;
    }
    true
}

#[allow(long_running_const_eval, clippy::cast_possible_truncation)]
const fn slots() -> [u16; 1024] {
    let mut slots = [0; 1024];
    let (mut at, mut index) = (next_line(0), 0);
    while at < TABLE.len() {
        let mut slot = hash(TABLE.split_at(end_of_field(at)).0.split_at(at).1);
        while slots[slot] != 0 {
            slot = (slot + 1) % slots.len();
        }
        index += 1;
        slots[slot] = index;
        at = next_line(at);
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_say_what_the_text_says() {
        let text = std::str::from_utf8(TABLE).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().skip(1).map(|line| line.split('\t').collect()).collect();
        assert!(lines.len() > 500);
        for line in &lines {
            let call = Call::find(line[0]).unwrap();
            assert_eq!(call.name(), line[0]);
            for (column, field) in line[1..].iter().enumerate() {
                assert_eq!(call.number(column), field.parse().ok(), "{line:?} column {column}");
            }
        }
        assert_eq!(
            Call::all().map(Call::name).collect::<Vec<_>>(),
            lines.iter().map(|line| line[0]).collect::<Vec<_>>()
        );
    }

    #[test]
    fn other_words_are_no_calls() {
        assert!(["rea", "readd", "", "# name", "-"].iter().all(|name| Call::find(name).is_none()));
    }

    #[test]
    fn carriers() {
        let carrier = |name| Call::find(name).unwrap().carrier();
        assert_eq!(carrier("socket"), Some(("socketcall", 1)));
        assert_eq!(carrier("sendmmsg"), Some(("socketcall", 20)));
        assert_eq!(carrier("shmat"), Some(("ipc", 21)));
        assert_eq!(carrier("read"), None);
    }
}
