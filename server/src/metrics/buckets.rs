//! etcd's bucket sets. Queries add up buckets of many members, so ours have the same bounds.

/// `count` bounds from `first` on, each twice the one before.
fn doubling(first: f64, count: i32) -> Vec<f64> {
    (0..count).map(|i| first * 2f64.powi(i)).collect()
}

/// 1 ms to 8.192 s.
pub(super) fn disk() -> Vec<f64> {
    doubling(0.001, 14)
}

/// 0.1 ms to 52 s.
pub(super) fn apply() -> Vec<f64> {
    doubling(0.0001, 20)
}

/// 0.1 ms to 3.28 s.
pub(super) fn round_trip() -> Vec<f64> {
    doubling(0.0001, 16)
}

/// 0.1 s to 51.2 s.
pub(super) fn snapshot_transfer() -> Vec<f64> {
    doubling(0.1, 10)
}

/// 0.1 s to 410 s.
pub(super) fn defragmentation() -> Vec<f64> {
    doubling(0.1, 13)
}

/// 10 ms to 655 s.
pub(super) fn backend_snapshot() -> Vec<f64> {
    doubling(0.01, 17)
}

/// 10 ms to 164 s.
pub(super) fn hash() -> Vec<f64> {
    doubling(0.01, 15)
}

/// 1 s to 97 days.
pub(super) fn lease_ttl() -> Vec<f64> {
    doubling(1.0, 24)
}

/// 0.5 ms to 4.1 s, in milliseconds.
pub(super) fn index_compaction_ms() -> Vec<f64> {
    doubling(0.5, 14)
}

/// 1 ms to 4.1 s, in milliseconds.
pub(super) fn compaction_pause_ms() -> Vec<f64> {
    doubling(1.0, 13)
}

/// 100 ms to 819 s, in milliseconds.
pub(super) fn compaction_total_ms() -> Vec<f64> {
    doubling(100.0, 14)
}

/// 5 ms to 10 s, Prometheus' own defaults.
pub(super) fn grpc() -> Vec<f64> {
    prometheus::DEFAULT_BUCKETS.to_vec()
}

#[cfg(test)]
mod tests {
    #[test]
    fn bounds_are_printed_as_etcd_prints_them() {
        assert_eq!(super::disk().last().unwrap().to_string(), "8.192");
        assert_eq!(
            super::round_trip()[..3].iter().map(f64::to_string).collect::<Vec<_>>(),
            ["0.0001", "0.0002", "0.0004"]
        );
        assert_eq!(super::grpc(), [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]);
    }
}
