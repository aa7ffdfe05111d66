//! The hub from outside: its rules one by one, a history that every watcher is held against, the index, memory.

mod index;
mod memory;
mod model;
mod rules;
mod store;
