#![doc = include_str!("../README.md")]
//!
//! # Inside
//!
//! `random`, `scenario`: what a seed means. `world`: the run. `check`: what must hold. `trace`: what happened.
//! `report`: how a failure is told. What may not live here: threads, wall clocks, real files.

pub mod check;
pub mod random;
pub mod report;
pub mod scenario;
pub mod trace;
pub mod world;

pub use scenario::{Fault, Scenario, ScenarioError};
pub use world::{Figures, Outcome, World};
