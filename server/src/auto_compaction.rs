//! Automatic compaction, by time or by a count of revisions. Every member keeps its own record of revisions, so that a
//! new leader goes on where the old one stopped; only the leader acts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::raft_request::RequestKind;

use crate::config::AutoCompaction;
use crate::member::{Caller, MemberHandle};
use crate::refusal::COMPACTED;

/// How often revisions are counted.
const REVISION_INTERVAL: Duration = Duration::from_secs(300);
/// The record is kept in steps of this part of the period, or of an hour if that is less.
const STEPS: u32 = 10;
const HOUR: Duration = Duration::from_secs(3600);

/// Compacts as configured until the task is aborted.
pub async fn run(mode: AutoCompaction, member: MemberHandle) {
    match mode {
        AutoCompaction::Off => {}
        AutoCompaction::Periodic(period) => {
            let (began, mut record) = (Instant::now(), Periodic::new(period));
            loop {
                record.note(member.standing().revision);
                tokio::time::sleep(record.step).await;
                if let Some(revision) = record.due(began.elapsed()).filter(|_| leads(&member))
                    && compact(&member, revision, "completed auto periodic compaction").await
                {
                    record.compacted(began.elapsed(), revision);
                }
            }
        }
        AutoCompaction::Revision(kept) => {
            let mut last = 0;
            loop {
                tokio::time::sleep(REVISION_INTERVAL).await;
                let revision = member.standing().revision - kept;
                if revision > 0
                    && revision != last
                    && leads(&member)
                    && compact(&member, revision, "completed auto revision compaction").await
                {
                    last = revision;
                }
            }
        }
    }
}

fn leads(member: &MemberHandle) -> bool {
    let standing = member.standing();
    standing.leader == standing.member_id
}

/// Whether everything up to `revision` is compacted now.
async fn compact(member: &MemberHandle, revision: i64, done: &'static str) -> bool {
    let request = pb::CompactionRequest { revision, physical: false }.encode_to_vec();
    match member.propose(Caller::default(), RequestKind::Compaction, request.into()).await {
        Ok(_) => {
            tracing::info!(revision, "{done}");
            true
        }
        Err(refusal) if refusal == COMPACTED => true,
        Err(error) => {
            tracing::warn!(%error, revision, "failed auto compaction");
            false
        }
    }
}

/// Revisions of the last period, one for each step.
#[derive(Debug)]
struct Periodic {
    period: Duration,
    step: Duration,
    /// Oldest first; as long as a period, once that has passed.
    revisions: VecDeque<i64>,
    window: usize,
    /// Before the first compaction a whole period must pass, afterwards an hour at most.
    wait: Duration,
    last_success: Duration,
    last_revision: i64,
}

impl Periodic {
    fn new(period: Duration) -> Periodic {
        let step = (period.min(HOUR) / STEPS).max(Duration::from_millis(1));
        let window = usize::try_from(period.as_millis() / step.as_millis().max(1)).unwrap_or(usize::MAX);
        Periodic {
            period,
            step,
            revisions: VecDeque::new(),
            window: window.saturating_add(1),
            wait: period,
            last_success: Duration::ZERO,
            last_revision: 0,
        }
    }

    fn note(&mut self, revision: i64) {
        self.revisions.push_back(revision);
        if self.revisions.len() > self.window {
            self.revisions.pop_front();
        }
    }

    /// What is to be compacted at `now`, counted from the start.
    fn due(&self, now: Duration) -> Option<i64> {
        let oldest = *self.revisions.front()?;
        (now.saturating_sub(self.last_success) >= self.wait && oldest != self.last_revision).then_some(oldest)
    }

    fn compacted(&mut self, now: Duration, revision: i64) {
        self.wait = self.period.min(HOUR);
        self.last_success = now;
        self.last_revision = revision;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acp_3_the_first_after_a_period_then_with_what_was_there_a_period_ago() {
        let mut record = Periodic::new(Duration::from_secs(5));
        assert_eq!((record.step, record.window), (Duration::from_millis(500), 11));
        let mut made = Vec::new();
        // The revision is the time in steps, so that it says when it was noted.
        for step in 0..32 {
            record.note(i64::from(step) + 1);
            let now = record.step * (step + 1);
            if let Some(revision) = record.due(now) {
                made.push((now.as_secs_f32(), revision));
                record.compacted(now, revision);
            }
        }
        assert_eq!(made, [(5.0, 1), (10.0, 10), (15.0, 20)]);
    }

    #[test]
    fn a_quiet_store_is_compacted_once() {
        let mut record = Periodic::new(Duration::from_secs(1));
        let due = |record: &mut Periodic, second: u64| {
            for _ in 0..record.window {
                record.note(7);
            }
            record.due(Duration::from_secs(second))
        };
        assert_eq!(due(&mut record, 1), Some(7));
        record.compacted(Duration::from_secs(1), 7);
        assert_eq!(due(&mut record, 9), None);
    }

    #[test]
    fn long_periods_are_recorded_in_steps_of_six_minutes() {
        let record = Periodic::new(24 * HOUR);
        assert_eq!((record.step, record.window), (Duration::from_secs(360), 241));
    }
}
