//! Quorums against a naive model: every subset of voters, counted one by one.

use proptest::prelude::*;

use super::{IdSet, JointConfig, MajorityConfig, VoteResult};

/// All subsets of `voters` that hold more than half of them.
fn quorums(voters: &[u64]) -> Vec<Vec<u64>> {
    let subset = |mask: u32| (0..voters.len()).filter(|i| mask >> i & 1 == 1).map(|i| voters[i]).collect();
    let all = (0..1u32 << voters.len()).map(subset);
    all.filter(|set: &Vec<u64>| 2 * set.len() > voters.len()).collect()
}

/// The highest index for which some quorum has acknowledged it as a whole.
fn naive_committed(voters: &[u64], acked: impl Fn(u64) -> u64) -> u64 {
    if voters.is_empty() {
        return u64::MAX;
    }
    let lowest = |set: Vec<u64>| set.into_iter().map(&acked).min().unwrap_or(0);
    quorums(voters).into_iter().map(lowest).max().unwrap_or(0)
}

/// Won when a quorum granted; lost when none can any more.
fn naive_vote(voters: &[u64], vote: impl Fn(u64) -> Option<bool>) -> VoteResult {
    let all = |wanted: fn(Option<bool>) -> bool| {
        voters.is_empty() || quorums(voters).into_iter().any(|set| set.into_iter().all(|id| wanted(vote(id))))
    };
    if all(|v| v == Some(true)) {
        VoteResult::Won
    } else if all(|v| v != Some(false)) {
        VoteResult::Pending
    } else {
        VoteResult::Lost
    }
}

fn both(a: VoteResult, b: VoteResult) -> VoteResult {
    use VoteResult::{Lost, Won};
    match (a, b) {
        (Lost, _) | (_, Lost) => Lost,
        (Won, Won) => Won,
        _ => VoteResult::Pending,
    }
}

fn voters() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::btree_set(1..12u64, 0..8).prop_map(|set| set.into_iter().collect())
}

fn majority(ids: &[u64]) -> MajorityConfig {
    MajorityConfig(ids.iter().copied().collect())
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn commit_and_votes_of_joint_configurations_are_those_of_all_subsets(
        incoming in voters(),
        outgoing in voters(),
        acks in proptest::array::uniform12(0..5u64),
        votes in proptest::array::uniform12(proptest::option::of(any::<bool>())),
    ) {
        let (acked, vote) = (|id: u64| acks[id as usize], |id: u64| votes[id as usize]);
        let joint = JointConfig { incoming: majority(&incoming), outgoing: majority(&outgoing) };
        let committed = naive_committed(&incoming, acked).min(naive_committed(&outgoing, acked));
        prop_assert_eq!(joint.committed_index(acked), committed);
        let result = both(naive_vote(&incoming, vote), naive_vote(&outgoing, vote));
        prop_assert_eq!(joint.vote_result(vote), result);
    }

    #[test]
    fn a_set_is_a_sorted_list_without_repetition(ops in proptest::collection::vec((any::<bool>(), 0..20u64), 0..60)) {
        let (mut set, mut model) = (IdSet::default(), std::collections::BTreeSet::new());
        for (insert, id) in ops {
            if insert {
                prop_assert_eq!(set.insert(id), model.insert(id));
            } else {
                prop_assert_eq!(set.remove(id), model.remove(&id));
            }
            prop_assert_eq!(set.contains(id), model.contains(&id));
        }
        prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
        prop_assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
    }
}

#[test]
fn no_voter_imposes_nothing() {
    let none = MajorityConfig::default();
    assert_eq!(none.committed_index(|_| 0), u64::MAX);
    assert_eq!(none.vote_result(|_| None), VoteResult::Won);
}

#[test]
fn any_two_quorums_of_the_same_voters_meet() {
    for n in 1..=9usize {
        assert!(2 * MajorityConfig::quorum_of(n) > n);
        assert!(2 * (MajorityConfig::quorum_of(n) - 1) <= n, "{n}: no more than needed");
    }
}

/// An acknowledgement costs a look at each voter, however many there are.
#[test]
fn counting_looks_at_each_voter_once() {
    for n in [1, 3, 7, 8, 100, 1_000] {
        let voters = majority(&(1..=n).collect::<Vec<u64>>());
        let mut looks = 0;
        let at = voters.committed_index(|id| {
            looks += 1;
            id
        });
        assert_eq!((looks, at), (n, n.div_ceil(2)));
        let mut looks = 0;
        let result = voters.vote_result(|_| {
            looks += 1;
            Some(true)
        });
        assert_eq!((looks, result), (n, VoteResult::Won));
    }
}
