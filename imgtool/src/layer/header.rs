//! The 512-byte tar header block (POSIX ustar, with GNU's binary numbers), decoded and encoded.

use anyhow::{Result, bail, ensure};

/// Size of every tar block.
pub const BLOCK: usize = 512;

/// A decoded header block, before pax records and GNU long names are merged in.
#[derive(Debug, Default)]
pub struct Block {
    /// Name with the ustar prefix already joined.
    pub name: Vec<u8>,
    /// Link target.
    pub link: Vec<u8>,
    /// Type flag as it stands.
    pub flag: u8,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Bytes of content.
    pub size: u64,
    /// Seconds since 1970; may be negative.
    pub mtime: i64,
    /// Device numbers, major and minor.
    pub device: (u32, u32),
}

/// Decodes a block; `None` for the zero block that ends an archive.
///
/// # Errors
/// A wrong checksum, a number that is none, is negative or does not fit.
pub fn decode(raw: &[u8; BLOCK]) -> Result<Option<Block>> {
    if raw.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    check_sum(raw)?;
    let mut name = text(&raw[..100]).to_vec();
    // GNU's own magic ("ustar " and a blank) puts times where POSIX has the prefix.
    if &raw[257..263] == b"ustar\0" && raw[345] != 0 {
        let mut joined = text(&raw[345..500]).to_vec();
        joined.push(b'/');
        joined.append(&mut name);
        name = joined;
    }
    let unsigned = |range: std::ops::Range<usize>, what: &str| -> Result<u64> {
        let value = number(&raw[range], what)?;
        u64::try_from(value).map_err(|_| anyhow::anyhow!("tar header: negative {what}"))
    };
    let small = |range, what: &str| -> Result<u32> {
        u32::try_from(unsigned(range, what)?).map_err(|_| anyhow::anyhow!("tar header: {what} too large"))
    };
    let device = matches!(raw[156], b'3' | b'4');
    Ok(Some(Block {
        name,
        link: text(&raw[157..257]).to_vec(),
        flag: raw[156],
        mode: small(100..108, "mode")? & 0o7777,
        uid: unsigned(108..116, "uid")?,
        gid: unsigned(116..124, "gid")?,
        size: unsigned(124..136, "size")?,
        mtime: number(&raw[136..148], "mtime")?,
        device: if device { (small(329..337, "major")?, small(337..345, "minor")?) } else { (0, 0) },
    }))
}

/// The sum is over unsigned bytes; some old archivers summed signed ones, which Go accepts too.
fn check_sum(raw: &[u8; BLOCK]) -> Result<()> {
    let stored = number(&raw[148..156], "checksum")?;
    let (mut unsigned, mut signed) = (0i64, 0i64);
    for (at, &byte) in raw.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    ensure!(stored == unsigned || stored == signed, "tar header: wrong checksum");
    Ok(())
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// Octal digits with blanks and NULs around them, or GNU's big-endian two's complement with the top bit set.
fn number(field: &[u8], what: &str) -> Result<i64> {
    if field[0] & 0x80 != 0 {
        let negative = field[0] & 0x40 != 0;
        let mut value: i64 = if negative { -1 } else { 0 };
        for (at, &byte) in field.iter().enumerate() {
            let byte = if at == 0 && !negative { byte & 0x7f } else { byte };
            let Some(shifted) = value.checked_mul(256) else { bail!("tar header: {what} too large") };
            value = shifted | i64::from(byte);
        }
        return Ok(value);
    }
    let digits = field.trim_ascii_start();
    let end = digits.iter().position(|&byte| byte == 0 || byte == b' ').unwrap_or(digits.len());
    let mut value = 0i64;
    for &digit in &digits[..end] {
        ensure!((b'0'..=b'7').contains(&digit), "tar header: {what} is no number");
        value = value.checked_mul(8).map_or(i64::MAX, |value| value | i64::from(digit - b'0'));
    }
    Ok(value)
}

/// Encodes a block with its checksum. Numbers that do not fit their field are written as 0: the caller has put
/// them into a pax record before it.
pub fn encode(block: &Block) -> [u8; BLOCK] {
    let mut raw = [0u8; BLOCK];
    put(&mut raw[..100], &block.name);
    octal(&mut raw[100..108], u64::from(block.mode));
    octal(&mut raw[108..116], block.uid);
    octal(&mut raw[116..124], block.gid);
    octal(&mut raw[124..136], block.size);
    octal(&mut raw[136..148], u64::try_from(block.mtime).unwrap_or(0));
    raw[156] = block.flag;
    put(&mut raw[157..257], &block.link);
    raw[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut raw[329..337], u64::from(block.device.0));
    octal(&mut raw[337..345], u64::from(block.device.1));
    raw[148..156].fill(b' ');
    let sum: u64 = raw.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut raw[148..155], sum);
    raw
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}

fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let value = if fits(value, digits) { value } else { 0 };
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

/// Whether `value` fits `digits` octal digits.
pub fn fits(value: u64, digits: usize) -> bool {
    digits * 3 >= 64 || value >> (digits * 3) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let block = Block {
            name: b"a/b".to_vec(),
            flag: b'3',
            mode: 0o4755,
            uid: 7,
            size: 0o77,
            mtime: 5,
            device: (8, 300),
            ..Block::default()
        };
        let back = decode(&encode(&block)).unwrap().unwrap();
        assert_eq!((back.name, back.mode, back.device), (block.name, block.mode, block.device));
        assert!(decode(&[0; BLOCK]).unwrap().is_none());
    }

    #[test]
    fn bad_sums_and_numbers_are_refused() {
        let mut raw = encode(&Block::default());
        raw[0] = b'x';
        assert!(decode(&raw).is_err());
        assert_eq!(number(b"\x80\0\0\0\0\0\x01\0", "n").unwrap(), 256);
        assert_eq!(number(&[0xff; 12], "n").unwrap(), -1);
        assert!(number(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "n").is_err());
        assert!(number(b"12x4567\0", "n").is_err());
    }
}
