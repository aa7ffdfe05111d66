//! Campaigns and votes (paper, 5.2 and 5.4.1; thesis, 9.6 for pre-vote).

use bytes::Bytes;

use super::step::CAMPAIGN_TRANSFER;
use super::{Raft, Role};
use crate::error::Error;
use crate::log::EntryId;
use crate::mutant::{self, Mutant};
use crate::proto::{Entry, MAX_POSITION, Message, MessageType as T, NONE};
use crate::quorum::VoteResult;
use crate::storage::Storage;
use crate::trace::TraceEvent;

impl<S: Storage> Raft<S> {
    /// The election timer fired, or the application wants a campaign.
    pub(crate) fn hup(&mut self) -> Result<(), Error> {
        if !self.may_campaign()? {
            return Ok(());
        }
        if self.settings.pre_vote { self.pre_campaign() } else { self.campaign(false) }
    }

    pub(super) fn campaign_for_transfer(&mut self) -> Result<(), Error> {
        // The leader itself asked for it: there is nobody to be careful about, so no pre-vote.
        if self.may_campaign()? { self.campaign(true) } else { Ok(()) }
    }

    fn may_campaign(&mut self) -> Result<bool, Error> {
        let reason = if self.role == Role::Leader {
            "it leads already"
        } else if !self.promotable() {
            "it is no voter, or waits for a snapshot"
        } else if self.term >= MAX_POSITION {
            "terms are used up"
        } else if self.log.any_unapplied(Entry::is_conf_change)?
            && !mutant::active(Mutant::CampaignWithPendingConf)
        {
            // The quorum that it would count is not the one in force.
            "a committed configuration change is not applied"
        } else {
            return Ok(true);
        };
        self.trace(|| TraceEvent::CampaignRefused { reason });
        Ok(false)
    }

    fn pre_campaign(&mut self) -> Result<(), Error> {
        let last = self.log.last_id()?;
        self.become_pre_candidate();
        self.request_votes(T::PreVote, self.term + 1, last, Bytes::new());
        Ok(())
    }

    fn campaign(&mut self, transfer: bool) -> Result<(), Error> {
        let last = self.log.last_id()?;
        self.become_candidate();
        let context = if transfer { Bytes::from_static(CAMPAIGN_TRANSFER) } else { Bytes::new() };
        self.request_votes(T::Vote, self.term, last, context);
        Ok(())
    }

    fn request_votes(&mut self, msg_type: T, term: u64, last: EntryId, context: Bytes) {
        for id in self.tracker.config.voters.ids().iter() {
            let mut m = Message { term, ..Message::new(msg_type, id) };
            if id == self.id {
                // The own vote counts when it is durable, like everybody's.
                m.msg_type = if msg_type == T::Vote { T::VoteResp } else { T::PreVoteResp };
            } else {
                (m.index, m.log_term, m.context) = (last.index, last.term, context.clone());
            }
            self.send(m);
        }
    }

    pub(super) fn answer_vote_request(&mut self, m: &Message) -> Result<(), Error> {
        let pre_vote = m.msg_type == T::PreVote;
        // Learners answer too: they may be voters that do not know it yet.
        let free = self.vote == m.from
            || (self.vote == NONE && self.leader == NONE)
            || (pre_vote && m.term > self.term)
            || (mutant::active(Mutant::VoteTwicePerTerm) && self.role == Role::Follower);
        let granted = free && self.log.is_up_to_date(EntryId { index: m.index, term: m.log_term })?;
        let answer = if pre_vote { T::PreVoteResp } else { T::VoteResp };
        // A grant speaks of the term asked for, a refusal of the own one: in a pre-vote they differ.
        let term = if granted { m.term } else { self.term };
        self.send(Message { term, reject: !granted, ..Message::new(answer, m.from) });
        if granted && !pre_vote {
            self.election_elapsed = 0;
            self.vote = m.from;
        }
        self.trace(|| TraceEvent::Voted { candidate: m.from, term: m.term, granted, pre_vote });
        Ok(())
    }

    pub(super) fn count_vote(&mut self, m: &Message) -> Result<(), Error> {
        let own_kind = if self.role == Role::PreCandidate { T::PreVoteResp } else { T::VoteResp };
        if m.msg_type != own_kind {
            self.ignore(m.msg_type, m.from, "an answer to the other kind of question");
            return Ok(());
        }
        self.tracker.record_vote(m.from, !m.reject);
        match self.tracker.vote_result() {
            VoteResult::Pending => Ok(()),
            VoteResult::Lost => {
                self.become_follower(self.term, NONE);
                Ok(())
            }
            VoteResult::Won if self.role == Role::PreCandidate => self.campaign(false),
            VoteResult::Won => {
                self.become_leader();
                self.broadcast_append()
            }
        }
    }
}
