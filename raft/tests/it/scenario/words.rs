//! How the scripts write things down. A position in the log is `index/term`; an entry is its position and its content.

use stanchion_raft::tracker::ProgressState;
use stanchion_raft::{
    ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message,
    MessageType as T, PeerStatus, Role, TraceEvent,
};

fn text(bytes: &[u8]) -> String {
    // The number of a read round, or the application's own words.
    match <[u8; 8]>::try_from(bytes) {
        Ok(number) if number[1..] == [0; 7] => format!("round {}", number[0]),
        _ => format!("\"{}\"", String::from_utf8_lossy(bytes)),
    }
}

fn ids(ids: &[u64]) -> String {
    let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
    format!("({})", ids.join(" "))
}

pub fn configuration(cs: &ConfState) -> String {
    let mut words = format!("voters {}", ids(&cs.voters));
    for (what, list) in
        [("outgoing", &cs.voters_outgoing), ("learners", &cs.learners), ("learners next", &cs.learners_next)]
    {
        if !list.is_empty() {
            words += &format!(" {what} {}", ids(list));
        }
    }
    if cs.auto_leave {
        words += " auto-leave";
    }
    words
}

pub fn change(change: &ConfChangeV2) -> String {
    let mut words = match change.transition {
        ConfChangeTransition::Auto => String::new(),
        ConfChangeTransition::JointImplicit => "implicit ".to_owned(),
        ConfChangeTransition::JointExplicit => "explicit ".to_owned(),
    };
    let changes: Vec<String> = change
        .changes
        .iter()
        .map(|c| match c.change_type {
            ConfChangeType::AddNode => format!("+{}", c.node_id),
            ConfChangeType::RemoveNode => format!("-{}", c.node_id),
            ConfChangeType::AddLearnerNode => format!("~{}", c.node_id),
            ConfChangeType::UpdateNode => format!("={}", c.node_id),
        })
        .collect();
    words += &if changes.is_empty() { "leave".to_owned() } else { changes.join(" ") };
    words
}

fn content(e: &Entry) -> String {
    match e.entry_type {
        EntryType::Normal if e.data.is_empty() => "empty".to_owned(),
        EntryType::Normal => text(&e.data),
        EntryType::ConfChange | EntryType::ConfChangeV2 => match ConfChangeV2::from_entry(e) {
            Ok(Some(c)) => format!("change {}", change(&c)),
            other => format!("change {other:?}"),
        },
    }
}

pub fn entry(e: &Entry) -> String {
    format!("{}/{} {}", e.index, e.term, content(e))
}

/// Entries in one line; many in a row are shortened to the first and the last.
pub fn entries(list: &[Entry]) -> String {
    match list {
        [] => "nothing".to_owned(),
        [first, .., last] if list.len() > 8 => format!("{} .. {}", entry(first), entry(last)),
        _ => list.iter().map(entry).collect::<Vec<_>>().join(", "),
    }
}

pub fn hard_state(hs: &HardState) -> String {
    match hs.vote {
        0 => format!("term {}, commit {}", hs.term, hs.commit),
        vote => format!("term {}, vote for {vote}, commit {}", hs.term, hs.commit),
    }
}

pub fn name(t: T) -> &'static str {
    match t {
        T::Prop => "Prop",
        T::App => "App",
        T::AppResp => "AppResp",
        T::Vote => "Vote",
        T::VoteResp => "VoteResp",
        T::PreVote => "PreVote",
        T::PreVoteResp => "PreVoteResp",
        T::Snap => "Snap",
        T::Heartbeat => "Heartbeat",
        T::HeartbeatResp => "HeartbeatResp",
        T::TransferLeader => "TransferLeader",
        T::TimeoutNow => "TimeoutNow",
        T::ReadIndex => "ReadIndex",
        T::ReadIndexResp => "ReadIndexResp",
        T::ForgetLeader => "ForgetLeader",
        _ => "local",
    }
}

