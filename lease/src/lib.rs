//! Leases on a min-heap of deadlines; the clock is an argument.
