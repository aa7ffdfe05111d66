//! Random operations against a list that is searched from end to end, under a hand clock.

use std::collections::BTreeMap;

use proptest::prelude::*;
use stanchion_lease::{Config, EXPIRED_BATCH_MAX, Error, Lessor, ROUND_MS, RenewError, Renewal};

#[derive(Debug, Clone)]
enum Step {
    Grant { id: i64, ttl: i64 },
    Revoke { id: i64 },
    Attach { id: i64, key: u8 },
    Detach { key: u8 },
    Checkpoint { id: i64, remaining: i64 },
    Renew { id: i64 },
    Promote { extend_ms: u64 },
    Demote,
    Advance { ms: u64 },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || prop_oneof![-1i64..6, Just(0)];
    prop_oneof![
        3 => (id(), -1i64..9).prop_map(|(id, ttl)| Step::Grant { id, ttl }),
        1 => id().prop_map(|id| Step::Revoke { id }),
        3 => (id(), 0u8..8).prop_map(|(id, key)| Step::Attach { id, key }),
        1 => (0u8..8).prop_map(|key| Step::Detach { key }),
        1 => (id(), -1i64..5).prop_map(|(id, remaining)| Step::Checkpoint { id, remaining }),
        3 => id().prop_map(|id| Step::Renew { id }),
        1 => (0u64..2_000).prop_map(|extend_ms| Step::Promote { extend_ms }),
        1 => Just(Step::Demote),
        6 => (0u64..3_000).prop_map(|ms| Step::Advance { ms }),
        1 => Just(Step::Restart),
    ]
}

#[derive(Debug, Clone, Default)]
struct Lease {
    ttl: i64,
    remaining: i64,
    deadline_ms: Option<u64>,
    offered_ms: Option<u64>,
    keys: Vec<u8>,
}

/// The rules as they read, without any index.
#[derive(Debug, Default)]
struct Model {
    leases: BTreeMap<i64, Lease>,
    primary: bool,
    next_round_ms: u64,
}

const RETRY_MS: u64 = 1_300;

impl Model {
    fn deadline(&self, lease: &Lease, now_ms: u64, extend_ms: u64) -> Option<u64> {
        let seconds = if lease.remaining > 0 { lease.remaining } else { lease.ttl };
        self.primary.then_some(now_ms + extend_ms + seconds as u64 * 1000)
    }

