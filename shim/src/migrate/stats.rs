//! CRIU's `stats-dump` and `stats-restore`: what it counted, for `--print-stats`.
//!
//! Two magic numbers, a length, and a protobuf message (CRIU's images/stats.proto): field 1 is of a dump, field 2 of a
//! restore; in them varints.

use std::path::Path;

use serde_json::{Map, Value, json};

const DUMP: &[(u64, &str)] = &[
    (1, "freezing_time"),
    (2, "frozen_time"),
    (3, "memdump_time"),
    (4, "memwrite_time"),
    (5, "pages_scanned"),
    (7, "pages_written"),
];

const RESTORE: &[(u64, &str)] = &[
    (1, "pages_compared"),
    (2, "pages_skipped_cow"),
    (3, "forking_time"),
    (4, "restore_time"),
    (5, "pages_restored"),
];

/// What stands in `file`; nothing where there is none, or it is no such file.
pub fn read(file: &Path) -> Value {
    let Ok(bytes) = std::fs::read(file) else { return Value::Null };
    parse(&bytes).map_or(Value::Null, Value::Object)
}

/// What `--print-stats` shows: how long it took in microseconds, by container what CRIU counted.
pub fn shown(verb: &str, total: u128, containers: &[Value]) -> Value {
    json!({ format!("podman_{verb}_duration"): total, "container_statistics": containers })
}

fn parse(bytes: &[u8]) -> Option<Map<String, Value>> {
    // The service magic came with CRIU 1.8; both are four bytes.
    let body = bytes.get(12..)?;
    let (key, rest) = varint(body)?;
    let names = match key >> 3 {
        1 => DUMP,
        2 => RESTORE,
        _ => return None,
    };
    let (length, rest) = varint(rest)?;
    let mut rest = rest.get(..usize::try_from(length).ok()?)?;
    let mut found = Map::new();
    while !rest.is_empty() {
        let (key, after) = varint(rest)?;
        let (value, after) = varint(after)?;
        // All fields are numbers.
        if key & 7 != 0 {
            return None;
        }
        if let Some((_, name)) = names.iter().find(|(number, _)| *number == key >> 3) {
            found.insert((*name).to_owned(), value.into());
        }
        rest = after;
    }
    Some(found)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at).min(63);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_dump() {
        let mut file = vec![0; 12];
        file.extend([0x0a, 5, 0x08, 0x96, 0x01, 0x38, 7]);
        let found = parse(&file).unwrap();
        assert_eq!((found["freezing_time"].as_u64(), found["pages_written"].as_u64()), (Some(150), Some(7)));
        for end in 12..file.len() {
            assert!(parse(&file[..end]).is_none(), "{end}");
        }
        assert!(parse(&[0xff; 40]).is_none());
    }
}