pub fn message(m: &Message) -> String {
    let mut words = format!("{}->{} {}", m.from, m.to, name(m.msg_type));
    if m.term != 0 {
        words += &format!(" term {}", m.term);
    }
    let tail = match m.msg_type {
        T::Vote | T::PreVote => format!(", log ends {}/{}", m.index, m.log_term),
        T::VoteResp | T::PreVoteResp => (if m.reject { ", refused" } else { ", granted" }).to_owned(),
        T::App if m.entries.is_empty() => {
            format!(", nothing after {}/{}, commit {}", m.index, m.log_term, m.commit)
        }
        T::App => {
            format!(", after {}/{}: {}; commit {}", m.index, m.log_term, entries(&m.entries), m.commit)
        }
        T::AppResp if m.reject && m.log_term == 0 => format!(", refuses {}, try {}", m.index, m.reject_hint),
        T::AppResp if m.reject => format!(", refuses {}, try {}/{}", m.index, m.reject_hint, m.log_term),
        T::AppResp => format!(", has {}", m.index),
        T::Heartbeat => format!(", commit {}", m.commit),
        T::Prop => format!(" {}", m.entries.iter().map(content).collect::<Vec<_>>().join(", ")),
        T::ReadIndex => format!(" {}", content(&m.entries[0])),
        T::ReadIndexResp => format!(" {} at {}", content(&m.entries[0]), m.index),
        T::Snap => m.snapshot.as_ref().map_or_else(String::new, |s| {
            let at = &s.metadata;
            format!(", {}/{} {}", at.index, at.term, configuration(&at.conf_state))
        }),
        _ => String::new(),
    };
    words += &tail;
    if !m.context.is_empty() {
        words += &format!(", {}", text(&m.context));
    }
    words
}

pub fn role(role: Role) -> &'static str {
    match role {
        Role::Follower => "follower",
        Role::PreCandidate => "pre-candidate",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
    }
}

/// One peer as its leader sees it.
pub fn peer(p: &PeerStatus) -> String {
    let mut words = format!("{}: match {}, next {}", p.id, p.match_index, p.next);
    words += match p.state {
        ProgressState::Probe => ", probe",
        ProgressState::Replicate => ", replicate",
        ProgressState::Snapshot => ", snapshot",
    };
    if p.paused && p.state != ProgressState::Snapshot {
        words += ", paused";
    }
    if p.pending_snapshot != 0 {
        words += &format!(" {}", p.pending_snapshot);
    }
    if p.inflight_msgs > 0 {
        words += &format!(", {} in flight", p.inflight_msgs);
    }
    if p.is_learner {
        words += ", learner";
    }
    if !p.recent_active {
        words += ", silent";
    }
    words
}

/// A decision, without who made it.
pub fn event(e: &TraceEvent) -> String {
    match e {
        TraceEvent::Became { role: Role::Follower, term, leader: 0 } => {
            format!("becomes follower in term {term}, without a leader")
        }
        TraceEvent::Became { role: Role::Follower, term, leader } => {
            format!("becomes follower of {leader} in term {term}")
        }
        TraceEvent::Became { role: r, term, .. } => format!("becomes {} in term {term}", role(*r)),
        TraceEvent::Ignored { msg_type, from, reason } => {
            format!("ignores {} from {from}: {reason}", name(*msg_type))
        }
        TraceEvent::Voted { candidate, term, granted, pre_vote } => {
            let verb = if *granted { "grants" } else { "refuses" };
            let what = if *pre_vote { "the pre-vote" } else { "its vote" };
            format!("{verb} {candidate} {what} for term {term}")
        }
        TraceEvent::CampaignRefused { reason } => format!("does not campaign: {reason}"),
        TraceEvent::Committed { index } => format!("commits up to {index}"),
        TraceEvent::AppendRejected { from, index, hint } => {
            format!("has nothing equal to {from}'s log at {index}; it could agree up to {hint}")
        }
        TraceEvent::Progress { id, state: ProgressState::Probe, next } => format!("probes {id} from {next}"),
        TraceEvent::Progress { id, state: ProgressState::Replicate, next } => {
            format!("replicates to {id} from {next}")
        }
        TraceEvent::Progress { id, state: ProgressState::Snapshot, next } => {
            format!("gives {id} a snapshot; its log goes on at {next}")
        }
        TraceEvent::Restored { index, term } => format!("restores the snapshot {index}/{term}"),
        TraceEvent::ConfChanged { conf_state } => format!("switches to {}", configuration(conf_state)),
        TraceEvent::ConfChangeRefused { reason } => format!("makes the change an empty entry: {reason}"),
        TraceEvent::Transfer { to: 0 } => "ends the transfer".to_owned(),
        TraceEvent::Transfer { to } => format!("moves leadership to {to}"),
        TraceEvent::ReadConfirmed { count } => format!("has a quorum for {count} reads"),
        other => format!("{other:?}"),
    }
}
