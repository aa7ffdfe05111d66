//! Clients that stand for election, as etcd's clients and its election service do it.
//!
//! A candidate creates a key of its own under the election's prefix, on its lease, and waits until no key there is
//! older; it proclaims and resigns only while its key is still the one that it created. Whose lease ends is no leader
//! any more. What may not live here: who observes the election (`watchers`), and what must hold (`check`).

use bytes::Bytes;
use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::mvccpb::KeyValue;
use stanchion_api::raft_request::RequestKind;
use stanchion_replica::apply::{Refusal, Reply};

use pb::request_op::Request;

use super::World;
use super::load::{Answer, Ask, Asker, if_created_at, revision};
use super::queue::Event;
use crate::mutant::{self, Mutant};
use crate::trace::What;

/// What all keys of the election begin with.
pub(super) const ELECTION: &str = "elect/";
/// Behind all keys of the election.
pub(super) const ELECTION_END: &str = "elect0";

/// How far an elector has come, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It has no lease.
    Out,
    /// It has a lease and no key.
    Session { lease: i64 },
    /// Its key was created at this revision; others may have come before it.
    Candidate { lease: i64, created: i64 },
    /// It was told that it leads.
    Leader { lease: i64, created: i64 },
}

/// What an elector has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Grant,
    Campaign,
    Wait,
    /// With the operation's number, which is in the value.
    Proclaim(u64),
    Resign,
    Renew,
    Revoke,
    /// Somebody deletes all candidates' keys by hand.
    Clear,
}

/// A client that stands for election.
#[derive(Debug)]
pub(super) struct Elector {
    standing: Standing,
    step: Step,
}

impl World {
    /// Those who stand for election begin.
    pub(super) fn add_electors(&mut self) {
        for n in 0..self.scenario.electors {
            self.electors.push(Elector { standing: Standing::Out, step: Step::Grant });
            self.queue.plan(1_000_000, Event::Elector(n));
        }
    }

    /// An elector takes its next step.
    pub(super) fn elector_turn(&mut self, n: usize) {
        if self.finish.as_ref().is_some_and(|finish| finish.quiet) {
            return;
        }
        let candidates = self.addressed();
        if candidates.is_empty() {
            self.queue.plan(self.now + 1_000_000, Event::Elector(n));
            return;
        }
        let slot = *self.election_random.pick(&candidates);
        let op = self.number();
        let standing = self.electors[n].standing;
        let step = self.draw_step(standing, op);
        self.electors[n].step = step;
        let ask = self.ask_for(n, standing, step, op);
        let takes = 50 + self.election_random.below(1000);
        self.ask(op, Asker::Elector(n), slot, ask, None, takes);
    }

    fn draw_step(&mut self, standing: Standing, op: u64) -> Step {
        match (standing, self.election_random.below(100)) {
            (Standing::Out, _) => Step::Grant,
            (Standing::Session { .. }, 0..10) => Step::Renew,
            (Standing::Session { .. }, _) => Step::Campaign,
            (Standing::Candidate { .. }, 0..25) => Step::Renew,
            (Standing::Candidate { .. }, 25..28) => Step::Resign,
            (Standing::Candidate { .. }, 28..31) => Step::Clear,
            (Standing::Candidate { .. }, _) => Step::Wait,
            (Standing::Leader { .. }, 0..30) => Step::Renew,
            (Standing::Leader { .. }, 30..40) => Step::Resign,
            (Standing::Leader { .. }, 40..44) => Step::Revoke,
            (Standing::Leader { .. }, _) => Step::Proclaim(op),
        }
    }

    fn ask_for(&mut self, n: usize, standing: Standing, step: Step, op: u64) -> Ask {
        let (lease, created) = standing.lease_and_created();
        let key = key_of(lease);
        let put = |value, lease| {
            Request::RequestPut(pb::PutRequest { key: key.clone(), value, lease, ..Default::default() })
        };
        let txn = |request: pb::TxnRequest| Ask::Write(RequestKind::Txn, request.encode_to_vec().into());
        match step {
            Step::Grant => {
                let ttl = *self.election_random.pick(&[1, 3, 5, 12]);
                let request = pb::LeaseGrantRequest { ttl, id: op.cast_signed() };
                Ask::Write(RequestKind::LeaseGrant, request.encode_to_vec().into())
            }
            Step::Campaign => txn(if_created_at(&key, 0, put(value_of(n, op), lease))),
            Step::Wait => Ask::Read(ELECTION.into(), ELECTION_END.into(), true),
            Step::Proclaim(op) => {
                let lease = if mutant::active(Mutant::ProclaimWithoutLease) { 0 } else { lease };
                let mut request = if_created_at(&key, created, put(value_of(n, op), lease));
                if mutant::active(Mutant::ProclaimWithoutGuard) {
                    request.compare.clear();
                }
                txn(request)
            }
            Step::Resign => {
                let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
                txn(if_created_at(&key, created, Request::RequestDeleteRange(delete)))
            }
            Step::Renew => Ask::Renew(lease),
            Step::Revoke => {
                let request = pb::LeaseRevokeRequest { id: lease };
                Ask::Write(RequestKind::LeaseRevoke, request.encode_to_vec().into())
            }
            Step::Clear => {
                let (key, range_end) = (ELECTION.into(), ELECTION_END.into());
                let request = pb::DeleteRangeRequest { key, range_end, ..Default::default() };
                Ask::Write(RequestKind::DeleteRange, request.encode_to_vec().into())
            }
        }
    }

