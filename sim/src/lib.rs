#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! `random`, `scenario`: what a seed means. `world`: the run. `check`: what must hold. `trace`: what happened.
//! `run`: one seed from beginning to end. `report`: how a failure is told; `shrink`: made smaller; `replay`: kept in a
//! file; `timeline`: as a picture. `mutant`: deliberate mistakes here; `mutants`: those of all crates, and their seeds. What may not live here: threads, wall clocks, real files.

pub mod check;
pub mod mutant;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod random;
pub mod replay;
pub mod report;
pub mod run;
pub mod scenario;
pub mod shrink;
pub mod timeline;
pub mod trace;
pub mod world;

pub use scenario::{Fault, Scenario, ScenarioError};
pub use world::{Figures, Outcome, World};
