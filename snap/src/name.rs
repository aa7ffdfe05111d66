//! The names of the files in a snapshot directory.

/// `<term16>-<index16>.snap`: term first, unlike the names of log segments.
pub(crate) fn snapshot(term: u64, index: u64) -> String {
    format!("{term:016x}-{index:016x}.snap")
}

/// `<index16>.snap.db`.
pub(crate) fn database(index: u64) -> String {
    format!("{index:016x}.snap.db")
}

/// Whether this is the name of a snapshot file.
pub(crate) fn is_snapshot(name: &str) -> bool {
    name.strip_suffix(".snap")
        .and_then(|stem| stem.split_once('-'))
        .is_some_and(|(t, i)| is_hex16(t) && is_hex16(i))
}

/// The index in the name of a received database.
pub(crate) fn database_index(name: &str) -> Option<u64> {
    let stem = name.strip_suffix(".snap.db").filter(|stem| is_hex16(stem))?;
    u64::from_str_radix(stem, 16).ok()
}

/// Whether a crash left this file behind: half-received databases, and the target of a defragmentation.
pub(crate) fn is_orphan(name: &str) -> bool {
    name.starts_with("tmp") || name.starts_with("db.tmp")
}

fn is_hex16(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_etcds() {
        assert_eq!(snapshot(2, 11), "0000000000000002-000000000000000b.snap");
        assert!(is_snapshot(&snapshot(2, 11)));
        assert_eq!(database_index(&database(74)), Some(74));
        for name in
            ["db", "0000000000000002-000000000000000b.snap.broken", "2-b.snap", "000000000000004a.snap.db"]
        {
            assert!(!is_snapshot(name), "{name}");
        }
        assert_eq!(database_index("000000000000004A.snap.db"), None);
        assert!(is_orphan("tmp123") && is_orphan("db.tmp.7") && !is_orphan("db"));
    }
}
