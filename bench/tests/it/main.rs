//! `load` and `compare` as processes, against a real member.

mod compare;
mod load;
mod member;
