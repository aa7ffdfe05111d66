//! Elections: no term has two leaders; terms and commit indexes of a running member only rise.

use std::collections::BTreeMap;

use super::{Check, hold};

/// What is remembered of elections.
#[derive(Debug, Default)]
pub struct Elections {
    leaders: BTreeMap<u64, u64>,
}

impl Elections {
    /// A member leads a term.
    ///
    /// # Errors
    /// Another one did.
    pub fn leads(&mut self, member: u64, term: u64) -> Check {
        let leader = *self.leaders.entry(term).or_insert(member);
        hold!(leader == member, "members {leader:x} and {member:x} both lead term {term}");
        Ok(())
    }

    /// The newest term that anybody led.
    #[must_use]
    pub fn newest_term(&self) -> u64 {
        self.leaders.last_key_value().map_or(0, |(term, _)| *term)
    }
}
