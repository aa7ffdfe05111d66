//! A binary min-heap of deadlines in which each slot stands at most once and can be moved or removed in O(log n).
//!
//! It knows slots and times only; what a slot means is its owner's business.

/// Not in the heap.
const ABSENT: u32 = u32::MAX;

/// One deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    /// When it is due. Compared first.
    pub(crate) at_ms: u64,
    /// Whose it is. Breaks ties, so that equal inputs pop in equal order.
    pub(crate) slot: u32,
}

/// The heap.
///
/// Invariants: `position[heap[i].slot] == i` for every `i`, every other position is `ABSENT`, and
/// `heap[(i - 1) / 2] <= heap[i]`.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    heap: Vec<Deadline>,
    position: Vec<u32>,
}

impl Deadlines {
    /// The earliest deadline.
    pub(crate) fn peek(&self) -> Option<Deadline> {
        self.heap.first().copied()
    }

    /// The deadline of `slot`.
    #[cfg(test)]
    pub(crate) fn get(&self, slot: u32) -> Option<u64> {
        let at = self.find(slot)?;
        Some(self.heap[at].at_ms)
    }

    /// Sets the deadline of `slot`, whether it had one or not.
    pub(crate) fn set(&mut self, slot: u32, at_ms: u64) {
        let entry = Deadline { at_ms, slot };
        let at = match self.find(slot) {
            Some(at) => {
                self.heap[at] = entry;
                at
            }
            None => {
                if self.position.len() <= slot as usize {
                    self.position.resize(slot as usize + 1, ABSENT);
                }
                self.heap.push(entry);
                self.heap.len() - 1
            }
        };
        let at = self.sift_up(at);
        self.sift_down(at);
    }

    /// Forgets the deadline of `slot`, if it has one.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(at) = self.find(slot) else { return };
        self.heap.swap_remove(at);
        self.position[slot as usize] = ABSENT;
        if at < self.heap.len() {
            let at = self.sift_up(at);
            self.sift_down(at);
        }
    }

    /// Forgets every deadline and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.position.fill(ABSENT);
    }

    fn find(&self, slot: u32) -> Option<usize> {
        match self.position.get(slot as usize) {
            None | Some(&ABSENT) => None,
            Some(&at) => Some(at as usize),
        }
    }

    fn sift_up(&mut self, mut at: usize) -> usize {
        let entry = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent] <= entry {
                break;
            }
            self.place(at, self.heap[parent]);
            at = parent;
        }
        self.place(at, entry);
        at
    }

    fn sift_down(&mut self, mut at: usize) {
        let entry = self.heap[at];
        loop {
            let mut child = 2 * at + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1] < self.heap[child] {
                child += 1;
            }
            if entry <= self.heap[child] {
                break;
            }
            self.place(at, self.heap[child]);
            at = child;
        }
        self.place(at, entry);
    }

    fn place(&mut self, at: usize, entry: Deadline) {
        self.heap[at] = entry;
        self.position[entry.slot as usize] = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn pops_as_a_sorted_list_would(steps in prop::collection::vec((0u32..24, 0u64..50, 0u8..3), 0..200)) {
            let mut heap = Deadlines::default();
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for (slot, at_ms, step) in steps {
                match step {
                    0 => { heap.remove(slot); model.remove(&slot); }
                    _ => { heap.set(slot, at_ms); model.insert(slot, at_ms); }
                }
                prop_assert_eq!(heap.get(slot), model.get(&slot).copied());
                let first = model.iter().map(|(&slot, &at_ms)| Deadline { at_ms, slot }).min();
                prop_assert_eq!(heap.peek(), first);
            }
            while let Some(first) = heap.peek() {
                heap.remove(first.slot);
                prop_assert_eq!(model.remove(&first.slot), Some(first.at_ms));
                prop_assert!(heap.peek().is_none_or(|next| next > first));
            }
            prop_assert!(model.is_empty());
        }
    }
}
