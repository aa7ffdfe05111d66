//! The keys that a watcher wants: one key, a half-open range, or everything from a key on.

use std::cmp::Ordering;

use crate::CreateError;

/// A non-empty range of keys, in byte order. Ranges are ordered by their begin, then by their end: a single key before
/// bounded ends before no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    begin: Box<[u8]>,
    /// The first key after the range; empty: only `begin` itself; `None`: no end. One word less than an enum, which
    /// counts with a million watchers. Invariant: empty or above `begin`.
    end: Option<Box<[u8]>>,
}

impl KeyRange {
    /// The range as a request names it: an empty `range_end` is one key, a single zero byte is everything from `key`
    /// on, anything else the first key that no longer belongs. An empty `key` counts as a single zero byte, the
    /// smallest key that there is.
    ///
    /// # Errors
    /// [`CreateError::EmptyRange`] if `range_end` is not above `key`.
    pub fn new(key: &[u8], range_end: &[u8]) -> Result<KeyRange, CreateError> {
        let begin: Box<[u8]> = if key.is_empty() { [0].into() } else { key.into() };
        let end = match range_end {
            [] => Some([].into()),
            [0] => None,
            end if *end > *begin => Some(end.into()),
            _ => return Err(CreateError::EmptyRange),
        };
        Ok(KeyRange { begin, end })
    }

    /// The smallest key of the range.
    pub fn begin(&self) -> &[u8] {
        &self.begin
    }

    /// The first key after the range; `None` if it has no end or is a single key (see [`KeyRange::is_point`]).
    pub fn end(&self) -> Option<&[u8]> {
        self.end.as_deref().filter(|end| !end.is_empty())
    }

    /// Whether the range is exactly one key.
    pub fn is_point(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.is_empty())
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_point() { *self.begin == *key } else { *self.begin <= *key && self.ends_after(key) }
    }

    /// Whether some key of the range may be `key` or above it. Not asked of points.
    pub(crate) fn ends_after(&self, key: &[u8]) -> bool {
        debug_assert!(!self.is_point(), "points are not in the tree");
        self.end.as_ref().is_none_or(|end| *key < **end)
    }

    /// Whether this range reaches further up than `other`.
    pub(crate) fn outreaches(&self, other: &KeyRange) -> bool {
        self.compare_ends(other) == Ordering::Greater
    }

    fn compare_ends(&self, other: &KeyRange) -> Ordering {
        match (&self.end, &other.end) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(a), Some(b)) => a.cmp(b),
        }
    }
}

impl Ord for KeyRange {
    fn cmp(&self, other: &Self) -> Ordering {
        self.begin.cmp(&other.begin).then_with(|| self.compare_ends(other))
    }
}

impl PartialOrd for KeyRange {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
