//! What a power cut can leave of a record, told from what a flipped bit makes of one.
//!
//! Knows sectors and bits; pure. Where a segment ends is `segment`'s business.

use std::ops::Range;

/// The unit that disks write whole or not at all.
pub(crate) const SECTOR_LEN: u64 = 512;

/// Records up to this size are looked through for a single flipped bit. Of 2^32 torn records one passes for flipped per
/// bit that is tried: in larger records that would be too many.
const SEARCHED_LEN: usize = 4096;

/// Where the sector of the byte before `offset` ends, in a file of `file_len` bytes.
pub(crate) fn sector_end(offset: u64, file_len: u64) -> u64 {
    offset.next_multiple_of(SECTOR_LEN).min(file_len)
}

/// The sectors of the bytes at `file_offset`, as ranges of `bytes`, that hold nothing but zeros. `bytes` reaches to the
/// end of its last sector: what follows a record there shows whether the sector was written.
pub(crate) fn unwritten_sectors(bytes: &[u8], file_offset: u64) -> Vec<Range<usize>> {
    let first_len = ((SECTOR_LEN - file_offset % SECTOR_LEN) as usize).min(bytes.len());
    let starts = (first_len..bytes.len()).step_by(SECTOR_LEN as usize);
    std::iter::once(0..first_len)
        .chain(starts.map(|start| start..bytes.len().min(start + SECTOR_LEN as usize)))
        .filter(|sector| !sector.is_empty() && bytes[sector.clone()].iter().all(|b| *b == 0))
        .collect()
}

/// Whether the record becomes sound by turning one bit over that lies outside `unwritten`: a sector that was never
/// written may well have held a single set bit.
pub(crate) fn is_one_bit_off(
    record: &[u8],
    unwritten: &[Range<usize>],
    is_sound: impl Fn(&[u8]) -> bool,
) -> bool {
    if record.len() > SEARCHED_LEN {
        return false;
    }
    let mut record = record.to_vec();
    (0..record.len()).filter(|byte| !unwritten.iter().any(|sector| sector.contains(byte))).any(|byte| {
        (0..8).any(|bit| {
            record[byte] ^= 1 << bit;
            let sound = is_sound(&record);
            record[byte] ^= 1 << bit;
            sound
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_those_of_the_file_and_whole() {
        let mut bytes = vec![0; 24 + 512 + 100];
        assert_eq!(unwritten_sectors(&bytes, 1000), [0..24, 24..536, 536..636]);
        bytes[30] = 1;
        bytes[635] = 1;
        assert_eq!(unwritten_sectors(&bytes, 1000), std::slice::from_ref(&(0..24)));
        assert_eq!(unwritten_sectors(&[0; 512], 1024), std::slice::from_ref(&(0..512)));
        assert!(unwritten_sectors(&[], 1024).is_empty());
        assert_eq!(
            (sector_end(1030, 4096), sector_end(1024, 4096), sector_end(1030, 1100)),
            (1536, 1024, 1100)
        );
    }

    #[test]
    fn one_bit_is_searched_for_everywhere_but_in_what_was_never_written() {
        let sound = [7, 0, 0, 1];
        let is_sound = |found: &[u8]| found == sound;
        for bit in 0..32 {
            let mut flipped = sound;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(is_one_bit_off(&flipped, &[], is_sound));
        }
        assert!(
            !is_one_bit_off(&[7, 0, 0, 0], std::slice::from_ref(&(2..4)), is_sound),
            "the sector may never have been written"
        );
        assert!(!is_one_bit_off(&[6, 0, 0, 0], &[], is_sound), "two bits");
        assert!(!is_one_bit_off(&[0; SEARCHED_LEN + 1], &[], |_| true));
    }
}
