//! What becomes of a proposal, by role and by limit.

use stanchion_raft::{
    ConfChange, ConfChangeType, ConfChangeV2, ConfState, DropReason, Entry, EntryType, Error, Message,
    MessageType as T,
};

use super::solo::{Solo, append, from};

fn dropped(reason: DropReason) -> Result<(), Error> {
    Err(Error::ProposalDropped(reason))
}

#[test]
fn a_proposal_without_entries_is_refused_everywhere() {
    let mut n = Solo::new(&[1]);
    assert_eq!(n.node.propose_batch(vec![]), Err(Error::EmptyProposal));
    assert_eq!(n.refuse(from(2, T::Prop, 0)), Error::EmptyProposal);
    n.lead();
    assert_eq!(n.node.propose_batch(vec![]), Err(Error::EmptyProposal));
}

#[test]
fn without_a_leader_and_while_campaigning_proposals_are_dropped() {
    let mut n = Solo::tuned(&[1], |c| c.pre_vote = true);
    assert_eq!(n.node.propose("x"), dropped(DropReason::NoLeader));
    n.node.campaign().unwrap();
    n.work();
    assert_eq!(n.node.propose("x"), dropped(DropReason::Campaigning));
    n.step(from(2, T::PreVoteResp, 2));
    assert_eq!(n.node.propose("x"), dropped(DropReason::Campaigning));
}

#[test]
fn a_follower_forwards_under_its_own_name_and_without_a_term() {
    let mut n = Solo::new(&[1]);
    n.step(append(2, 2, (1, 1), &[], 1));
    let prop = Message { entries: vec![Entry::normal("x")], ..from(3, T::Prop, 0) };
    let sent = n.step(prop);
    assert_eq!((sent[0].msg_type, sent[0].from, sent[0].to, sent[0].term), (T::Prop, 1, 2, 0));
    assert_eq!(&sent[0].entries[0].data[..], b"x");
}

#[test]
fn a_follower_that_may_not_forward_drops() {
    let mut n = Solo::tuned(&[1], |c| c.disable_proposal_forwarding = true);
    n.step(append(2, 2, (1, 1), &[], 1));
    assert_eq!(n.node.propose("x"), dropped(DropReason::ForwardingDisabled));
    let read = n.node.read_index("r");
    assert_eq!((read, n.work().len()), (Ok(()), 1), "reads are forwarded all the same");
}

#[test]
fn a_batch_is_appended_in_one_piece_at_the_leaders_term() {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    let foreign = Entry { term: 99, index: 99, ..Entry::normal("a") };
    n.node.propose_batch(vec![foreign, Entry::normal("b")]).unwrap();
    let sent = n.work();
    let positions: Vec<(u64, u64)> = sent[0].entries.iter().map(|e| (e.index, e.term)).collect();
    assert_eq!(positions, [(3, 2), (4, 2)]);
}

#[test]
fn a_leader_outside_the_configuration_drops() {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    n.node.apply_conf_change(ConfChange::new(ConfChangeType::RemoveNode, 1)).unwrap();
    assert_eq!(n.node.propose("x"), dropped(DropReason::NotMember));
}

#[test]
fn the_uncommitted_tail_is_limited_by_payload_bytes() {
    let mut n = Solo::tuned(&[1], |c| c.max_uncommitted_bytes = 100);
    n.lead_replicated();
    n.node.propose(vec![0; 500]).unwrap();
    assert_eq!(n.node.status().uncommitted_bytes, 500, "an empty tail takes anything");
    assert_eq!(n.node.propose("x"), dropped(DropReason::UncommittedTooLarge));
    assert_eq!(n.node.propose(""), Ok(()), "nothing always fits");
    let batch = vec![Entry::default(), Entry::normal("x")];
    assert_eq!(n.node.propose_batch(batch), dropped(DropReason::UncommittedTooLarge), "whole or not at all");
    let last = n.last();
    n.work();
    n.ack(2);
    assert_eq!((n.last(), n.node.status().uncommitted_bytes), (last, 0), "applied");
    n.propose(&[0; 60]);
    assert_eq!(n.node.propose(vec![0; 60]), dropped(DropReason::UncommittedTooLarge));
    assert_eq!(n.node.propose(vec![0; 40]), Ok(()));
}

#[test]
fn a_new_term_begins_with_an_empty_account() {
    let mut n = Solo::tuned(&[1], |c| c.max_uncommitted_bytes = 10);
    n.lead_replicated();
    n.propose(&[0; 50]);
    n.step(append(2, 3, (2, 2), &[], 2));
    assert_eq!(n.node.status().uncommitted_bytes, 0);
    // Entries that another leader appended are applied and never were in the account: it stops at nothing.
    n.lead();
    n.ack(2);
    assert_eq!(n.node.status().uncommitted_bytes, 0);
}

#[test]
fn changes_that_are_not_allowed_now_become_empty_entries() {
    let add = |id| ConfChange::new(ConfChangeType::AddLearnerNode, id);
    let kinds = |n: &Solo| -> Vec<EntryType> { n.applied.iter().skip(1).map(|e| e.entry_type).collect() };
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    n.node.propose_conf_change(&add(4)).unwrap();
    n.node.propose_conf_change(&add(5)).unwrap();
    n.work();
    n.ack(2);
    assert_eq!(kinds(&n), [EntryType::ConfChange, EntryType::Normal], "the first is not applied yet");
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    n.node.propose_conf_change_v2(&ConfChangeV2::default()).unwrap();
    n.work();
    n.ack(2);
    assert_eq!(kinds(&n), [EntryType::Normal], "nothing to leave");
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    n.node.propose_batch(vec![add(4).to_entry(), add(5).to_entry()]).unwrap();
    n.work();
    n.ack(2);
    assert_eq!(kinds(&n), [EntryType::ConfChange, EntryType::Normal], "within one batch");
}

#[test]
fn a_new_leader_takes_no_change_until_what_it_inherited_is_applied() {
    let mut n = Solo::new(&[1, 2, 2]);
    n.lead();
    assert_eq!(n.node.status().pending_conf_index, 3);
    let change = ConfChange::new(ConfChangeType::AddNode, 4);
    n.node.propose_conf_change(&change).unwrap();
    n.work();
    n.ack_all();
    assert_eq!(n.node.conf_state(), ConfState::new(&[1, 2, 3], &[]));
    n.node.propose_conf_change(&change).unwrap();
    n.work();
    n.ack(2);
    assert_eq!(n.node.conf_state(), ConfState::new(&[1, 2, 3, 4], &[]));
}

#[test]
fn a_change_that_cannot_be_decoded_is_refused_before_it_is_appended() {
    let mut n = Solo::new(&[1]);
    n.lead_replicated();
    let broken = Entry { entry_type: EntryType::ConfChange, data: vec![0xff].into(), ..Entry::default() };
    assert!(matches!(n.node.propose_batch(vec![broken]), Err(Error::Decode(_))));
    assert_eq!(n.last(), 2);
}
