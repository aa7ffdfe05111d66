//! The recent births and deaths of keys, newest last: what turns today's count of live keys into that of a revision
//! a little while ago.

use std::collections::VecDeque;
use std::sync::Arc;

use super::KeyRange;

/// Changes in a full block.
const BLOCK_LEN: usize = 256;
/// Blocks that are kept; with [`BLOCK_LEN`] this bounds how much a count at a past revision looks at.
const BLOCKS_MAX: usize = 64;
/// Bytes of keys that are kept, whatever their number.
const BYTES_MAX: usize = 4 << 20;

/// A bounded record of which keys came to life or died at which revision.
///
/// Invariant: every birth and death after the main revision `complete_after` is in `blocks`, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent {
    complete_after: i64,
    bytes: usize,
    blocks: VecDeque<Arc<Block>>,
}

#[derive(Clone, Debug, Default)]
struct Block {
    keys: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    main: i64,
    /// End of the key in the block's `keys`; it starts where the key before it ends.
    end: u32,
    born: bool,
}

impl Recent {
    /// An empty record for a store that stands at `main`.
    pub(super) fn after(main: i64) -> Self {
        Self { complete_after: main, ..Self::default() }
    }

    pub(super) fn push(&mut self, key: &[u8], main: i64, born: bool) {
        if self.blocks.back().is_none_or(|block| block.items.len() == BLOCK_LEN) {
            self.blocks.push_back(Arc::default());
        }
        self.bytes += key.len();
        let block = Arc::make_mut(self.blocks.back_mut().expect("a block was pushed"));
        block.keys.extend_from_slice(key);
        block.items.push(Item { main, end: block.keys.len() as u32, born });
        while self.blocks.len() > 1 && (self.blocks.len() > BLOCKS_MAX || self.bytes > BYTES_MAX) {
            let dropped = self.blocks.pop_front().expect("there are several blocks");
            self.bytes -= dropped.keys.len();
            self.complete_after = dropped.items.last().map_or(self.complete_after, |item| item.main);
        }
    }

    /// Births less deaths in `range` after the main revision `main`; `None` if the record does not reach back so far.
    pub(super) fn grown_since(&self, range: KeyRange<'_>, main: i64) -> Option<i64> {
        if main < self.complete_after {
            return None;
        }
        let mut grown = 0;
        for block in self.blocks.iter().rev() {
            if block.items.last().is_some_and(|item| item.main <= main) {
                break;
            }
            let mut start = 0;
            for item in &block.items {
                let key = &block.keys[start..item.end as usize];
                start = item.end as usize;
                if item.main > main && range.contains(key) {
                    grown += if item.born { 1 } else { -1 };
                }
            }
        }
        Some(grown)
    }
}
