//! What a member does when its turn comes: the threads of a real one, one step at a time.
//!
//! The order within each step is the server's; what lies between two steps is where a crash may fall.

use std::sync::Arc;

use stanchion_api::raft_request::RequestKind;
use stanchion_mvcc::Applied;
use stanchion_raft::{ConfChangeType, Role};
use stanchion_replica::apply::{Effect, Reply};
use stanchion_replica::consensus::{ApplyWork, Dropped, Leadership};
use stanchion_replica::history::History;

use super::node::{Node, Trouble, or_stop};
use super::queue::Work;
use super::{State, World};
use crate::mutant::{self, Mutant};
use crate::scenario::{Fault, TICK_US};
use crate::trace::What;

/// Pages of one step of making the store's file shorter.
const SHRINK_PAGES: u64 = 64;

impl World {
    /// Does one piece of work.
    pub(super) fn work(&mut self, slot: usize, node: &mut Node, work: Work) -> Result<(), Trouble> {
        match work {
            Work::Tick => {
                or_stop!(node.consensus.handle_tick(), "raft");
                let at = self.now + node.clock.lasts(TICK_US);
                self.plan(slot, node, at, Work::Tick);
                Ok(())
            }
            Work::Write => self.write(slot, node),
            Work::Sync => self.sync(slot, node),
            Work::Apply => self.apply(slot, node),
            Work::Told => self.tell(slot, node),
            Work::Commit => self.commit(slot, node),
            Work::Release => {
                let Some(release) = node.release.take() else { return Ok(()) };
                let mut snapshot = node.committed()?;
                if mutant::active(Mutant::ReleaseWithoutCommit) {
                    snapshot.metadata.index = release.index + 1;
                }
                let release = release.at(&snapshot.metadata);
                node.releases.push_back((release, Box::new(snapshot)));
                self.wake_writer(slot, node);
                Ok(())
            }
            Work::Leases => self.offer_leases(slot, node),
            Work::CatchUp => {
                if let Some(job) = node.hub.begin_catch_up() {
                    node.caught_up = Some(job.run(&History(node.applier.store().read())));
                    let at = self.now + self.work_random.below(20_000);
                    self.plan(slot, node, at, Work::CaughtUp);
                } else {
                    node.catching_up = false;
                }
                Ok(())
            }
            Work::CaughtUp => {
                if let Some(caught_up) = node.caught_up.take() {
                    node.hub.finish_catch_up(caught_up);
                }
                let at = self.now + 5_000;
                self.plan(slot, node, at, Work::CatchUp);
                Ok(())
            }
            Work::SnapshotSent(to, delivered) => {
                node.consensus.handle_snapshot_sent(to, delivered);
                Ok(())
            }
        }
    }

    /// Proposes what waits, takes raft's outputs and sends each where it belongs.
    pub(super) fn hand_out(&mut self, slot: usize, node: &mut Node) -> Result<(), Trouble> {
        self.propose(node)?;
        let outputs = or_stop!(node.consensus.take_outputs(), "raft");
        if let Some(leadership) = outputs.leadership {
            self.lead(slot, node, leadership)?;
        }
        let committed = node.consensus.committed();
        if committed < node.commit_index {
            let before = node.commit_index;
            return Err(Trouble::Broken(format!(
                "member {:x}: commit index went from {before} to {committed}",
                node.id
            )));
        }
        node.commit_index = committed;
        for message in outputs.messages {
            self.send(slot, node, message);
        }
        for message in outputs.snapshots {
            self.send_database(slot, node, message)?;
        }
        if !outputs.append.is_empty() {
            node.to_append.extend(outputs.append);
            self.wake_writer(slot, node);
        }
        if !outputs.apply.is_empty() {
            node.to_apply.extend(outputs.apply);
            self.wake_applier(slot, node);
        }
        for granted in outputs.granted {
            let waiting = node.reads.remove(&granted.round).unwrap_or_default();
            node.granted.entry(granted.index).or_default().extend(waiting);
        }
        for round in outputs.aborted {
            for op in node.reads.remove(&round).unwrap_or_default() {
                self.refused(op)?;
            }
        }
        if let Some(release) = outputs.release {
            node.release = Some(release);
            let at = self.now + self.work_random.below(20_000);
            self.plan(slot, node, at, Work::Release);
        }
        self.answer_reads(slot, node)
    }

