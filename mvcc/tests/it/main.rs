//! The store from outside: against a list of all writes, rule by rule, and across restarts.

mod bad_files;
mod beside;
mod crash;
mod model;
mod requests;
mod rules;
mod shrink;
mod store_model;
mod world;
