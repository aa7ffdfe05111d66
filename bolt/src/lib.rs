#![doc = include_str!("../README.md")]

mod backup;
mod check;
mod collect;
mod commit;
mod compact;
mod cursor;
mod cursor_mut;
mod db;
mod error;
mod finder;
mod format;
mod free_set;
mod freelist;
mod inspect;
mod map;
mod memory;
#[cfg(feature = "mutants")]
pub mod mutant;
mod node;
mod open;
mod output;
mod page;
mod read;
mod relocate;
mod scan;
mod search;
mod shrink;
mod snapshot;
mod sync;
mod tree;
mod write;

pub use check::Finding;
pub use cursor::{Bucket, Cursor, Entry, Range};
pub use cursor_mut::{CursorMut, OwnedEntry};
pub use db::{Db, DbStats, Options};
pub use error::{Error, Result};
pub use finder::Finder;
pub use format::{MAX_KEY_SIZE, MAX_VALUE_SIZE, Meta};
pub use inspect::{BucketStats, PageInfo, PageKind};
pub use read::ReadTx;
pub use shrink::ShrinkReport;
pub use write::{BucketMut, WriteTx};
