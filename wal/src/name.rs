//! Names of the files in a log's directory.

use std::fmt;

/// The name of a segment file: `%016x-%016x.wal`, its sequence number and the first index it may hold.
///
/// Ordered by sequence number, then index, which is also the order of the names as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// Position of the segment in the log: 0, 1, 2, … without holes.
    pub seq: u64,
    /// Index of the first entry that the segment may hold.
    pub index: u64,
}

impl SegmentName {
    /// Parses a file name; `None` for any other file (only lower-case, zero-padded names count, as etcd writes them).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let (seq, index) = name.strip_suffix(".wal")?.split_once('-')?;
        Some(Self { seq: parse_hex16(seq)?, index: parse_hex16(index)? })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.seq, self.index)
    }
}

fn parse_hex16(text: &str) -> Option<u64> {
    let valid = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if valid { u64::from_str_radix(text, 16).ok() } else { None }
}

/// Whether the name is that of a segment that is being prepared (`0.tmp`, `1.tmp`).
pub(crate) fn is_prepared(name: &str) -> bool {
    name.strip_suffix(".tmp").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let name = SegmentName { seq: 0xab, index: u64::MAX };
        assert_eq!(name.to_string(), "00000000000000ab-ffffffffffffffff.wal");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
    }

    #[test]
    fn other_names_are_not_segments() {
        for name in [
            "",
            ".wal",
            "0.tmp",
            "0-0.wal",
            "00000000000000AB-0000000000000000.wal",
            "0000000000000000-0000000000000000.wal.broken",
            "+000000000000000-0000000000000000.wal",
            "0000000000000000_0000000000000000.wal",
            "0000000000000000-0000000000000000-0.wal",
        ] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
        assert!(is_prepared("0.tmp") && is_prepared("12.tmp"));
        assert!(!is_prepared(".tmp") && !is_prepared("x.tmp") && !is_prepared("0.tmp.wal"));
    }
}
