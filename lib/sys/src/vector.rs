//! Bytes looked for in blocks of 64, with the processor's vector instructions: one bit for each byte.

/// As many bytes as are looked at together.
pub const BLOCK: usize = 64;

/// The bytes from `at` on, and zeros where there are no more.
#[inline]
#[must_use]
pub fn block(bytes: &[u8], at: usize) -> [u8; BLOCK] {
    let rest = bytes.get(at..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return *block;
    }
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// Which bytes of a block are `byte`; the lowest bit is the first one's.
#[inline]
#[must_use]
pub fn find(block: &[u8; BLOCK], byte: u8) -> u64 {
    by_lanes(block, |lane| lane::find(lane, byte))
}

/// Which bytes of a block are no ASCII, are below `low` (which is), or are one of `others`.
#[inline]
#[must_use]
pub fn find_unusual(block: &[u8; BLOCK], low: u8, others: [u8; 2]) -> u64 {
    by_lanes(block, |lane| lane::find_unusual(lane, low, others))
}

#[inline]
fn by_lanes(block: &[u8; BLOCK], look: impl Fn(&[u8; 16]) -> u16) -> u64 {
    let (lanes, _) = block.as_chunks();
    lanes.iter().rev().fold(0, |found, lane| found << 16 | u64::from(look(lane)))
}

#[cfg(target_arch = "x86_64")]
mod lane {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_cmplt_epi8, _mm_movemask_epi8, _mm_or_si128, _mm_set_epi64x,
        _mm_set1_epi8,
    };

    #[inline]
    pub fn find(lane: &[u8; 16], byte: u8) -> u16 {
        // SAFETY: SSE2 is part of every processor of this architecture.
        unsafe { sse2_find(lane, byte) }
    }

    #[inline]
    pub fn find_unusual(lane: &[u8; 16], low: u8, others: [u8; 2]) -> u16 {
        // SAFETY: as above.
        unsafe { sse2_find_unusual(lane, low, others) }
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn sse2_find(lane: &[u8; 16], byte: u8) -> u16 {
        bits(_mm_cmpeq_epi8(load(lane), all(byte)))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn sse2_find_unusual(lane: &[u8; 16], low: u8, [one, other]: [u8; 2]) -> u16 {
        let bytes = load(lane);
        // With a sign, what is no ASCII is below zero.
        let below = _mm_cmplt_epi8(bytes, all(low));
        let equal = _mm_or_si128(_mm_cmpeq_epi8(bytes, all(one)), _mm_cmpeq_epi8(bytes, all(other)));
        bits(_mm_or_si128(below, equal))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn load(lane: &[u8; 16]) -> __m128i {
        let (halves, _) = lane.as_chunks();
        _mm_set_epi64x(i64::from_le_bytes(halves[1]), i64::from_le_bytes(halves[0]))
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn all(byte: u8) -> __m128i {
        _mm_set1_epi8(byte.cast_signed())
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn bits(found: __m128i) -> u16 {
        u16::try_from(_mm_movemask_epi8(found) & 0xffff).unwrap_or_default()
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod lane {
    pub use super::one_by_one::{find, find_unusual};
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod one_by_one {
    pub fn find(lane: &[u8; 16], byte: u8) -> u16 {
        bits(lane, |it| it == byte)
    }

    pub fn find_unusual(lane: &[u8; 16], low: u8, others: [u8; 2]) -> u16 {
        bits(lane, |it| !it.is_ascii() || it < low || others.contains(&it))
    }

    fn bits(lane: &[u8; 16], is_found: impl Fn(u8) -> bool) -> u16 {
        lane.iter().rev().fold(0, |bits, &byte| bits << 1 | u16::from(is_found(byte)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_at_every_place_and_no_other() {
        for byte in 0..=u8::MAX {
            for place in 0..BLOCK {
                let mut bytes = [b'x'; BLOCK];
                bytes[place] = byte;
                let by_one = by_lanes(&bytes, |lane| one_by_one::find(lane, b'\n'));
                assert_eq!(find(&bytes, b'\n'), by_one, "{byte} at {place}");
                let by_one = by_lanes(&bytes, |lane| one_by_one::find_unusual(lane, b' ', *b"\"\\"));
                assert_eq!(find_unusual(&bytes, b' ', *b"\"\\"), by_one, "{byte} at {place}");
                assert_eq!(find(&bytes, byte) >> place & 1, 1);
            }
        }
    }

    #[test]
    fn behind_the_end_are_zeros() {
        let bytes: Vec<u8> = (1..=100).collect();
        assert_eq!(block(&bytes, 36)[..], bytes[36..]);
        assert_eq!(block(&bytes, 90)[..12], [91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 0, 0]);
        assert_eq!((block(&bytes, 100), block(&bytes, 200)), ([0; BLOCK], [0; BLOCK]));
    }
}
