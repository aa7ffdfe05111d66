//! Reading one segment: frame by frame, with bounded memory, checking everything and telling a torn end from damage.
//!
//! Knows frames, CRCs and the traces of power cuts. What the records mean together is `records`' business.
//!
//! # Torn or damaged
//!
//! A power cut can leave any of the 512-byte sectors of the last, unsynced write unwritten, and those still hold the
//! zeros of preallocation, up to the sector's end. So, in the last segment only, a record that does not add up *and*
//! reaches into an all-zero sector is the torn end of the log; any other that does not add up is damage. Length fields
//! lie within one sector: they are there or are zero, never half.
//!
//! A sound record can hold a sector of zeros too, and one flipped bit would make it pass for torn, with all that
//! follows. Therefore records of up to 4 KiB are tried with each of their bits turned over: one that fits the chain then
//! is damaged. (In larger ones chance would fit too often; those with a sector of zeros in them stay ambiguous, and so
//! does a sector whose only set bit is gone.)
//!
//! A zero length field is the ordinary end. It could also be a field in which the one set bit was flipped, hiding all
//! that follows; and a flipped high bit can make a record reach over the end of the file, where it would look cut
//! off. Therefore, before a bad length field is taken for an end, its 64 neighbours are tried: if one of them leads to
//! a record whose CRC fits the chain, the field is damaged.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use stanchion_disk::File;

use crate::crc::Chain;
use crate::entry::Entry;
use crate::error::{Damage, Error, Result, Torn};
use crate::frame::{LENGTH_FIELD_LEN, LengthField, RECORD_HEAD_MAX, parse_head, parse_record};
use crate::record::{BadRecord, Kind, Record};
use crate::torn::{SECTOR_LEN, is_one_bit_off, sector_end, unwritten_sectors};

/// How much is read at once. Larger records get a block of their own size, which the file's length bounds.
const BLOCK_LEN: usize = 1 << 20;

/// What comes next in a segment.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record, at the offset of its frame.
    Record { offset: u64, record: Record },
    /// No more records: the end that a writer left.
    End { offset: u64 },
    /// No more records: the end that a power cut left.
    Torn { offset: u64, torn: Torn },
}

/// Reads the frames of one segment.
#[derive(Debug)]
pub(crate) struct SegmentReader {
    file: Arc<dyn File>,
    path: PathBuf,
    /// Length of the file when it was last looked at.
    file_len: u64,
    /// Offset of the next frame. Always a multiple of 8 in what a writer left.
    offset: u64,
    /// Bytes of the file from `block_offset` on.
    block: Bytes,
    block_offset: u64,
    /// CRC over all payloads before `offset`; `None` until a record tells it.
    chain: Option<Chain>,
}

