//! `load` as a process, against a real member.

mod load;
mod member;
