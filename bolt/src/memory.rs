//! Where a transaction's keys and values are: in the map, or in the arena of what it has written itself.
//!
//! A changed node does not copy the keys and values it keeps; it holds [`Span`]s, and [`Memory`] turns them into
//! slices.

use std::sync::Arc;

use crate::error::Result;
use crate::node::Spare;
use crate::page::Page;
use crate::snapshot::Snapshot;

/// Set in positions that are in the arena; others are file offsets.
const IN_ARENA: u64 = 1 << 63;
const CHUNK_BITS: u32 = 32;
/// Capacity of an ordinary chunk in bytes; larger values get one of their own.
const CHUNK_SIZE: usize = 1 << 20;
/// Bytes of a buffer that are kept from one transaction to the next.
pub(crate) const KEPT: usize = 64 << 20;

/// A run of bytes in a [`Memory`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) position: u64,
    pub(crate) len: u32,
}

impl Span {
    /// A part of `page`'s bytes.
    pub(crate) fn in_page(page: &Page<'_>, part: &[u8]) -> Self {
        Self { position: page.position(part), len: part.len() as u32 }
    }
}

/// Append-only bytes of one write transaction.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    chunks: Vec<Vec<u8>>,
    /// Empty ordinary chunks of earlier transactions. Memory that is given back costs a page fault for each of its pages
    /// when the next transaction asks for it again.
    spare: Vec<Vec<u8>>,
}

impl Arena {
    /// Copies `parts` in, one after the other, and returns the position of the first byte.
    pub(crate) fn push(&mut self, parts: &[&[u8]]) -> u64 {
        let len: usize = parts.iter().map(|p| p.len()).sum();
        if self.chunks.last().is_none_or(|c| c.capacity() - c.len() < len) {
            let chunk = self.chunk(len);
            self.chunks.push(chunk);
        }
        let index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[index];
        let position = IN_ARENA | (index as u64) << CHUNK_BITS | chunk.len() as u64;
        for part in parts {
            chunk.extend_from_slice(part);
        }
        position
    }

    /// An empty chunk with room for `len` bytes.
    fn chunk(&mut self, len: usize) -> Vec<u8> {
        let spare = if len <= CHUNK_SIZE { self.spare.pop() } else { None };
        spare.unwrap_or_else(|| Vec::with_capacity(len.max(CHUNK_SIZE)))
    }

    fn bytes(&self, position: u64, len: usize) -> &[u8] {
        let index = ((position & !IN_ARENA) >> CHUNK_BITS) as usize;
        let start = (position & u64::from(u32::MAX)) as usize;
        &self.chunks[index][start..start + len]
    }

    /// Forgets everything, but keeps [`KEPT`] bytes of memory at most for the next transaction.
    pub(crate) fn clear(&mut self) {
        for mut chunk in self.chunks.drain(..) {
            let ordinary = chunk.capacity() <= CHUNK_SIZE;
            if ordinary && self.spare.len() < KEPT / CHUNK_SIZE {
                chunk.clear();
                self.spare.push(chunk);
            }
        }
    }
}

/// The bytes a transaction can see, and what it uses to change them. In a read transaction there is only the snapshot.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) arena: Arena,
    pub(crate) spare: Spare,
}

impl Memory {
    pub(crate) fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { snapshot, arena: Arena::default(), spare: Spare::default() }
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        if span.len == 0 {
            &[]
        } else if span.position & IN_ARENA != 0 {
            self.arena.bytes(span.position, span.len as usize)
        } else {
            self.snapshot.bytes(span.position, span.len as usize)
        }
    }

    /// The leaf image inside an inline bucket's value.
    pub(crate) fn inline_page(&self, value: Span) -> Result<Page<'_>> {
        let bytes = self.bytes(value);
        let header = crate::format::HEADER_SIZE.min(bytes.len());
        Page::inline(&bytes[header..], value.position + header as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arena_keeps_ordinary_chunks_for_the_next_transaction() {
        let mut arena = Arena::default();
        let value = vec![7; CHUNK_SIZE - 1];
        for round in 0..3 {
            let positions: Vec<u64> = (0..3).map(|_| arena.push(&[b"k", &value])).collect();
            let large = arena.push(&[&value, &value]);
            assert_eq!(arena.bytes(large, 2 * value.len()), [&value[..], &value].concat());
            for position in positions {
                assert_eq!(arena.bytes(position, CHUNK_SIZE), [&b"k"[..], &value].concat(), "round {round}");
            }
            arena.clear();
            assert_eq!((arena.chunks.len(), arena.spare.len()), (0, 3), "the large one is given back");
        }
    }
}
