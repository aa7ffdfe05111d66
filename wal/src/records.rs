//! Reading all segments of a log as one row of records.
//!
//! Checks what holds between segments: every one starts with a CRC record that continues the chain and with the same
//! metadata, and only the last may have a torn end. Entries' indexes are `replay`'s business.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use stanchion_disk::{Disk, File, OpenOptions};

use crate::dir;
use crate::entry::Entry;
use crate::error::{Damage, Error, Result, Torn};
use crate::name::SegmentName;
use crate::record::Record;
use crate::segment::{SegmentReader, Step};

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The segment.
    pub segment: SegmentName,
    /// Offset of a frame in it, in bytes.
    pub offset: u64,
}

/// Where and how a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Where the next record would stand.
    pub position: Position,
    /// How the last write was cut off; `None` for the end that a writer left.
    pub torn: Option<Torn>,
}

/// The records of a log, one after the other, with their places. Holds about 1 MiB, or the largest record.
///
/// Takes no locks and writes nothing: it may read a log that somebody else is writing, and continue with
/// [`Records::resume`] after the end.
#[derive(Debug)]
pub struct Records {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// All segments to read; never empty.
    segments: Vec<Segment>,
    /// Position in `segments` of the one being read.
    current: usize,
    reader: SegmentReader,
    /// Records read from the current segment so far; its head is checked on the first two.
    count: u64,
    metadata: Option<Bytes>,
    end: Option<End>,
}

/// A segment to read; opened when its turn comes unless the caller holds it open already.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) name: SegmentName,
    pub(crate) file: Option<Arc<dyn File>>,
}

impl Records {
    /// Reads a log from its oldest segment on.
    ///
    /// # Errors
    /// [`Error::NotALog`], [`Error::MissingSegments`], or as the file system.
    pub fn open(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        let names = dir::segments(&*disk, &dir)?;
        dir::check_sequence(&dir, &names)?;
        let segments = names.into_iter().map(|name| Segment { name, file: None }).collect();
        Self::new(disk, dir, segments)
    }

