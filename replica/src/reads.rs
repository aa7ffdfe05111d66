//! Linearizable reads in rounds: one confirmation of leadership serves everybody who waits when it begins.
//!
//! A round asks raft for a read index; who comes while it runs waits for the next one, since only a confirmation that
//! began after a read may answer it. Each attempt of a round has an id of its own; an answer to any attempt of the
//! running round counts, older ones do not.

use bytes::Bytes;

/// Who waits for a round: all reads that asked while it was the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Round(pub u64);

/// A round is confirmed: its reads may run once everything up to `index` is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The round.
    pub round: Round,
    /// What must be applied first.
    pub index: u64,
}

/// The rounds.
///
/// Invariants: `running` is the round before `next` or none; ids in `attempts` belong to the running round.
#[derive(Debug)]
pub(crate) struct Reads {
    /// Ids of this member's attempts begin with it, so that members of one cluster never use the same.
    member_id: u64,
    /// Separates the attempts of this start from those of an earlier one.
    start_id: u64,
    attempts_made: u64,
    next: u64,
    /// Somebody waits for the next round.
    wanted: bool,
    running: Option<Running>,
    /// Attempts made because an answer took too long.
    late: u64,
}

#[derive(Debug)]
struct Running {
    round: Round,
    attempts: Vec<Bytes>,
    ticks: u32,
}

impl Reads {
    pub(crate) fn new(member_id: u64, start_id: u64) -> Reads {
        Reads { member_id, start_id, attempts_made: 0, next: 1, wanted: false, running: None, late: 0 }
    }

    /// A read waits for the next round.
    pub(crate) fn want(&mut self) -> Round {
        self.wanted = true;
        Round(self.next)
    }

    /// The id of an attempt to be made now, if a round is to begin.
    pub(crate) fn begin(&mut self) -> Option<Bytes> {
        if !self.wanted || self.running.is_some() {
            return None;
        }
        self.wanted = false;
        self.running = Some(Running { round: Round(self.next), attempts: Vec::new(), ticks: 0 });
        self.next += 1;
        Some(self.attempt())
    }

    /// A tick has passed; the id of another attempt if the running round has waited for `retry_ticks`.
    pub(crate) fn tick(&mut self, retry_ticks: u32) -> Option<Bytes> {
        let running = self.running.as_mut()?;
        running.ticks += 1;
        let late = running.ticks.is_multiple_of(retry_ticks.max(1));
        self.late += u64::from(late);
        late.then(|| self.attempt())
    }

    /// Attempts made because an answer took too long.
    pub(crate) fn late(&self) -> u64 {
        self.late
    }

    /// Another attempt at once: something happened that may have lost the last one.
    pub(crate) fn retry(&mut self) -> Option<Bytes> {
        self.running.is_some().then(|| self.attempt())
    }

    /// Raft has answered an attempt.
    pub(crate) fn answer(&mut self, attempt: &Bytes, index: u64) -> Option<Granted> {
        let running = self.running.as_ref()?;
        if !running.attempts.contains(attempt) {
            return None;
        }
        let round = running.round;
        self.running = None;
        Some(Granted { round, index })
    }

    /// The leader has changed: who waits for the running round is told so and asks again.
    pub(crate) fn abort(&mut self) -> Option<Round> {
        self.running.take().map(|running| running.round)
    }

    fn attempt(&mut self) -> Bytes {
        self.attempts_made += 1;
        let parts = [self.member_id, self.start_id, self.attempts_made];
        let id: Bytes = parts.iter().flat_map(|part| part.to_be_bytes()).collect::<Vec<u8>>().into();
        let running = self.running.as_mut().expect("attempts are made in rounds");
        running.attempts.push(id.clone());
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn srv_1_who_comes_during_a_round_waits_for_the_next() {
        let mut reads = Reads::new(1, 2);
        assert_eq!(reads.begin(), None);
        let first = reads.want();
        assert_eq!(reads.want(), first);
        let attempt = reads.begin().unwrap();
        let second = reads.want();
        assert_ne!(second, first);
        assert_eq!(reads.begin(), None, "one round at a time");
        assert_eq!(reads.answer(&attempt, 9), Some(Granted { round: first, index: 9 }));
        let attempt = reads.begin().unwrap();
        assert_eq!(reads.answer(&attempt, 9), Some(Granted { round: second, index: 9 }));
        assert_eq!(reads.begin(), None);
    }

    #[test]
    fn srv_2_an_answer_to_any_attempt_of_the_round_counts_and_older_ones_do_not() {
        let mut reads = Reads::new(1, 2);
        reads.want();
        let lost = reads.begin().unwrap();
        assert_eq!(reads.tick(2), None);
        let retried = reads.tick(2).unwrap();
        assert_ne!(lost, retried);
        assert!(reads.answer(&lost, 5).is_some());
        assert_eq!(reads.answer(&retried, 5), None);
        reads.want();
        reads.begin().unwrap();
        assert_eq!(reads.answer(&retried, 6), None);
        assert!(reads.abort().is_some());
        assert_eq!(reads.retry(), None);
    }
}
