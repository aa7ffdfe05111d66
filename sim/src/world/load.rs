//! Clients: what they ask, whom, how long they wait, and what they are told.

use bytes::Bytes;
use prost::Message as _;
use stanchion_api::etcdserverpb as pb;
use stanchion_api::mvccpb::KeyValue;
use stanchion_api::raft_request::{RequestKind, wrap};
use stanchion_lease::Renewal;
use stanchion_mvcc::{KeyRange, RangeOptions};
use stanchion_replica::apply::{Effect, NO_SPACE, Refusal, Reply};

use super::node::{Node, Trouble, or_stop};
use super::queue::Event;
use super::{Slot, State, World};
use crate::check::clients::Floor;
use crate::mutant::{self, Mutant};
use crate::trace::What;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// Something that goes through the log.
    Write(RequestKind, Bytes),
    /// A range: key, end, linearizable.
    Read(Vec<u8>, Vec<u8>, bool),
    /// More time for a lease.
    Renew(i64),
}

/// An operation that is under way.
#[derive(Debug)]
pub(super) struct Op {
    by: Asker,
    ask: Ask,
    floor: Floor,
    /// The member that was asked.
    pub(super) slot: usize,
    /// The lock that it would win.
    lock: Option<&'static str>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client that reads and writes.
    Client(usize),
    /// A client that stands for election.
    Elector(usize),
    /// A watching client that observes the election.
    Observer(usize),
}