    /// An elector learns what came of its step. What it does not learn changes nothing, except that a resignation is
    /// one in any case.
    pub(super) fn elector_learns(&mut self, n: usize, answer: &Answer<'_>) -> Result<(), String> {
        let Elector { standing, step } = self.electors[n];
        let (lease, created) = standing.lease_and_created();
        self.electors[n].standing = match (step, answer) {
            (Step::Grant, Answer::Written(Ok(Reply::LeaseGrant(granted)))) => {
                Standing::Session { lease: granted.id }
            }
            (Step::Campaign, Answer::Written(Ok(Reply::Txn(txn)))) => campaigned(lease, txn)?,
            (_, Answer::Written(Err(Refusal::LeaseNotFound))) | (Step::Revoke, _) => Standing::Out,
            (Step::Wait, Answer::Pairs(at, pairs)) => self.waited(n, (lease, created), *at, pairs)?,
            (Step::Proclaim(op), Answer::Written(Ok(reply @ Reply::Txn(txn)))) => {
                let at = revision(reply).unwrap_or_default();
                self.proclaimed(n, (lease, created), value_of(n, op), txn.succeeded, at)?
            }
            (Step::Resign, _) => Standing::Session { lease },
            _ => standing,
        };
        let think =
            if self.finish.is_some() { 100_000 } else { self.scenario.think_us.clamp(20_000, 200_000) };
        let mut pause = self.election_random.below(2 * think) + 1;
        if self.finish.is_none() && self.election_random.chance(0.02) {
            // Long enough for its lease to run out.
            pause += self.election_random.below(15_000_000);
        }
        self.queue.plan(self.now + pause, Event::Elector(n));
        Ok(())
    }

    /// A candidate has seen all keys at a revision: it leads if none is older than its own.
    fn waited(
        &mut self,
        n: usize,
        (lease, created): (i64, i64),
        at: i64,
        pairs: &[KeyValue],
    ) -> Result<Standing, String> {
        let is_there = pairs.iter().any(|pair| pair.create_revision == created);
        if !is_there && !mutant::active(Mutant::LostLeaseUnnoticed) {
            self.holders.lost(&self.ledger.model, &key_of(lease), created, at)?;
            return Ok(Standing::Session { lease });
        }
        let oldest = pairs.iter().map(|pair| pair.create_revision).min();
        let waits =
            oldest.is_some_and(|oldest| oldest < created) || mutant::active(Mutant::CandidateWaitsForItself);
        if waits && !mutant::active(Mutant::CandidateDoesNotWait) {
            return Ok(Standing::Candidate { lease, created });
        }
        self.trace.add(self.now, None, What::Elected(n as u64, created.cast_unsigned()));
        self.leads(n, created, at)?;
        Ok(Standing::Leader { lease, created })
    }

    /// A leader learns whether its value was put.
    fn proclaimed(
        &mut self,
        n: usize,
        (lease, created): (i64, i64),
        value: Bytes,
        succeeded: bool,
        at: i64,
    ) -> Result<Standing, String> {
        let (model, key) = (&self.ledger.model, key_of(lease));
        if !succeeded {
            self.holders.lost(model, &key, created, at)?;
            return Ok(Standing::Session { lease });
        }
        let shown = model.range_at(&key, &[], at).pop().map(|pair| pair.value);
        if shown.as_ref() != Some(&value) {
            return Err(format!("elector {n} proclaimed {value:?} at revision {at}, but there is {shown:?}"));
        }
        self.leads(n, created, at)?;
        Ok(Standing::Leader { lease, created })
    }

    /// An elector was told that it led at a revision.
    fn leads(&mut self, n: usize, created: i64, at: i64) -> Result<(), String> {
        self.holders.claimed(ELECTION, n, created, at)?;
        if let Some(finish) = &mut self.finish {
            finish.elected = true;
        }
        Ok(())
    }

    /// Whether somebody can be elected: a full cluster grants no leases.
    pub(super) fn elects(&self) -> bool {
        self.scenario.electors > 0 && self.ledger.model.full.is_empty()
    }
}

impl Standing {
    /// 0 for what it does not have.
    fn lease_and_created(self) -> (i64, i64) {
        match self {
            Standing::Out => (0, 0),
            Standing::Session { lease } => (lease, 0),
            Standing::Candidate { lease, created } | Standing::Leader { lease, created } => (lease, created),
        }
    }
}

/// Its key is there: made now, or by an attempt whose outcome it had not learnt.
fn campaigned(lease: i64, txn: &pb::TxnResponse) -> Result<Standing, String> {
    use pb::response_op::Response;
    let created = match txn.responses.first().and_then(|operation| operation.response.as_ref()) {
        Some(Response::ResponsePut(put)) => put.header.as_ref().map(|header| header.revision),
        Some(Response::ResponseRange(range)) => range.kvs.first().map(|pair| pair.create_revision),
        _ => None,
    };
    let created = created.ok_or_else(|| format!("a campaign is answered without a key: {txn:?}"))?;
    Ok(Standing::Candidate { lease, created })
}

fn key_of(lease: i64) -> Bytes {
    format!("{ELECTION}{lease:x}").into()
}

fn value_of(n: usize, op: u64) -> Bytes {
    format!("elector {n}, #{op}").into()
}