impl SegmentReader {
    /// Starts at the segment's head. `crc` is the value at the end of the segment before, if that was read.
    pub(crate) fn new(file: Arc<dyn File>, path: PathBuf, crc: Option<u32>) -> Result<Self> {
        let file_len = file.len().map_err(|e| Error::io("read the length of", &path, e))?;
        Ok(Self {
            file,
            path,
            file_len,
            offset: 0,
            block: Bytes::new(),
            block_offset: 0,
            chain: crc.map(Chain::from_value),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file_len(&self) -> u64 {
        self.file_len
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The CRC over all payloads so far, if any record told where it starts.
    pub(crate) fn crc(&self) -> Option<u32> {
        self.chain.as_ref().map(Chain::value)
    }

    /// Looks at the file again: a writer may have appended.
    pub(crate) fn refresh(&mut self) -> Result<()> {
        self.file_len = self.file.len().map_err(|e| Error::io("read the length of", &self.path, e))?;
        self.block = Bytes::new();
        Ok(())
    }

    /// The next record, or how the segment ends. After an end or an error it answers the same again.
    #[inline]
    pub(crate) fn next(&mut self, is_last: bool) -> Result<Step> {
        let offset = self.offset;
        let left = self.file_len.saturating_sub(offset);
        if left == 0 {
            return Ok(Step::End { offset });
        }
        if left < LENGTH_FIELD_LEN as u64 {
            // Zeros there are the rest of preallocated space, cut to an odd length; anything else was a field.
            let start = self.fill(left as usize)?;
            let rest_is_zero = self.block[start..].iter().all(|b| *b == 0);
            let torn = Torn::LengthField { found: left };
            return if rest_is_zero { Ok(Step::End { offset }) } else { self.torn(torn, is_last) };
        }
        let raw = self.read_length_field()?;
        if raw == 0 {
            return self.end_or_hidden(is_last);
        }
        let field = LengthField::from_raw(raw);
        let room = left - LENGTH_FIELD_LEN as u64;
        if field.body_len() > room {
            self.check_length_field(raw)?;
            return self.torn(Torn::Short { expected: field.body_len(), found: room }, is_last);
        }
        let body = self.read_body(field)?;
        match self.check(body.clone(), field) {
            Ok(record) => {
                self.offset = offset + LENGTH_FIELD_LEN as u64 + field.body_len();
                Ok(Step::Record { offset, record })
            }
            Err(unsound) => self.not_a_record(raw, unsound, is_last),
        }
    }

    /// The next record if it is an entry in its usual form that stands whole in the block, as nearly all are in a log of
    /// small entries: the same checks as [`SegmentReader::next`] without its case distinctions, which would move each
    /// entry several times. `None` leaves everything as it was, for `next` to judge.
    #[inline]
    pub(crate) fn next_usual_entry(&mut self) -> Option<Entry> {
        let start = usize::try_from(self.offset.checked_sub(self.block_offset)?).ok()?;
        let (raw, body) = self.block.get(start..)?.split_first_chunk::<LENGTH_FIELD_LEN>()?;
        let field = LengthField::from_raw(u64::from_le_bytes(*raw));
        if !field.well_formed || field.body_len() > body.len() as u64 {
            return None;
        }
        let record = parse_record(&body[..field.record_len as usize]).ok()?;
        let payload = record.payload.filter(|_| record.kind == Kind::Entry as u64)?;
        let chain = self.chain.as_mut()?;
        let before = chain.value();
        chain.update(payload);
        let entry =
            if chain.value() == record.crc { Entry::decode_usual(&self.block, payload) } else { None };
        if entry.is_some() {
            self.offset += LENGTH_FIELD_LEN as u64 + field.body_len();
        } else {
            *chain = Chain::from_value(before);
        }
        entry
    }

    /// What a frame with this length field is when its body, which is in the file, holds no record: a torn end or
    /// damage.
    #[cold]
    fn not_a_record(&mut self, raw: u64, unsound: Unsound, is_last: bool) -> Result<Step> {
        let offset = self.offset;
        match unsound {
            Unsound::Unreadable(damage) => {
                self.check_length_field(raw)?;
                if is_last && self.is_torn(LengthField::from_raw(raw))? {
                    return Ok(Step::Torn { offset, torn: Torn::UnwrittenSector });
                }
                Err(self.damaged(damage))
            }
            Unsound::Meaning(BadRecord::UnknownKind(kind)) => {
                Err(Error::UnknownRecordType { path: self.path.clone(), offset, kind })
            }
            Unsound::Meaning(BadRecord::Payload(what)) => Err(self.damaged(Damage::Payload(what))),
        }
    }

    /// Whether the unsound record at the current offset is what a power cut left of one.
    fn is_torn(&mut self, field: LengthField) -> Result<bool> {
        if field.record_len == 0 {
            // A record of no bytes: only the field itself was hit, in what was never written.
            return Ok(true);
        }
        let body_offset = self.offset + LENGTH_FIELD_LEN as u64;
        let sectors_end = sector_end(body_offset + field.body_len(), self.file_len);
        let start = self.fill((sectors_end - self.offset) as usize)? + LENGTH_FIELD_LEN;
        let bytes = &self.block[start..start + (sectors_end - body_offset) as usize];
        let unwritten = unwritten_sectors(bytes, body_offset);
        let record = &bytes[..field.record_len.min(field.body_len()) as usize];
        Ok(!unwritten.is_empty()
            && !is_one_bit_off(record, &unwritten, |record| self.continues_chain(record)))
    }

    /// Whether these bytes are a record with the CRC that must come next.
    fn continues_chain(&self, record: &[u8]) -> bool {
        let (Some(mut chain), Ok(record)) = (self.chain.clone(), parse_record(record)) else { return false };
        chain.update(record.payload.unwrap_or(&[]));
        chain.value() == record.crc
    }

    /// An error about the frame at the current offset.
    fn damaged(&self, damage: Damage) -> Error {
        Error::Damaged { path: self.path.clone(), offset: self.offset, damage }
    }

    fn torn(&self, torn: Torn, is_last: bool) -> Result<Step> {
        if is_last {
            Ok(Step::Torn { offset: self.offset, torn })
        } else {
            Err(self.damaged(Damage::Torn(torn)))
        }
    }

    fn read_length_field(&mut self) -> Result<u64> {
        let start = self.fill(LENGTH_FIELD_LEN)?;
        let mut raw = [0; LENGTH_FIELD_LEN];
        raw.copy_from_slice(&self.block[start..start + LENGTH_FIELD_LEN]);
        Ok(u64::from_le_bytes(raw))
    }

    /// Where in the block record and padding of the frame at the current offset stand; the caller has checked that
    /// the file holds them.
    fn read_body(&mut self, field: LengthField) -> Result<Range<usize>> {
        let frame_len = usize::try_from(LENGTH_FIELD_LEN as u64 + field.body_len())
            .map_err(|_| self.damaged(Damage::Record("a record larger than the address space")))?;
        let start = self.fill(frame_len)?;
        Ok(start + LENGTH_FIELD_LEN..start + frame_len)
    }

    /// Makes sure that `len` bytes from the current offset on are in the block; returns where they start in it.
    /// The caller has checked that the file holds them.
    #[inline]
    fn fill(&mut self, len: usize) -> Result<usize> {
        let held_to = self.block_offset + self.block.len() as u64;
        if self.offset < self.block_offset || self.offset + len as u64 > held_to {
            self.read_block(len)?;
        }
        Ok((self.offset - self.block_offset) as usize)
    }

    /// Reads a block of at least `len` bytes at the current offset.
    #[cold]
    fn read_block(&mut self, len: usize) -> Result<()> {
        let left = usize::try_from(self.file_len - self.offset).unwrap_or(usize::MAX);
        let block_len = len.max(BLOCK_LEN).min(left);
        // The block is used again when no entry that was handed out still points into it.
        let old = std::mem::take(&mut self.block);
        let mut block = old.try_into_mut().unwrap_or_else(|_| BytesMut::new());
        block.resize(block_len, 0);
        self.file.read_exact_at(&mut block, self.offset).map_err(|e| Error::io("read", &self.path, e))?;
        self.block = block.freeze();
        self.block_offset = self.offset;
        Ok(())
    }

    /// Checks form, CRC and meaning of a frame's body in the block; the chain moves on only if all is well.
    #[inline]
    fn check(&mut self, body: Range<usize>, field: LengthField) -> std::result::Result<Record, Unsound> {
        if !field.well_formed {
            let found = self.raw_length_field();
            return Err(Unsound::Unreadable(Damage::Length { found, expected: None }));
        }
        let bytes = &self.block[body][..field.record_len as usize];
        let raw = parse_record(bytes).map_err(|what| Unsound::Unreadable(Damage::Record(what)))?;
        let before = self.chain.as_ref().map(Chain::value);
        // Where no value is known yet, a CRC record sets it.
        let start = if raw.kind == Kind::Crc as u64 { raw.crc } else { 0 };
        let chain = self.chain.get_or_insert_with(|| Chain::from_value(start));
        chain.update(raw.payload.unwrap_or(&[]));
        let expected = chain.value();
        let result = if expected == raw.crc {
            let payload = raw.payload.map(|payload| self.block.slice_ref(payload));
            Record::from_parts(raw.kind, raw.crc, payload).map_err(Unsound::Meaning)
        } else {
            Err(Unsound::Unreadable(Damage::Crc { expected, found: raw.crc }))
        };
        if result.is_err() {
            self.chain = before.map(Chain::from_value);
        }
        result
    }

    fn raw_length_field(&self) -> u64 {
        let start = (self.offset - self.block_offset) as usize;
        let mut raw = [0; LENGTH_FIELD_LEN];
        raw.copy_from_slice(&self.block[start..start + LENGTH_FIELD_LEN]);
        u64::from_le_bytes(raw)
    }

    /// A zero length field: the end of the segment, unless a record hides behind it.
    fn end_or_hidden(&mut self, is_last: bool) -> Result<Step> {
        let offset = self.offset;
        match self.check_length_field(0) {
            Ok(()) => Ok(Step::End { offset }),
            // The field is the last of its sector and the record lies in the next: a power cut can take the one
            // and leave the other.
            Err(Error::Damaged { damage: Damage::Length { .. }, .. })
                if is_last && (offset + LENGTH_FIELD_LEN as u64).is_multiple_of(SECTOR_LEN) =>
            {
                Ok(Step::Torn { offset, torn: Torn::UnwrittenLengthField })
            }
            Err(error) => Err(error),
        }
    }

    /// Fails if a length field that differs from `raw` in one bit leads to a record that fits the chain.
    fn check_length_field(&mut self, raw: u64) -> Result<()> {
        let room = self.file_len - self.offset - LENGTH_FIELD_LEN as u64;
        let start = self.fill(LENGTH_FIELD_LEN + room.min(RECORD_HEAD_MAX as u64) as usize)?;
        let head = self.block.slice(start + LENGTH_FIELD_LEN..);
        for bit in 0..64 {
            let neighbour = raw ^ 1 << bit;
            let field = LengthField::from_raw(neighbour);
            if neighbour == 0 || !field.well_formed || field.body_len() > room {
                continue;
            }
            let reach = usize::try_from(field.record_len).unwrap_or(usize::MAX).min(head.len());
            if parse_head(&mut &head[..reach], field.record_len).is_err() {
                continue;
            }
            let body = self.read_body(field)?;
            let before = self.crc();
            if self.check(body, field).is_ok() {
                // Only tried, not taken.
                self.chain = before.map(Chain::from_value);
                return Err(self.damaged(Damage::Length { found: raw, expected: Some(neighbour) }));
            }
        }
        Ok(())
    }
}

/// Why a frame's body is not a record.
enum Unsound {
    /// Its form or its CRC is wrong: torn or damaged.
    Unreadable(Damage),
    /// Its CRC is right: what the writer wrote is not understood.
    Meaning(BadRecord),
}
