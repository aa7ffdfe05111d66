//! A message comes in: is it well formed, what does its term mean, who handles it.

use super::{Raft, Role};
use crate::error::{DropReason, Error};
use crate::mutant::{self, Mutant};
use crate::proto::{MAX_POSITION, Message, MessageType as T, NONE, is_local_thread};
use crate::storage::Storage;

/// Context of vote requests that a transferred leader sends: they override leases.
pub(super) const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

impl<S: Storage> Raft<S> {
    /// Refuses what no honest peer sends. What passes cannot overflow a position.
    pub(crate) fn check_network(&self, m: &Message) -> Result<(), Error> {
        let (msg_type, from) = (m.msg_type, m.from);
        if msg_type.is_local() || is_local_thread(from) || (from == self.id && msg_type.is_response()) {
            return Err(Error::LocalMessage { msg_type, from });
        }
        if m.to != self.id && m.to != NONE {
            return Err(Error::WrongReceiver { msg_type, to: m.to, id: self.id });
        }
        if msg_type.is_response() && !self.tracker.progress.contains(from) && msg_type != T::ReadIndexResp {
            return Err(Error::UnknownPeer { msg_type, from });
        }
        self.check_fields(m)
    }

    fn check_fields(&self, m: &Message) -> Result<(), Error> {
        let malformed = |what| Err(Error::Malformed { msg_type: m.msg_type, from: m.from, what });
        if m.term == 0 && !m.msg_type.may_lack_term() {
            return malformed("it has no term");
        }
        if m.from == NONE
            && m.msg_type != T::Prop
            && m.msg_type != T::ReadIndex
            && m.msg_type != T::ForgetLeader
        {
            return malformed("it has no sender");
        }
        let positions = [m.term, m.index, m.log_term, m.commit, m.reject_hint];
        if positions.into_iter().any(|p| p > MAX_POSITION) {
            return malformed("a term or index is out of range");
        }
        match m.msg_type {
            T::App => {
                let (mut index, mut term) = (m.index, m.log_term);
                for e in &m.entries {
                    index += 1;
                    if e.index != index {
                        return malformed("its entries are not contiguous");
                    }
                    if e.term < term || e.term > m.term {
                        return malformed("the terms of its entries do not ascend up to its own");
                    }
                    term = e.term;
                }
                if m.log_term > m.term || (m.index == 0 && m.log_term != 0) {
                    return malformed("its previous entry cannot exist");
                }
            }
            T::Snap => {
                let Some(s) = &m.snapshot else { return malformed("it has no snapshot") };
                if s.metadata.index > MAX_POSITION || s.metadata.term > m.term {
                    return malformed("its snapshot's position is out of range");
                }
            }
            T::ReadIndex | T::ReadIndexResp if m.entries.len() != 1 => {
                return malformed("it needs exactly one entry");
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes a message that has passed the checks, or one of our own. What is kept of it is taken out; messages are
    /// large, and moving them from call to call is what a step would do most.
    pub(crate) fn step(&mut self, m: &mut Message) -> Result<(), Error> {
        if m.term > self.term {
            if !self.step_higher_term(m) {
                return Ok(());
            }
        } else if m.term != 0 && m.term < self.term && !mutant::active(Mutant::StaleTermAccepted) {
            self.step_lower_term(m);
            return Ok(());
        }
        match m.msg_type {
            T::Vote | T::PreVote => self.answer_vote_request(m),
            _ => match self.role {
                Role::Follower => self.step_follower(m),
                Role::PreCandidate | Role::Candidate => self.step_candidate(m),
                Role::Leader => self.step_leader(m),
            },
        }
    }

    /// Applies the rules of a higher term; false if the message does not count.
    fn step_higher_term(&mut self, m: &Message) -> bool {
        if matches!(m.msg_type, T::Vote | T::PreVote) {
            let forced = &m.context[..] == CAMPAIGN_TRANSFER;
            let leased = self.settings.check_quorum
                && self.leader != NONE
                && self.election_elapsed < self.settings.election_ticks;
            if leased && !forced {
                self.ignore(m.msg_type, m.from, "a leader is known and its lease runs");
                return false;
            }
        }
        match m.msg_type {
            // A pre-vote asks about a term that nobody has entered.
            T::PreVote => {}
            // The answer to our own question; the term is entered when we win.
            T::PreVoteResp if !m.reject => {}
            _ if mutant::active(Mutant::HigherTermIgnored) && self.role == Role::Leader => return false,
            T::App | T::Heartbeat | T::Snap => self.become_follower(m.term, m.from),
            _ => self.become_follower(m.term, NONE),
        }
        true
    }

    fn step_lower_term(&mut self, m: &Message) {
        match m.msg_type {
            // Telling a stale leader our term frees whoever is stuck: it with a dead leadership, or we with a term
            // that nobody else follows.
            T::App | T::Heartbeat if self.settings.check_quorum || self.settings.pre_vote => {
                self.send(Message::new(T::AppResp, m.from));
            }
            // A silent refusal could block a mixed cluster for ever, each side waiting for the other's term.
            T::PreVote => {
                let reject = Message { reject: true, ..Message::new(T::PreVoteResp, m.from) };
                self.send(reject);
            }
            _ => self.ignore(m.msg_type, m.from, "its term is over"),
        }
    }

    fn step_follower(&mut self, m: &mut Message) -> Result<(), Error> {
        match m.msg_type {
            T::Prop => self.forward_proposal(std::mem::take(m)),
            T::App | T::Heartbeat | T::Snap => {
                self.election_elapsed = 0;
                if self.leader != m.from {
                    self.leader = m.from;
                    self.trace_role();
                }
                self.follow(m)
            }
            T::TransferLeader => {
                self.forward_transfer(std::mem::take(m));
                Ok(())
            }
            T::ForgetLeader => {
                self.forget_leader();
                Ok(())
            }
            T::TimeoutNow => self.campaign_for_transfer(),
            T::ReadIndex => {
                self.forward_read(std::mem::take(m));
                Ok(())
            }
            T::ReadIndexResp => {
                self.take_read_answer(m);
                Ok(())
            }
            t => {
                self.ignore(t, m.from, "not for a follower");
                Ok(())
            }
        }
    }

    fn step_candidate(&mut self, m: &mut Message) -> Result<(), Error> {
        match m.msg_type {
            T::Prop => Err(Error::ProposalDropped(DropReason::Campaigning)),
            // Of our own term: somebody else has won it.
            T::App | T::Heartbeat | T::Snap => {
                self.become_follower(m.term, m.from);
                self.follow(m)
            }
            T::VoteResp | T::PreVoteResp => self.count_vote(m),
            t => {
                self.ignore(t, m.from, "not for a candidate");
                Ok(())
            }
        }
    }

    fn step_leader(&mut self, m: &mut Message) -> Result<(), Error> {
        match m.msg_type {
            T::Prop => self.propose(std::mem::take(&mut m.entries)),
            T::ReadIndex => self.take_read_request(std::mem::take(m)),
            T::AppResp => self.take_append_answer(m),
            T::HeartbeatResp => self.take_heartbeat_answer(m),
            T::TransferLeader => self.take_transfer(m.from),
            t => {
                self.ignore(t, m.from, "not for a leader");
                Ok(())
            }
        }
    }

    /// Handles a message of the leader that this node has just recognised.
    fn follow(&mut self, m: &mut Message) -> Result<(), Error> {
        match m.msg_type {
            T::App => self.take_append(m),
            T::Heartbeat => self.take_heartbeat(m),
            _ => self.take_snapshot(m),
        }
    }
}
