//! Splitting a large answer into pieces, for clients that asked for it.

use std::ops::Range;

/// Cuts events of the given encoded sizes into pieces that stay below `limit` bytes where that is possible.
///
/// `base` is the size of an answer without events. Events are added to a piece until the next would bring it to the
/// limit; every piece holds at least one, so that a single huge event still goes out, alone. An answer below the limit
/// or with fewer than two events stays whole.
pub fn fragments(base: usize, sizes: &[usize], limit: usize) -> Vec<Range<usize>> {
    let whole = sizes.iter().fold(base, |sum, size| sum.saturating_add(*size));
    if whole < limit || sizes.len() < 2 {
        return std::iter::once(0..sizes.len()).collect();
    }
    let mut pieces = Vec::new();
    let mut begin = 0;
    let mut used = base;
    for (n, size) in sizes.iter().enumerate() {
        if n > begin && used.saturating_add(*size) >= limit {
            pieces.push(begin..n);
            begin = n;
            used = base;
        }
        used = used.saturating_add(*size);
    }
    pieces.push(begin..sizes.len());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wch_29_pieces_stay_below_the_limit_and_hold_an_event_each() {
        let ends = |sizes: &[usize], limit| -> Vec<usize> {
            let pieces = fragments(10, sizes, limit);
            assert!(
                pieces.iter().zip(pieces.iter().skip(1)).all(|(a, b)| a.end == b.start),
                "no gap: {pieces:?}"
            );
            pieces.iter().map(|piece| piece.end).collect()
        };
        assert_eq!(ends(&[20, 20], 51), [2]);
        assert_eq!(ends(&[20, 20], 50), [1, 2]);
        assert_eq!(ends(&[1000], 50), [1]);
        assert_eq!(ends(&[1000, 1, 1, 1000], 50), [1, 3, 4]);
        assert_eq!(ends(&[20, 19, 20, 19, 20], 50), [2, 4, 5]);
        assert_eq!(ends(&[], 5), [0]);
        assert_eq!(ends(&[usize::MAX, usize::MAX], 5), [1, 2]);
    }
}
