//! Whether the members' stores are still the same: what hashes that were taken apart say about it.
//!
//! What lives here: the rules, etcd's. What may not: asking for hashes, and when that is done.

use std::collections::BTreeMap;

use stanchion_mvcc::KvHash;

/// Another member's answer to the question for its hash at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerHash {
    /// The member.
    pub member_id: u64,
    /// Its current revision.
    pub current_revision: i64,
    /// The hash.
    pub hash: u32,
    /// Its compact revision; hashes can only be compared where these are equal.
    pub compact_revision: i64,
}

impl PeerHash {
    fn differs_from(&self, own: KvHash) -> bool {
        self.compact_revision == own.compact_revision && self.hash != own.hash
    }
}

/// A member's look before it serves: the others whose store is not what this one has. All were asked at `own`'s revision.
#[must_use]
pub fn differing(own: KvHash, peers: &[PeerHash]) -> Vec<u64> {
    peers.iter().filter(|peer| peer.differs_from(own)).map(|peer| peer.member_id).collect()
}

/// What a leader hashed around its question to the others.
#[derive(Clone, Copy, Debug)]
pub struct LeadersLook {
    /// The leader.
    pub member_id: u64,
    /// At its current revision, before it asked.
    pub first: KvHash,
    /// At its current revision, after the answers and a linearizable read.
    pub second: KvHash,
}

/// The leader's periodic look: the member to be alarmed, one at most.
#[must_use]
pub fn find_corrupt(own: &LeadersLook, peers: &[PeerHash]) -> Option<u64> {
    let LeadersLook { first, second, .. } = *own;
    let same_place = first.revision == second.revision && first.compact_revision == second.compact_revision;
    if same_place && first.hash != second.hash {
        return Some(own.member_id);
    }
    // Nobody is ahead of a leader that has just confirmed that it leads.
    let corrupt = |peer: &&PeerHash| {
        peer.current_revision > second.revision
            || peer.compact_revision > second.compact_revision
            || peer.differs_from(first)
    };
    peers.iter().find(corrupt).map(|peer| peer.member_id)
}

/// What the hashes of one compaction say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compared {
    /// All members have the same: nothing older needs to be looked at again.
    Same,
    /// Those who could be compared have the same; others did not answer, or compacted elsewhere.
    Incomplete,
    /// These members are in the minority.
    Minority(Vec<u64>),
    /// There are differences, and nobody is in the majority.
    NoMajority,
}

/// The leader's look at a compaction that all members have made at the same place. `others` is how many members there
/// are beside it.
#[must_use]
pub fn compare_compaction(leader: u64, own: KvHash, peers: &[PeerHash], others: usize) -> Compared {
    let mut by_hash: BTreeMap<u32, Vec<u64>> = BTreeMap::from([(own.hash, vec![leader])]);
    let comparable = peers.iter().filter(|peer| peer.compact_revision == own.compact_revision);
    let mut compared = 0;
    for peer in comparable {
        compared += 1;
        by_hash.entry(peer.hash).or_default().push(peer.member_id);
    }
    if by_hash.len() == 1 {
        return if compared == others { Compared::Same } else { Compared::Incomplete };
    }
    let quorum = others.div_ceil(2) + 1;
    let Some(right) = by_hash.iter().find(|(_, members)| members.len() >= quorum).map(|(hash, _)| *hash)
    else {
        return Compared::NoMajority;
    };
    by_hash.remove(&right);
    Compared::Minority(by_hash.into_values().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn own(hash: u32, compact_revision: i64, revision: i64) -> KvHash {
        KvHash { hash, compact_revision, revision }
    }

    const fn peer(member_id: u64, hash: u32, compact_revision: i64, current_revision: i64) -> PeerHash {
        PeerHash { member_id, current_revision, hash, compact_revision }
    }

    #[test]
    fn cor_1_only_hashes_of_the_same_compact_revision_are_compared() {
        let own = own(7, 3, 10);
        assert_eq!(differing(own, &[peer(2, 7, 3, 10), peer(3, 8, 4, 12)]), [0; 0]);
        assert_eq!(differing(own, &[peer(2, 7, 3, 10), peer(3, 8, 3, 12)]), [3]);
    }

    #[test]
    fn cor_3_a_leader_that_contradicts_itself_is_alarmed() {
        let look = LeadersLook { member_id: 1, first: own(7, 3, 10), second: own(8, 3, 10) };
        assert_eq!(find_corrupt(&look, &[peer(2, 9, 3, 10)]), Some(1));
        let written_to = LeadersLook { member_id: 1, first: own(7, 3, 10), second: own(8, 3, 11) };
        assert_eq!(find_corrupt(&written_to, &[]), None);
    }

    #[test]
    fn cor_4_a_follower_that_is_ahead_or_differs_is_alarmed_once() {
        let look = LeadersLook { member_id: 1, first: own(7, 3, 10), second: own(9, 4, 12) };
        for (answer, corrupt) in [
            (peer(2, 7, 3, 12), false),
            (peer(2, 8, 3, 10), true),
            (peer(2, 8, 4, 12), false),
            (peer(2, 7, 3, 13), true),
            (peer(2, 7, 5, 12), true),
        ] {
            assert_eq!(find_corrupt(&look, &[answer]), corrupt.then_some(2), "{answer:?}");
        }
        assert_eq!(find_corrupt(&look, &[peer(2, 8, 3, 10), peer(3, 8, 3, 10)]), Some(2));
    }

    #[test]
    fn cor_7_a_compaction_is_settled_when_everybody_has_answered() {
        let (own, same, elsewhere) = (own(7, 3, 10), peer(2, 7, 3, 10), peer(3, 9, 2, 10));
        assert_eq!(compare_compaction(1, own, &[same, peer(3, 7, 3, 10)], 2), Compared::Same);
        assert_eq!(compare_compaction(1, own, &[same], 2), Compared::Incomplete);
        assert_eq!(compare_compaction(1, own, &[same, elsewhere], 2), Compared::Incomplete);
    }

    #[test]
    fn cor_8_the_minority_is_wrong_even_if_it_leads() {
        let own = own(7, 3, 10);
        let answers = [peer(2, 8, 3, 10), peer(3, 7, 3, 10)];
        assert_eq!(compare_compaction(1, own, &answers, 2), Compared::Minority(vec![2]));
        let answers = [peer(2, 8, 3, 10), peer(3, 8, 3, 10)];
        assert_eq!(compare_compaction(1, own, &answers, 2), Compared::Minority(vec![1]));
        assert_eq!(compare_compaction(1, own, &answers[..1], 2), Compared::NoMajority);
        assert_eq!(compare_compaction(1, own, &answers[..1], 1), Compared::NoMajority, "two of two");
    }
}
