//! Watchers on keys and ranges: who is told of which change, in order, without gap or duplicate.
//!
//! A [`Hub`] is a plain state machine. The writer publishes each revision's events to it; streams of watchers are
//! drained by whoever serves them; what a watcher missed is read from history by a [`CatchUp`] job, which runs beside
//! the hub without holding it. Nothing here knows a clock, a thread, a socket or how history is stored.
//!
//! What lives where: `range` and `index` (with `tree`) find watchers by key, `event` is what travels, `hub` the streams
//! and the publishing, `group` how watchers move between synced, unsynced and victim, `catch_up` the reading of
//! history, `fragment` the splitting of large answers, `error` what can go wrong.
#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod catch_up;
mod error;
mod event;
mod fragment;
mod group;
mod hub;
mod index;
#[cfg(feature = "mutants")]
pub mod mutant;
mod range;
mod tree;

pub use catch_up::{
    CATCH_UP_EVENTS_MAX, CATCH_UP_REVISIONS_MAX, CATCH_UP_WATCHERS_MAX, CatchUp, CaughtUp, History,
};
pub use error::{CreateError, HistoryError};
pub use event::{Event, EventKind, Events, Response, ResponseKind};
pub use fragment::fragments;
pub use hub::{Counts, Hub, Options, StreamId, WatchId};
pub use index::RangeIndex;
pub use range::KeyRange;
