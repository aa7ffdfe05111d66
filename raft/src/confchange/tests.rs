//! Configuration changes against a model that knows roles only: what each node is, before and after.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Changer, ConfChangeError, check, restore};
use crate::proto::{ConfChangeSingle, ConfChangeType as Op, ConfState};
use crate::tracker::{Configuration, Inflights, ProgressMap};

/// What a node is in the incoming configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Voter,
    Learner,
}

/// Roles by node, and the voters of the outgoing half.
#[derive(Clone, Debug, Default)]
struct Model {
    roles: BTreeMap<u64, Is>,
    outgoing: BTreeSet<u64>,
    auto_leave: bool,
}

impl Model {
    fn voters(&self) -> BTreeSet<u64> {
        self.roles.iter().filter(|(_, is)| **is == Is::Voter).map(|(id, _)| *id).collect()
    }

    fn apply(&self, ops: &[ConfChangeSingle]) -> Option<BTreeMap<u64, Is>> {
        let mut roles = self.roles.clone();
        for op in ops.iter().filter(|op| op.node_id != 0) {
            match op.change_type {
                Op::AddNode => drop(roles.insert(op.node_id, Is::Voter)),
                Op::AddLearnerNode => drop(roles.insert(op.node_id, Is::Learner)),
                Op::RemoveNode => drop(roles.remove(&op.node_id)),
                Op::UpdateNode => {}
            }
        }
        roles.values().any(|is| *is == Is::Voter).then_some(roles)
    }