    fn expired(&mut self, now_ms: u64) -> Vec<i64> {
        if !self.primary || now_ms < self.next_round_ms {
            return Vec::new();
        }
        self.next_round_ms = now_ms + ROUND_MS;
        let due = |lease: &Lease| lease.offered_ms.or(lease.deadline_ms).unwrap();
        let mut found: Vec<(u64, i64)> = self.leases.iter().map(|(&id, l)| (due(l), id)).collect();
        found.retain(|&(at_ms, _)| at_ms <= now_ms);
        found.sort_unstable();
        found.truncate(EXPIRED_BATCH_MAX);
        for (_, id) in &found {
            self.leases.get_mut(id).unwrap().offered_ms = Some(now_ms + RETRY_MS);
        }
        let mut ids: Vec<i64> = found.into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        ids
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("STANCHION_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(2_000)
    ))]
    #[test]
    fn behaves_as_a_list_that_is_searched(steps in prop::collection::vec(step(), 1..120)) {
        let config = Config { min_ttl_seconds: 2, retry_ms: RETRY_MS, checkpoint_interval_ms: None };
        let mut lessor = Lessor::new(config.clone());
        let mut model = Model::default();
        let mut now_ms = 0;
        for step in steps {
            match step {
                Step::Grant { id, ttl } => {
                    let granted = lessor.grant(now_ms, id, ttl).map(|stored| stored.ttl_seconds);
                    let expected = match id {
                        0 => Err(Error::ZeroId),
                        _ if model.leases.contains_key(&id) => Err(Error::Exists { id }),
                        _ => Ok(ttl.max(2)),
                    };
                    prop_assert_eq!(&granted, &expected);
                    if let Ok(ttl) = granted {
                        let mut lease = Lease { ttl, ..Lease::default() };
                        lease.deadline_ms = model.deadline(&lease, now_ms, 0);
                        model.leases.insert(id, lease);
                    }
                }
                Step::Revoke { id } => {
                    let keys = lessor.revoke(id).map(|keys| keys.iter().map(|k| k[0]).collect::<Vec<_>>());
                    let expected = model.leases.remove(&id).map(|mut lease| { lease.keys.sort(); lease.keys });
                    prop_assert_eq!(keys, expected.ok_or(Error::NotFound { id }));
                }
                Step::Attach { id, key } => {
                    let done = lessor.attach(id, &[key]);
                    prop_assert_eq!(done.is_ok(), model.leases.contains_key(&id));
                    if done.is_ok() {
                        model.leases.values_mut().for_each(|lease| lease.keys.retain(|&k| k != key));
                        model.leases.get_mut(&id).unwrap().keys.push(key);
                    }
                }
                Step::Detach { key } => {
                    let from = model.leases.iter().find(|(_, l)| l.keys.contains(&key)).map(|(&id, _)| id);
                    prop_assert_eq!(lessor.detach(&[key]), from);
                    model.leases.values_mut().for_each(|lease| lease.keys.retain(|&k| k != key));
                }
                Step::Checkpoint { id, remaining } => {
                    let done = lessor.checkpoint(now_ms, id, remaining);
                    prop_assert_eq!(done.is_ok(), model.leases.contains_key(&id));
                    if let Some(lease) = model.leases.get_mut(&id) {
                        lease.remaining = remaining.max(0);
                    }
                }
                Step::Renew { id } => {
                    let renewed = lessor.renew(now_ms, id);
                    let expected = match model.leases.get(&id) {
                        _ if !model.primary => Err(RenewError::NotPrimary),
                        None => Err(RenewError::NotFound { id }),
                        Some(lease) if lease.deadline_ms.unwrap() <= now_ms => {
                            Err(RenewError::Expired { id, late_ms: now_ms - lease.deadline_ms.unwrap() })
                        }
                        Some(lease) if lease.remaining > 0 => Ok(Renewal::ClearCheckpoint),
                        Some(lease) => Ok(Renewal::Renewed { ttl_seconds: lease.ttl }),
                    };
                    prop_assert_eq!(&renewed, &expected);
                    if let Ok(Renewal::Renewed { .. }) = renewed {
                        let deadline = model.deadline(&model.leases[&id], now_ms, 0);
                        model.leases.get_mut(&id).unwrap().deadline_ms = deadline;
                    }
                }
                Step::Promote { extend_ms } => {
                    lessor.promote(now_ms, extend_ms);
                    model.primary = true;
                    model.next_round_ms = now_ms;
                    for id in model.leases.keys().copied().collect::<Vec<_>>() {
                        let deadline_ms = model.deadline(&model.leases[&id], now_ms, extend_ms);
                        let lease = model.leases.get_mut(&id).unwrap();
                        (lease.deadline_ms, lease.offered_ms) = (deadline_ms, None);
                    }
                }
                Step::Demote => {
                    lessor.demote();
                    model.primary = false;
                    model.leases.values_mut().for_each(|l| (l.deadline_ms, l.offered_ms) = (None, None));
                }
                Step::Advance { ms } => {
                    now_ms += ms;
                    lessor.handle_tick(now_ms);
                    let mut expired: Vec<i64> = std::iter::from_fn(|| lessor.take_expired()).flatten().collect();
                    expired.sort_unstable();
                    prop_assert_eq!(expired, model.expired(now_ms));
                }
                Step::Restart => {
                    lessor = Lessor::recover(config.clone(), lessor.stored()).unwrap();
                    model.primary = false;
                    for (&id, lease) in &mut model.leases {
                        (lease.deadline_ms, lease.offered_ms) = (None, None);
                        lease.keys.iter().for_each(|&key| lessor.attach(id, &[key]).unwrap());
                    }
                }
            }
            let mut ids = lessor.list();
            ids.sort_unstable();
            prop_assert_eq!(ids, model.leases.keys().copied().collect::<Vec<_>>());
            prop_assert_eq!(lessor.len(), model.leases.len());
        }
    }
}
