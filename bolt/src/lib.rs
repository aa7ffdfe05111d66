//! A one-file, memory-mapped B+tree store in the bbolt format.