/// What an asker learns of its operation.
#[derive(Debug)]
pub(super) enum Answer<'a> {
    /// A request went through the log.
    Written(&'a Result<Reply, Refusal>),
    /// A range at a revision.
    Pairs(i64, &'a [KeyValue]),
    /// It had no effect, or only one that needs no check.
    Refused,
    /// Nothing: it waits no longer.
    Nothing,
}

/// Locks, by their single keys.
pub(super) const LOCKS: [&str; 2] = ["lock0", "lock1"];

impl World {
    /// A client begins its next operation.
    pub(super) fn client_turn(&mut self, client: usize) {
        if self.finish.as_ref().is_some_and(|finish| finish.quiet) {
            return;
        }
        let candidates = self.addressed();
        if candidates.is_empty() {
            self.queue.plan(self.now + 1_000_000, Event::Client(client));
            return;
        }
        let slot = *self.load_random.pick(&candidates);
        let op = self.number();
        let lock = (self.load_random.below(100) < self.scenario.lock_share)
            .then(|| self.draw_lock(client, op))
            .flatten();
        let (ask, lock) = match lock {
            Some((request, lock)) => (Ask::Write(RequestKind::Txn, request.encode_to_vec().into()), lock),
            // A lock needs a lease to hang on.
            None if self.scenario.lock_share > 0 && self.leases.is_empty() => (self.draw_lease(op), None),
            None => (self.draw(op), None),
        };
        let takes = 50 + self.load_random.below(1000);
        self.ask(op, Asker::Client(client), slot, ask, lock, takes);
    }

    /// An operation goes to a member, which it takes so many microseconds.
    pub(super) fn ask(
        &mut self,
        op: u64,
        by: Asker,
        slot: usize,
        ask: Ask,
        lock: Option<&'static str>,
        takes: u64,
    ) {
        let floor = self.clients.asked();
        let number = self.number_of(by);
        self.trace.add(self.now, Some(slot), What::Asked(number as u64, op));
        self.ops.insert(op, Op { by, ask, floor, slot, lock });
        self.queue.plan(self.now + takes, Event::Arrive(op));
        self.queue.plan(self.now + self.scenario.patience_us, Event::Timeout(op));
    }

    /// The number that stands for an asker in the story: first clients, then electors, then watchers.
    fn number_of(&self, by: Asker) -> usize {
        match by {
            Asker::Client(client) => client,
            Asker::Elector(n) => self.scenario.clients + n,
            Asker::Observer(n) => self.scenario.clients + self.scenario.electors + n,
        }
    }

    /// The members whose addresses clients know: any that may run, and after the faults those that belong to the cluster.
    /// One that was removed and cannot hear of it runs on, and would keep a watcher waiting for ever.
    pub(super) fn addressed(&self) -> Vec<usize> {
        let cluster = self.finish.as_ref().and_then(|_| Some(self.most_advanced()?.applier.cluster()));
        (0..self.slots.len())
            .filter(|&slot| {
                let Slot { id, state, .. } = self.slots[slot];
                let belongs = cluster.is_none_or(|cluster| cluster.member(id).is_some());
                matches!(state, State::Up | State::Down) && belongs
            })
            .collect()
    }

    fn next_turn(&mut self, client: usize) {
        // After the faults a moderate load is enough.
        let think = if self.finish.is_some() { 100_000 } else { self.scenario.think_us };
        let at = self.now + self.load_random.below(2 * think) + 1;
        self.queue.plan(at, Event::Client(client));
    }

    fn key(&mut self) -> Vec<u8> {
        format!("k{:02}", self.load_random.below(self.scenario.keys)).into_bytes()
    }

    /// A range of a few keys.
    fn range(&mut self) -> (Vec<u8>, Vec<u8>) {
        match self.load_random.below(4) {
            0 => (b"k".to_vec(), b"l".to_vec()),
            1 => {
                let (a, b) = (self.key(), self.key());
                (a.clone().min(b.clone()), a.max(b))
            }
            _ => (self.key(), Vec::new()),
        }
    }

    fn draw(&mut self, op: u64) -> Ask {
        if self.load_random.below(100) < self.scenario.lease_share {
            return self.draw_lease(op);
        }
        match self.load_random.below(100) {
            0..40 => Ask::Write(RequestKind::Put, self.draw_put(op).encode_to_vec().into()),
            40..47 => {
                let request = self.draw_delete();
                Ask::Write(RequestKind::DeleteRange, request.encode_to_vec().into())
            }
            47..65 => Ask::Write(RequestKind::Txn, self.draw_txn(op).encode_to_vec().into()),
            65..85 => {
                let (key, end) = self.range();
                Ask::Read(key, end, true)
            }
            _ => {
                let (key, end) = self.range();
                Ask::Read(key, end, false)
            }
        }
    }

    fn draw_put(&mut self, op: u64) -> pb::PutRequest {
        let size = *self.load_random.pick(&[0, 10, 100, 3000]);
        let mut value = format!("v{op}-").into_bytes();
        value.resize(value.len() + size, b'x');
        let leased = !self.leases.is_empty() && self.load_random.chance(0.3);
        let lease = if leased { *self.load_random.pick(&self.leases) } else { 0 };
        pb::PutRequest {
            key: self.key().into(),
            value: value.into(),
            lease,
            prev_kv: self.load_random.chance(0.3),
            ..Default::default()
        }
    }

    fn draw_delete(&mut self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.range();
        let prev_kv = self.load_random.chance(0.3);
        pb::DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv }
    }

    /// Compare and swap: against the newest revision, a guess, or the key's absence.
    fn draw_txn(&mut self, op: u64) -> pb::TxnRequest {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        use pb::request_op::Request;
        let mut put = self.draw_put(op);
        let newest = self.ledger.model.range_at(&put.key, &[], self.ledger.model.revision).pop();
        let (target, value) = match self.load_random.below(4) {
            0 => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
            1 => (CompareTarget::Version, TargetUnion::Version(newest.map_or(0, |pair| pair.version))),
            2 => {
                let value = newest.map_or_else(Bytes::new, |pair| pair.value);
                (CompareTarget::Value, TargetUnion::Value(value))
            }
            _ => (CompareTarget::Mod, TargetUnion::ModRevision(newest.map_or(0, |pair| pair.mod_revision))),
        };
        let compare = pb::Compare {
            result: *self.load_random.pick(&[CompareResult::Equal, CompareResult::Equal, CompareResult::Less])
                as i32,
            target: target as i32,
            key: put.key.clone(),
            target_union: Some(value),
            ..Default::default()
        };
        let operation = |request| pb::RequestOp { request: Some(request) };
        let get = pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
        let mut success = vec![operation(Request::RequestPut(put.clone()))];
        if self.load_random.chance(0.3) {
            // A second key in the same revision; it sorts behind the first.
            put.key = [&put.key[..], b"+"].concat().into();
            success.push(operation(Request::RequestPut(put)));
        }
        if self.load_random.chance(0.3) {
            success.push(operation(Request::RequestRange(get.clone())));
        }
        pb::TxnRequest {
            compare: vec![compare],
            success,
            failure: vec![operation(Request::RequestRange(get))],
        }
    }

    /// What a client does about locks: who holds none tries to win one, as `concurrency` of etcd's clients does; who
    /// holds one writes as its holder, or lets it go. With the lock that it would win.
    fn draw_lock(&mut self, client: usize, op: u64) -> Option<(pb::TxnRequest, Option<&'static str>)> {
        use pb::request_op::Request;
        let held = self.held.get(&client).copied();
        let (lock, created) = held.unwrap_or_else(|| (*self.load_random.pick(&LOCKS), 0));
        let key = Bytes::from_static(lock.as_bytes());
        let request = match held {
            None if self.leases.is_empty() => return None,
            None => {
                let lease = *self.load_random.pick(&self.leases);
                let value = format!("client {client}").into();
                Request::RequestPut(pb::PutRequest { key: key.clone(), value, lease, ..Default::default() })
            }
            Some(_) if self.load_random.chance(0.4) => {
                // Whatever comes of it, the client holds the lock no longer.
                self.held.remove(&client);
                Request::RequestDeleteRange(pb::DeleteRangeRequest { key: key.clone(), ..Default::default() })
            }
            Some(_) => Request::RequestPut(self.draw_put(op)),
        };
        Some((if_created_at(&key, created, request), held.is_none().then_some(lock)))
    }

    fn draw_lease(&mut self, op: u64) -> Ask {
        if self.leases.is_empty() || self.load_random.chance(0.3) {
            let ttl = *self.load_random.pick(&[1, 3, 5, 12]);
            let request = pb::LeaseGrantRequest { ttl, id: op.cast_signed() };
            return Ask::Write(RequestKind::LeaseGrant, request.encode_to_vec().into());
        }
        let lease = *self.load_random.pick(&self.leases);
        if self.load_random.chance(0.2) {
            let request = pb::LeaseRevokeRequest { id: lease };
            return Ask::Write(RequestKind::LeaseRevoke, request.encode_to_vec().into());
        }
        Ask::Renew(lease)
    }

    /// A member's own proposal to revoke a lease.
    pub(super) fn revocation(&mut self, lease: i64) -> Bytes {
        let op = self.number();
        let request = pb::LeaseRevokeRequest { id: lease }.encode_to_vec();
        wrapped(op, RequestKind::LeaseRevoke, &request)
    }

    /// A compaction, which nobody waits for.
    pub(super) fn compaction(&mut self, revision: i64) -> Bytes {
        let op = self.number();
        let request = pb::CompactionRequest { revision, physical: false }.encode_to_vec();
        wrapped(op, RequestKind::Compaction, &request)
    }

    /// A member's own checkpoints of leases: ids and seconds.
    pub(super) fn checkpoints(&mut self, leases: impl Iterator<Item = (i64, i64)>) -> Bytes {
        let op = self.number();
        let checkpoints =
            leases.map(|(id, remaining_ttl)| pb::LeaseCheckpoint { id, remaining_ttl }).collect();
        let request = pb::LeaseCheckpointRequest { checkpoints }.encode_to_vec();
        wrapped(op, RequestKind::LeaseCheckpoint, &request)
    }

    /// The alarm of a member's full file, raised or lifted.
    pub(super) fn alarm(&mut self, member_id: u64, raised: bool) -> Bytes {
        use pb::alarm_request::AlarmAction::{Activate, Deactivate};
        let op = self.number();
        let action = if raised { Activate } else { Deactivate } as i32;
        let request = pb::AlarmRequest { action, member_id, alarm: NO_SPACE }.encode_to_vec();
        wrapped(op, RequestKind::Alarm, &request)
    }

    /// The next number, for an operation or a request.
    pub(super) fn number(&mut self) -> u64 {
        self.next_op += 1;
        self.next_op - 1
    }

    /// An operation reaches its member.
    pub(super) fn arrive(&mut self, op: u64) -> Result<(), String> {
        let Some(Op { slot, ask, .. }) = self.ops.get(&op) else { return Ok(()) };
        let (slot, ask) = (*slot, ask.clone());
        if self.slots[slot].node.is_none() {
            return self.refused(op);
        }
        self.with_node(slot, None, |world, node| {
            match ask {
                Ask::Write(kind, request) => {
                    node.proposals.push(wrapped(op, kind, &request));
                    if mutant::active(Mutant::AnswerAtProposal) {
                        let floor = world.clients.asked();
                        world.clients.wrote(&world.ledger, op, floor, None)?;
                    }
                }
                Ask::Read(key, end, true) if mutant::active(Mutant::ReadWithoutIndex) => {
                    world.answer_read(slot, node, op, &key, &end, true)?;
                }
                Ask::Read(_, _, true) => {
                    let round = node.consensus.want_read();
                    node.reads.entry(round).or_default().push(op);
                }
                Ask::Read(key, end, false) => world.answer_read(slot, node, op, &key, &end, false)?,
                Ask::Renew(lease) => world.renew(node, op, lease)?,
            }
            world.hand_out(slot, node)
        })
    }

    fn renew(&mut self, node: &mut Node, op: u64, lease: i64) -> Result<(), String> {
        let now_ms = node.clock.millis(self.now);
        match node.applier.lessor_mut().renew(now_ms, lease) {
            Ok(Renewal::Renewed { ttl_seconds }) => node.leases.renewed(now_ms, lease, ttl_seconds),
            // The checkpoint must go first, everywhere; the client asks again.
            Ok(Renewal::ClearCheckpoint) => {
                let request = self.checkpoints([(lease, 0)].into_iter());
                node.proposals.push(request);
            }
            Err(_) => {}
        }
        self.refused(op)
    }

    /// A client learns that its operation had no effect, or only one that needs no check.
    pub(super) fn refused(&mut self, op: u64) -> Result<(), String> {
        let Some(Op { by, slot, .. }) = self.ops.remove(&op) else { return Ok(()) };
        self.trace.add(self.now, Some(slot), What::Refused(op));
        self.go_on(by, &Answer::Refused)
    }

    /// A client waits no longer: the outcome stays unknown to it.
    pub(super) fn time_out(&mut self, op: u64) -> Result<(), String> {
        let Some(Op { by, slot, .. }) = self.ops.remove(&op) else { return Ok(()) };
        self.trace.add(self.now, Some(slot), What::TimedOut(op));
        self.go_on(by, &Answer::Nothing)
    }

    /// Whoever has asked goes on with what it has learnt.
    fn go_on(&mut self, by: Asker, answer: &Answer<'_>) -> Result<(), String> {
        match by {
            Asker::Client(client) => {
                self.next_turn(client);
                Ok(())
            }
            Asker::Elector(n) => self.elector_learns(n, answer),
            Asker::Observer(n) => self.observer_learns(n, answer),
        }
    }

    /// A request of this member is applied: whoever waits for it here is told.
    pub(super) fn answer_write(&mut self, slot: usize, effect: Effect) -> Result<(), Trouble> {
        if self.ops.get(&effect.id).is_none_or(|op| op.slot != slot || !matches!(op.ask, Ask::Write(..))) {
            return Ok(());
        }
        let op = self.ops.remove(&effect.id).expect("it was just there");
        let revision = effect.result.as_ref().ok().and_then(revision);
        self.clients.wrote(&self.ledger, effect.id, op.floor, revision)?;
        if let Asker::Client(client) = op.by {
            self.learn(&op.ask, &effect.result);
            if let (Some(lock), Ok(Reply::Txn(txn)), Some(revision)) = (op.lock, &effect.result, revision)
                && txn.succeeded
            {
                self.holders.claimed(lock, client, revision, revision)?;
                self.held.insert(client, (lock, revision));
            }
        }
        let answer = Answer::Written(&effect.result);
        Ok(self.answered(slot, effect.id, op.by, revision.unwrap_or_default(), &answer)?)
    }

    fn answered(
        &mut self,
        slot: usize,
        op: u64,
        by: Asker,
        revision: i64,
        answer: &Answer<'_>,
    ) -> Result<(), String> {
        self.trace.add(self.now, Some(slot), What::Answered(op, revision.cast_unsigned()));
        if let (Some(finish), Asker::Client(client)) = (&mut self.finish, by) {
            finish.served.insert(client);
        }
        self.go_on(by, answer)
    }

    /// Clients remember leases.
    fn learn(&mut self, ask: &Ask, result: &Result<Reply, Refusal>) {
        match (ask, result) {
            (_, Ok(Reply::LeaseGrant(granted))) => self.leases.push(granted.id),
            (Ask::Write(RequestKind::Put, request), Err(Refusal::LeaseNotFound)) => {
                let lease = pb::PutRequest::decode(request.clone()).map_or(0, |put| put.lease);
                self.leases.retain(|known| *known != lease);
            }
            // One of them is gone; a client would look which.
            (Ask::Write(RequestKind::Txn, _), Err(Refusal::LeaseNotFound)) => {
                let alive = &self.ledger.model.leases;
                self.leases.retain(|known| alive.contains_key(known));
            }
            (Ask::Write(RequestKind::LeaseRevoke, request), _) => {
                let lease = pb::LeaseRevokeRequest::decode(request.clone()).map_or(0, |revoke| revoke.id);
                self.leases.retain(|known| *known != lease);
            }
            _ => {}
        }
    }

    /// Confirmed reads whose index is applied run.
    pub(super) fn answer_reads(&mut self, slot: usize, node: &mut Node) -> Result<(), Trouble> {
        while let Some(first) = node.granted.first_entry()
            && (*first.key() <= node.told || mutant::active(Mutant::ReadBeforeApplied))
        {
            for op in first.remove() {
                let Some(Op { ask: Ask::Read(key, end, _), .. }) = self.ops.get(&op) else { continue };
                let (key, end) = (key.clone(), end.clone());
                self.answer_read(slot, node, op, &key, &end, true)?;
            }
        }
        Ok(())
    }

    fn answer_read(
        &mut self,
        slot: usize,
        node: &Node,
        op: u64,
        key: &[u8],
        end: &[u8],
        linearizable: bool,
    ) -> Result<(), Trouble> {
        let image = node.applier.store().read();
        let range = KeyRange::from_request(key, end);
        let rows = or_stop!(image.range(range, &RangeOptions::default()), "reading").rows;
        let pairs: Result<Vec<KeyValue>, _> = rows.iter().map(KeyValue::decode).collect();
        let pairs = pairs.map_err(|e| Trouble::Broken(format!("#{op} shows a damaged pair: {e}")))?;
        let revision = image.revision();
        let Some(asked) = self.ops.remove(&op) else { return Ok(()) };
        let place = if linearizable { Ok(asked.floor) } else { Err(node.start) };
        self.clients.read(&self.ledger, op, (key, end), (revision, &pairs), place)?;
        Ok(self.answered(slot, op, asked.by, revision, &Answer::Pairs(revision, &pairs))?)
    }
}

/// A transaction that does something while a key is still the one that was created at a revision (0: while there is
/// none), and shows the key otherwise: the guard of locks and elections.
pub(super) fn if_created_at(key: &Bytes, created: i64, then: pb::request_op::Request) -> pb::TxnRequest {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let compare = pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(created)),
        ..Default::default()
    };
    let get = pb::RangeRequest { key: key.clone(), ..Default::default() };
    let operation = |request| pb::RequestOp { request: Some(request) };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![operation(then)],
        failure: vec![operation(pb::request_op::Request::RequestRange(get))],
    }
}

pub(super) fn wrapped(op: u64, kind: RequestKind, request: &[u8]) -> Bytes {
    let header = pb::RequestHeader { id: op, ..Default::default() };
    wrap(&header, kind, request)
}

/// The revision that an answer's header tells.
pub(super) fn revision(reply: &Reply) -> Option<i64> {
    let header = match reply {
        Reply::Put(put) => &put.header,
        Reply::DeleteRange(delete) => &delete.header,
        Reply::Txn(txn) => &txn.header,
        Reply::LeaseRevoke(revoke) => &revoke.header,
        Reply::LeaseGrant(grant) => &grant.header,
        _ => return None,
    };
    header.as_ref().map(|header| header.revision)
}