    fn propose(&mut self, node: &mut Node) -> Result<(), Trouble> {
        let must_stop = |error| Trouble::Stopped(format!("raft: {error}"));
        if !node.proposals.is_empty() {
            match node.consensus.propose(node.proposals.clone()) {
                Ok(()) => self.proposed(node),
                Err(Dropped::Now(_)) => {}
                Err(Dropped::Stop(error)) => return Err(must_stop(error)),
            }
        }
        if let Some(change) = node.changes.first() {
            match node.consensus.propose_change(change) {
                Ok(()) => _ = node.changes.remove(0),
                Err(Dropped::Now(_)) => {}
                Err(Dropped::Stop(error)) => return Err(must_stop(error)),
            }
        }
        Ok(())
    }

    fn lead(&mut self, slot: usize, node: &mut Node, leadership: Leadership) -> Result<(), Trouble> {
        let Leadership { leader, role, term } = leadership;
        if role == Role::Leader {
            self.elections.leads(node.id, term)?;
            self.trace.add(self.now, Some(slot), What::Leads(term));
        } else {
            self.trace.add(self.now, Some(slot), What::Follows(leader, term));
        }
        node.leads = (role == Role::Leader).then_some(term);
        self.settle_primary(node)
    }

    /// A member counts the time of leases from the first applied entry of its own term until it no longer leads.
    fn settle_primary(&mut self, node: &mut Node) -> Result<(), Trouble> {
        let should = node.leads.is_some_and(|term| node.opened_term >= term);
        let now_ms = node.clock.millis(self.now);
        let lessor = node.applier.lessor_mut();
        match (should, lessor.is_primary()) {
            (true, false) => {
                let begins = if mutant::active(Mutant::LeaseNotExtended) { 0 } else { now_ms };
                let extend_ms = u64::from(self.scenario.election_ticks) * TICK_US / 1000;
                lessor.promote(begins, extend_ms);
                let left = |id| lessor.time_to_live(now_ms, id).map(|left| left.remaining_seconds);
                node.leases.promoted(node.id, (now_ms, extend_ms), &lessor.stored(), left)?;
            }
            (false, true) => {
                lessor.demote();
                node.leases.demoted();
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn wake_writer(&mut self, slot: usize, node: &mut Node) {
        if !node.writing {
            node.writing = true;
            let at = self.now + self.work_random.below(100);
            self.plan(slot, node, at, Work::Write);
        }
    }

    fn wake_applier(&mut self, slot: usize, node: &mut Node) {
        if !node.applying && !node.to_apply.is_empty() {
            node.applying = true;
            let longest = if self.faulty(Fault::SlowDisk) { 50_000 } else { 300 };
            let at = self.now + self.work_random.below(longest);
            self.plan(slot, node, at, Work::Apply);
        }
    }

    /// The log writer takes what has gathered.
    fn write(&mut self, slot: usize, node: &mut Node) -> Result<(), Trouble> {
        let mut awaited = false;
        while let Some(work) = node.to_append.pop_front() {
            or_stop!(node.journal.append(&work), "log");
            let entries = work.entries();
            let last = entries.last().map_or(0, |entry| entry.index);
            self.trace.add(self.now, Some(slot), What::Appended(entries.len() as u64, last));
            awaited |= work.is_awaited();
            node.appended.push(work);
        }
        let wait = match node.journal.needs_sync() && awaited {
            true => self.work_random.below(self.slots[slot].sync_us),
            false => 0,
        };
        self.plan(slot, node, self.now + wait, Work::Sync);
        Ok(())
    }

    /// The sync is done: raft hears of it; then the log may let go of its past.
    fn sync(&mut self, slot: usize, node: &mut Node) -> Result<(), Trouble> {
        let only_votes = node.appended.iter().all(|work| work.entries().is_empty());
        let skipped =
            mutant::active(Mutant::LogNotSynced) || (mutant::active(Mutant::VoteNotSynced) && only_votes);
        if node.journal.needs_sync() && node.appended.iter().any(|work| work.is_awaited()) && !skipped {
            match node.journal.sync() {
                Err(_) if mutant::active(Mutant::FailedSyncForgotten) => {}
                synced => or_stop!(synced, "log"),
            }
            self.trace.add(self.now, Some(slot), What::Synced);
        }
        for work in std::mem::take(&mut node.appended) {
            if let Some(index) = work.snapshot().map(|snapshot| snapshot.metadata.index) {
                self.install(slot, node, index)?;
            }
            or_stop!(node.consensus.handle_appended(work), "raft");
        }
        or_stop!(node.journal.cut_if_due(), "log");
        while let Some((release, snapshot)) = node.releases.pop_front() {
            or_stop!(node.journal.release(&release, &snapshot), "log");
            or_stop!(node.consensus.handle_released(&release), "raft");
            self.trace.add(self.now, Some(slot), What::Released(release.index));
        }
        node.writing = false;
        if !node.to_append.is_empty() {
            self.wake_writer(slot, node);
        }
        Ok(())
    }

    /// A leader's database takes the place of the own one, behind everything that was handed out for apply before.
    fn install(&mut self, slot: usize, node: &mut Node, index: u64) -> Result<(), Trouble> {
        self.tell(slot, node)?;
        while !node.to_apply.is_empty() {
            self.apply(slot, node)?;
            self.tell(slot, node)?;
        }
        node.install(index)?;
        self.settle_primary(node)?;
        self.trace.add(self.now, Some(slot), What::Installed(index));
        self.ledger.check_state(node.id, &node.applier)?;
        self.wake_catch_up(slot, node);
        Ok(())
    }

    /// The applier takes the next batch.
    fn apply(&mut self, slot: usize, node: &mut Node) -> Result<(), Trouble> {
        let Some(work) = node.to_apply.pop_front() else { return Ok(()) };
        self.agree(node, &work)?;
        let now_ms = node.clock.millis(self.now);
        let (ledger, member) = (&mut self.ledger, node.id);
        let mut checked = Ok(());
        let applied = node.applier.apply_work(now_ms, work, |entry, effect| {
            if let (Ok(()), Some(effect)) = (&checked, effect) {
                checked = ledger.applied(member, entry, effect);
            }
        });
        let done = or_stop!(applied, "apply");
        checked?;
        if let Some(term) = done.opened_term {
            node.opened_term = term;
        }
        self.settle_primary(node)?;
        for effect in &done.effects {
            if effect.raise_no_space {
                let request = self.alarm(node.id, true);
                node.proposals.push(request);
            }
            if let Some((revision, events)) = &effect.events {
                node.hub.publish(*revision, published(events));
            }
            self.count_grant(node, now_ms, effect);
        }
        self.wake_catch_up(slot, node);
        let applied = node.applier.applied().index;
        self.trace.add(
            self.now,
            Some(slot),
            What::Applied(applied, node.applier.store().revision().cast_unsigned()),
        );
        node.applied = Some(done);
        let at = self.now + self.work_random.below(200);
        self.plan(slot, node, at, Work::Told);
        Ok(())
    }

    /// Every entry is the agreed one, and there is none between it and what the member has.
    fn agree(&mut self, node: &Node, work: &ApplyWork) -> Result<(), Trouble> {
        let mut applied = node.applier.applied().index;
        for entry in work.entries() {
            if entry.index > applied + 1 {
                let (id, index) = (node.id, entry.index);
                return Err(Trouble::Broken(format!("member {id:x} applies {index} right after {applied}")));
            }
            applied = applied.max(entry.index);
            self.ledger.commit(node.id, entry)?;
            self.holders.follow(&self.ledger.model)?;
        }
        Ok(())
    }

    fn count_grant(&mut self, node: &mut Node, now_ms: u64, effect: &Effect) {
        // One that found the file over its quota was granted all the same; clients ask for their operation's number.
        let over_quota = effect.raise_no_space && effect.kind == Some(RequestKind::LeaseGrant);
        let granted = match &effect.result {
            Ok(Reply::LeaseGrant(granted)) => granted.id,
            _ if over_quota => effect.id.cast_signed(),
            _ => return,
        };
        let lessor = node.applier.lessor();
        if let Some(left) = lessor.time_to_live(now_ms, granted)
            && lessor.is_primary()
        {
            node.leases.renewed(now_ms, granted, left.granted_seconds);
        }
    }

    /// Raft hears of what is applied, then those who wait for it.
    fn tell(&mut self, slot: usize, node: &mut Node) -> Result<(), Trouble> {
        let Some(done) = node.applied.take() else { return Ok(()) };
        for (index, mut change) in done.changes {
            let removes = change.change_type == ConfChangeType::RemoveNode;
            if mutant::active(Mutant::ChangeNotTold)
                || (mutant::active(Mutant::RemovedStillCounts) && removes)
            {
                change.node_id = 0;
            }
            or_stop!(node.consensus.apply_change(index, change), "raft");
        }
        or_stop!(node.consensus.handle_applied(done.work), "raft");
        if done.opened_term.is_some() {
            or_stop!(node.consensus.handle_opened_term(), "raft");
        }
        node.told = node.told.max(node.applier.applied().index);
        for effect in done.effects {
            self.answer_write(slot, effect)?;
        }
        self.answer_reads(slot, node)?;
        if node.applier.cluster().is_removed(node.id) {
            self.trace.add(self.now, Some(slot), What::Removed);
            self.slots[slot].state = State::Removed;
        }
        node.applying = false;
        self.wake_applier(slot, node);
        Ok(())
    }

    /// The committer's turn.
    fn commit(&mut self, slot: usize, node: &mut Node) -> Result<(), Trouble> {
        let store = node.applier.store();
        let applied = node.applier.applied();
        if mutant::active(Mutant::AppliedIndexAhead) && applied.index > 0 {
            store.set_applied(Applied { index: applied.index + 1, ..applied });
        }
        if mutant::active(Mutant::AppliedIndexBehind) && applied.index > 0 {
            store.set_applied(Applied { index: applied.index - 1, ..applied });
        }
        if mutant::active(Mutant::AppliedIndexBeforeData)
            && let Some(next) = node.to_apply.front().and_then(|work| work.entries().first())
        {
            store.set_applied(Applied { index: next.index, term: next.term });
        }
        if or_stop!(store.commit(), "commit").is_some() {
            self.trace.add(self.now, Some(slot), What::Committed);
        }
        if store.is_compacting() {
            // Small steps leave room for crashes between them; after the faults all that have gathered must end.
            or_stop!(store.compaction_step(self.scenario.compaction_rows), "compaction");
            while self.finish.is_some() && store.is_compacting() {
                or_stop!(store.compaction_step(10_000), "compaction");
            }
        } else if self.faulty(Fault::Shrink) && self.work_random.chance(0.1) {
            if mutant::active(Mutant::ShrinkForgetsIndex) && applied.index > 1 {
                let behind = Applied { index: applied.index - 1, ..applied };
                store.set_applied(behind);
                or_stop!(store.commit(), "commit");
                store.set_applied(applied);
            }
            or_stop!(store.shrink_step(SHRINK_PAGES), "shrinking");
        }
        let at = self.now + self.scenario.commit_us / 2 + self.work_random.below(self.scenario.commit_us);
        self.plan(slot, node, at, Work::Commit);
        Ok(())
    }

    /// The primary proposes that what ran out is revoked.
    fn offer_leases(&mut self, slot: usize, node: &mut Node) -> Result<(), Trouble> {
        let now_ms = node.clock.millis(self.now);
        let early = if mutant::active(Mutant::LeaseExpiresEarly) { 2000 } else { 0 };
        node.applier.lessor_mut().handle_tick(now_ms + early);
        while let Some(batch) = node.applier.lessor_mut().take_expired() {
            for lease in batch {
                node.leases.expired(node.id, now_ms, lease)?;
                // A way to raft that is full drops it: it is offered again.
                let is_dropped = self.faulty(Fault::Loss) && self.work_random.chance(self.scenario.loss);
                let request = self.revocation(lease);
                if !mutant::active(Mutant::LeaseNeverExpires) && !is_dropped {
                    node.proposals.push(request);
                }
            }
        }
        while let Some(batch) = node.applier.lessor_mut().take_checkpoints() {
            let request = self.checkpoints(batch.iter().map(|lease| (lease.id, lease.remaining_seconds)));
            node.proposals.push(request);
        }
        let at = self.now + node.clock.lasts(stanchion_lease::ROUND_MS * 1000);
        self.plan(slot, node, at, Work::Leases);
        Ok(())
    }

    /// What raft has taken waits no longer.
    fn proposed(&mut self, node: &mut Node) {
        let proposals = std::mem::take(&mut node.proposals);
        if mutant::active(Mutant::ProposalRepeated) && self.work_random.chance(0.1) {
            // Raft may drop them the second time.
            let _ = node.consensus.propose(proposals);
        }
    }

    pub(super) fn wake_catch_up(&mut self, slot: usize, node: &mut Node) {
        if !node.catching_up && node.hub.needs_catch_up() {
            node.catching_up = true;
            let at = self.now + self.work_random.below(20_000);
            self.plan(slot, node, at, Work::CatchUp);
        }
    }
}

/// The events that watchers hear of: all of them.
fn published(events: &Arc<[stanchion_watch::Event]>) -> Arc<[stanchion_watch::Event]> {
    use stanchion_watch::EventKind;
    if mutant::active(Mutant::WatchFirstEventOnly) {
        return events.iter().take(1).cloned().collect();
    }
    if mutant::active(Mutant::WatchWithoutDeletes) {
        return events.iter().filter(|event| event.kind == EventKind::Put).cloned().collect();
    }
    events.clone()
}