    fn conf_state(&self) -> ConfState {
        let learners = self.roles.iter().filter(|(_, is)| **is == Is::Learner).map(|(id, _)| *id);
        let (next, now): (Vec<u64>, Vec<u64>) = learners.partition(|id| self.outgoing.contains(id));
        ConfState {
            voters: self.voters().into_iter().collect(),
            learners: now,
            voters_outgoing: self.outgoing.iter().copied().collect(),
            learners_next: next,
            auto_leave: self.auto_leave,
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Simple(ConfChangeSingle),
    Enter(bool, Vec<ConfChangeSingle>),
    Leave,
}

fn op() -> impl Strategy<Value = ConfChangeSingle> {
    let kind = prop_oneof![
        3 => Just(Op::AddNode),
        2 => Just(Op::RemoveNode),
        2 => Just(Op::AddLearnerNode),
        1 => Just(Op::UpdateNode),
    ];
    (kind, 0..7u64).prop_map(|(change_type, node_id)| ConfChangeSingle { change_type, node_id })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        op().prop_map(Step::Simple),
        (any::<bool>(), proptest::collection::vec(op(), 0..5)).prop_map(|(auto, ops)| Step::Enter(auto, ops)),
        Just(Step::Leave),
    ]
}

/// What the model says of a step: the next model, or nothing where it is refused.
fn next(model: &Model, step: &Step) -> Option<Model> {
    let joint = !model.outgoing.is_empty();
    match step {
        Step::Simple(op) if !joint => {
            Some(Model { roles: model.apply(std::slice::from_ref(op))?, ..model.clone() })
        }
        Step::Enter(auto_leave, ops) if !joint && !model.voters().is_empty() => {
            Some(Model { roles: model.apply(ops)?, outgoing: model.voters(), auto_leave: *auto_leave })
        }
        Step::Leave if joint => Some(Model { roles: model.roles.clone(), ..Model::default() }),
        _ => None,
    }
}

proptest! {
    #![proptest_config(crate::cases(1500))]

    #[test]
    fn every_change_is_the_models_or_is_refused_by_both(
        founders in 1..4u64,
        steps in proptest::collection::vec(step(), 1..25),
    ) {
        let mut model = Model { roles: (1..=founders).map(|id| (id, Is::Voter)).collect(), ..Model::default() };
        let window = Inflights::new(8, 0);
        let (mut config, mut progress) = restore(&model.conf_state(), 5, &window).unwrap();
        for step in steps {
            let changer = Changer { config: &config, progress: &progress, last_index: 5, inflights: window.clone() };
            let found = match &step {
                Step::Simple(op) => changer.simple(std::slice::from_ref(op)),
                Step::Enter(auto, ops) => changer.enter_joint(*auto, ops),
                Step::Leave => changer.leave_joint(),
            };
            match (found, next(&model, &step)) {
                (Ok((c, p)), Some(m)) => (config, progress, model) = (c, p, m),
                (Err(_), None) => continue,
                (found, expected) => prop_assert!(false, "{step:?}: {found:?}, model {expected:?}"),
            }
            prop_assert_eq!(config.to_conf_state(), model.conf_state());
            prop_assert_eq!(check(&config), Ok(()));
            everybody_is_tracked(&config, &progress)?;
            // What a snapshot carries is the configuration, all of it.
            let (again, tracked) = restore(&config.to_conf_state(), 5, &window).unwrap();
            prop_assert_eq!(&again, &config);
            everybody_is_tracked(&again, &tracked)?;
        }
    }

    /// Simple changes one after the other come to the same as one joint change of them all.
    #[test]
    fn one_joint_step_is_many_simple_ones(ops in proptest::collection::vec(op(), 1..8)) {
        let window = Inflights::new(8, 0);
        let (start, tracked) = restore(&ConfState::new(&[1, 2, 3], &[]), 5, &window).unwrap();
        let on = |c: &Configuration, p: &ProgressMap, ops: &[ConfChangeSingle]| {
            Changer { config: c, progress: p, last_index: 5, inflights: window.clone() }.simple(ops)
        };
        let (mut config, mut progress) = (start.clone(), tracked.clone());
        let mut possible = true;
        for op in &ops {
            match on(&config, &progress, std::slice::from_ref(op)) {
                Ok((c, p)) => (config, progress) = (c, p),
                Err(_) => possible = false,
            }
        }
        let first = Changer { config: &start, progress: &tracked, last_index: 5, inflights: window.clone() };
        if possible {
            let (c, p) = first.enter_joint(false, &ops).unwrap();
            let joint = Changer { config: &c, progress: &p, last_index: 5, inflights: window.clone() };
            let (c, p) = joint.leave_joint().unwrap();
            prop_assert_eq!(c, config);
            let ids = |p: &ProgressMap| p.iter().map(|(id, pr)| (id, pr.is_learner)).collect::<Vec<_>>();
            prop_assert_eq!(ids(&p), ids(&progress));
        }
    }
}

/// Exactly the members have progress, and learners are marked.
fn everybody_is_tracked(config: &Configuration, progress: &ProgressMap) -> Result<(), TestCaseError> {
    let members: BTreeSet<u64> = config.voters.ids().iter().chain(config.learners.iter()).collect();
    let tracked: BTreeSet<u64> = progress.iter().map(|(id, _)| id).collect();
    prop_assert_eq!(members, tracked);
    for (id, pr) in progress.iter() {
        prop_assert_eq!(pr.is_learner, config.learners.contains(id), "node {}", id);
        prop_assert!(pr.match_index < pr.next);
    }
    Ok(())
}

#[test]
fn refusals_say_why() {
    let window = Inflights::new(8, 0);
    let single = |change_type, node_id| ConfChangeSingle { change_type, node_id };
    let (one, p) = restore(&ConfState::new(&[1], &[]), 5, &window).unwrap();
    let changer = |config, progress| Changer { config, progress, last_index: 5, inflights: window.clone() };
    let remove = [single(Op::RemoveNode, 1)];
    assert_eq!(changer(&one, &p).simple(&remove).unwrap_err(), ConfChangeError::RemovesAllVoters);
    assert_eq!(changer(&one, &p).leave_joint().unwrap_err(), ConfChangeError::NotJoint);
    let two = [single(Op::AddNode, 2), single(Op::AddNode, 3)];
    assert_eq!(changer(&one, &p).simple(&two).unwrap_err(), ConfChangeError::TooManyVoters { changed: 2 });
    let (joint, q) = changer(&one, &p).enter_joint(false, &two).unwrap();
    assert_eq!(changer(&joint, &q).enter_joint(false, &[]).unwrap_err(), ConfChangeError::AlreadyJoint);
    assert_eq!(changer(&joint, &q).simple(&two[..1]).unwrap_err(), ConfChangeError::AlreadyJoint);
    let (none, r) = (Configuration::default(), ProgressMap::default());
    assert_eq!(changer(&none, &r).enter_joint(false, &two).unwrap_err(), ConfChangeError::NoVotersYet);
}
