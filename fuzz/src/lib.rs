//! What several fuzz targets share: damage done to a real file, as the fuzzer's input dictates.
//!
//! What may not live here: knowledge of any one format.

use arbitrary::Arbitrary;

/// One piece of damage to a file.
#[derive(Arbitrary, Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Overwrites the byte at `at`.
    Byte {
        /// Offset, taken modulo the file's length.
        at: u32,
        /// The new value.
        to: u8,
    },
    /// Overwrites the eight bytes from `at`, which is where formats keep lengths, ids and checksums.
    Word {
        /// Offset, taken modulo the file's length.
        at: u32,
        /// The new value, little-endian.
        to: u64,
    },
    /// Copies the 4,096-byte page `from` over the page `to`: valid content in the wrong place.
    Page {
        /// Page number, taken modulo the number of whole pages.
        from: u16,
        /// Page number, taken modulo the number of whole pages.
        to: u16,
    },
    /// Cuts the file.
    Truncate {
        /// The new length, taken modulo the old one.
        len: u32,
    },
}

const PAGE: usize = 4096;

/// Applies `edits` to `file` in order. An edit that has no place in the file (because it is empty, or shorter than a
/// page) does nothing.
pub fn damage(mut file: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let len = file.len();
        if len == 0 {
            break;
        }
        match *edit {
            Edit::Byte { at, to } => file[at as usize % len] = to,
            Edit::Word { at, to } => {
                let at = at as usize % len;
                let end = len.min(at + 8);
                file[at..end].copy_from_slice(&to.to_le_bytes()[..end - at]);
            }
            Edit::Page { from, to } if len >= PAGE => {
                let pages = len / PAGE;
                let from = from as usize % pages * PAGE;
                file.copy_within(from..from + PAGE, to as usize % pages * PAGE);
            }
            Edit::Page { .. } => {}
            Edit::Truncate { len: to } => file.truncate(to as usize % len),
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_edit_hits_the_place_it_names() {
        let file: Vec<u8> = (0..3 * PAGE).map(|i| (i / PAGE) as u8).collect();
        let edits = [
            Edit::Page { from: 2, to: 0 },
            Edit::Byte { at: 5, to: 0xaa },
            Edit::Word { at: 3 * PAGE as u32 - 4, to: 0x0807_0605_0403_0201 },
        ];
        let damaged = damage(file, &edits);
        assert_eq!(damaged[..6], [2, 2, 2, 2, 2, 0xaa]);
        assert_eq!(damaged[PAGE], 1);
        assert_eq!(damaged[3 * PAGE - 5..], [2, 1, 2, 3, 4]);
        assert_eq!(damage(damaged, &[Edit::Truncate { len: 7 }]).len(), 7);
    }

    #[test]
    fn an_empty_file_stays_empty() {
        assert_eq!(damage(Vec::new(), &[Edit::Byte { at: 9, to: 1 }]), Vec::<u8>::new());
    }
}
