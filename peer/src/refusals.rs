//! What requests of peers are refused for: each reason is logged once for each sender, until that has been let in.
//!
//! Senders are who they say they are, so what is remembered of them is bounded, and so is what is logged.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Senders that are told apart.
const SENDERS_MAX: usize = 32;
/// Reasons that are logged of one sender.
const REASONS_MAX: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    said: Mutex<BTreeMap<u64, Vec<String>>>,
}

impl Refusals {
    /// A request of `from` was refused; 0 is somebody who has not introduced himself.
    pub(crate) fn say(&self, from: u64, request: &'static str, reason: &str) {
        if self.is_new(from, &format!("{request}: {reason}")) {
            tracing::warn!(peer = %format_args!("{from:x}"), request, reason, "refused a peer's request");
        }
    }

    /// A sender has been let in: what it is refused for from now on is new.
    pub(crate) fn forget(&self, from: u64) {
        self.said.lock().remove(&from);
    }

    fn is_new(&self, from: u64, what: &str) -> bool {
        let mut said = self.said.lock();
        if said.len() == SENDERS_MAX && !said.contains_key(&from) {
            return false;
        }
        let reasons = said.entry(from).or_default();
        let is_new = reasons.len() < REASONS_MAX && !reasons.iter().any(|known| known == what);
        if is_new {
            reasons.push(what.to_owned());
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_of_each_sender_is_said_once_until_it_was_let_in() {
        let refusals = Refusals::default();
        for (from, what, expected) in [
            (1, "stream: incompatible version", true),
            (1, "stream: incompatible version", false),
            (1, "stream: cluster ID mismatch", true),
            (2, "stream: incompatible version", true),
        ] {
            assert_eq!(refusals.is_new(from, what), expected, "{from} {what}");
        }
        refusals.forget(1);
        assert!(refusals.is_new(1, "stream: incompatible version"));
        assert!(!refusals.is_new(2, "stream: incompatible version"));
    }

    #[test]
    fn neither_many_senders_nor_many_reasons_make_it_grow() {
        let refusals = Refusals::default();
        let said = (0..1000).filter(|n| refusals.is_new(7, &n.to_string())).count();
        assert_eq!(said, REASONS_MAX);
        let said = (0..1000).filter(|from| refusals.is_new(*from, "same")).count();
        // The place of 7 is taken, and its reasons are.
        assert_eq!(said, SENDERS_MAX - 1);
        assert_eq!(refusals.said.lock().len(), SENDERS_MAX);
    }
}