    /// Reads these segments, of which there is at least one.
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segments: Vec<Segment>) -> Result<Self> {
        let reader = open_reader(&*disk, &dir, &segments[0], None)?;
        Ok(Self { disk, dir, segments, current: 0, reader, count: 0, metadata: None, end: None })
    }

    /// The next record and its place; `None` at the end of the log, which [`Records::end`] then describes.
    ///
    /// # Errors
    /// [`Error::Damaged`] and its kin with file and offset. There is nothing to read behind it.
    #[inline]
    pub fn next_record(&mut self) -> Result<Option<(Position, Record)>> {
        if self.end.is_some() {
            return Ok(None);
        }
        loop {
            let is_last = self.current + 1 == self.segments.len();
            match self.reader.next(is_last)? {
                Step::Record { offset, record } => {
                    self.check_head(offset, &record)?;
                    self.count += 1;
                    return Ok(Some((self.position(offset), record)));
                }
                Step::End { offset } => {
                    self.check_head_complete(offset, None)?;
                    if is_last {
                        self.end = Some(End { position: self.position(offset), torn: None });
                        return Ok(None);
                    }
                    self.advance()?;
                }
                Step::Torn { offset, torn } => {
                    self.check_head_complete(offset, Some(torn))?;
                    self.end = Some(End { position: self.position(offset), torn: Some(torn) });
                    return Ok(None);
                }
            }
        }
    }

    /// The next record and its offset if it is an entry in its usual form; `None` leaves it to
    /// [`Records::next_record`]. Never in a segment's head, which is checked there.
    #[inline]
    pub(crate) fn next_usual_entry(&mut self) -> Option<(u64, Entry)> {
        if self.count < 2 || self.end.is_some() {
            return None;
        }
        let offset = self.reader.offset();
        let entry = self.reader.next_usual_entry()?;
        self.count += 1;
        Some((offset, entry))
    }

    /// Where the log ends; `None` before all of it was read.
    #[must_use]
    pub fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// The metadata at the head of the log; `None` before it was read.
    #[must_use]
    pub fn metadata(&self) -> Option<&Bytes> {
        self.metadata.as_ref()
    }

    /// Path of the segment that is being read.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.reader.path()
    }

    /// Makes reading go on after the end, for a log that is being written: looks for new segments and for more
    /// records where the last one ended.
    ///
    /// # Errors
    /// As [`Records::open`].
    pub fn resume(&mut self) -> Result<()> {
        let last = self.segments[self.segments.len() - 1].name;
        let newer: Vec<_> =
            dir::segments(&*self.disk, &self.dir)?.into_iter().filter(|name| *name > last).collect();
        let row: Vec<_> = std::iter::once(last).chain(newer.iter().copied()).collect();
        dir::check_sequence(&self.dir, &row)?;
        self.segments.extend(newer.into_iter().map(|name| Segment { name, file: None }));
        // After the listing: a segment that has a successor does not change any more.
        self.reader.refresh()?;
        self.end = None;
        Ok(())
    }

    /// What a writer needs to append where reading ended.
    pub(crate) fn into_tail(self) -> Tail {
        Tail {
            offset: self.reader.offset(),
            file_len: self.reader.file_len(),
            crc: self.reader.crc().unwrap_or(0),
        }
    }

    fn position(&self, offset: u64) -> Position {
        Position { segment: self.segments[self.current].name, offset }
    }

    fn advance(&mut self) -> Result<()> {
        let crc = self.reader.crc();
        self.reader = open_reader(&*self.disk, &self.dir, &self.segments[self.current + 1], crc)?;
        self.current += 1;
        self.count = 0;
        Ok(())
    }

    fn damaged(&self, offset: u64, damage: Damage) -> Error {
        Error::Damaged { path: self.reader.path().to_owned(), offset, damage }
    }

    /// A segment begins with its CRC, then the metadata; the metadata never changes.
    fn check_head(&mut self, offset: u64, record: &Record) -> Result<()> {
        match (self.count, record) {
            (0, Record::Crc(_)) => Ok(()),
            (0, _) => {
                Err(self.damaged(offset, Damage::Head("a segment that does not begin with a crc record")))
            }
            (_, Record::Metadata(found)) => match &self.metadata {
                Some(known) if known != found => Err(self.damaged(offset, Damage::Metadata)),
                Some(_) => Ok(()),
                None => {
                    // A copy of its own: the block must not stay in memory for these few bytes.
                    self.metadata = Some(Bytes::copy_from_slice(found));
                    Ok(())
                }
            },
            (1, _) => {
                Err(self.damaged(offset, Damage::Head("a segment whose second record is not the metadata")))
            }
            _ => Ok(()),
        }
    }

    /// A segment's head is durable before the segment gets its name, so no crash can leave one without.
    fn check_head_complete(&self, offset: u64, torn: Option<Torn>) -> Result<()> {
        match (self.count, torn) {
            (2.., _) => Ok(()),
            (_, Some(_)) => Err(self.damaged(offset, Damage::Head("a segment whose head is cut off"))),
            (0, None) => {
                Err(Error::EmptySegment { path: self.reader.path().to_owned(), len: self.reader.file_len() })
            }
            (1, None) => Err(self.damaged(offset, Damage::Head("a segment without metadata"))),
        }
    }
}

/// Where and with which CRC a writer continues in the last segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tail {
    pub(crate) offset: u64,
    pub(crate) file_len: u64,
    pub(crate) crc: u32,
}

fn open_reader(disk: &dyn Disk, dir: &Path, segment: &Segment, crc: Option<u32>) -> Result<SegmentReader> {
    let path = dir.join(segment.name.to_string());
    let file = match &segment.file {
        Some(file) => Arc::clone(file),
        None => disk.open(&path, OpenOptions::read()).map_err(|e| Error::io("open", &path, e))?,
    };
    SegmentReader::new(file, path, crc)
}
