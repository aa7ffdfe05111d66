//! Whole members without threads: the real log and store, a network that is a list, time that is a number.

mod cluster;
mod hanging_disk;
mod scenarios;
mod snapshots;
mod tick_advance;
