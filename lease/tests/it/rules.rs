//! One test per rule of a lease's life.

use stanchion_lease::{
    CHECKPOINT_BATCH_MAX, Checkpoint, Config, EXPIRED_BATCH_MAX, EXPIRED_BATCHES_MAX,
    EXPIRIES_PER_SECOND_MAX, Error, Lessor, MAX_TTL_SECONDS, ROUND_MS, RenewError, Renewal, Stored,
};

fn primary(config: Config) -> Lessor {
    let mut lessor = Lessor::new(config);
    lessor.promote(0, 0);
    lessor
}

/// Ticks at `now_ms` and returns everything that had expired.
fn expired_at(lessor: &mut Lessor, now_ms: u64) -> Vec<i64> {
    lessor.handle_tick(now_ms);
    std::iter::from_fn(|| lessor.take_expired()).flatten().collect()
}

#[test]
fn lse_1_fresh_ids_are_positive_and_unused_and_given_ones_may_be_negative() {
    let mut lessor = Lessor::new(Config::default());
    lessor.grant(0, -7, 5).unwrap();
    lessor.grant(0, 3, 5).unwrap();
    let mut random = [0, u64::MAX << 63, 3, (1 << 63) | 9].into_iter();
    assert_eq!(lessor.fresh_id(|| random.next().unwrap()), 9);
    assert_eq!(lessor.grant(0, 0, 5), Err(Error::ZeroId));
    assert!(lessor.contains(-7));
}

#[test]
fn lse_2_an_id_is_granted_once() {
    let mut lessor = Lessor::new(Config::default());
    lessor.grant(0, 1, 5).unwrap();
    assert_eq!(lessor.grant(0, 1, 9), Err(Error::Exists { id: 1 }));
    lessor.revoke(1).unwrap();
    assert_eq!(lessor.grant(0, 1, 9).unwrap().ttl_seconds, 9);
}

#[test]
fn lse_3_and_4_the_ttl_has_bounds() {
    let mut lessor = Lessor::new(Config::default());
    let above = MAX_TTL_SECONDS + 1;
    assert_eq!(lessor.grant(0, 1, above), Err(Error::TtlTooLarge { ttl_seconds: above }));
    assert_eq!(lessor.grant(0, 1, MAX_TTL_SECONDS).unwrap().ttl_seconds, MAX_TTL_SECONDS);
    for (id, ttl) in [(2, 0), (3, -5), (4, i64::MIN), (5, 1)] {
        assert_eq!(lessor.grant(0, id, ttl).unwrap(), Stored { id, ttl_seconds: 2, remaining_seconds: 0 });
    }
    lessor.promote(u64::MAX - 5, u64::MAX);
    assert_eq!(expired_at(&mut lessor, u64::MAX - 4), [0i64; 0]);
}

#[test]
fn lse_6_stored_leases_come_back_and_short_ones_are_raised() {
    let stored = [
        Stored { id: 9, ttl_seconds: 60, remaining_seconds: 20 },
        Stored { id: 2, ttl_seconds: 1, remaining_seconds: 0 },
    ];
    let mut lessor = Lessor::recover(Config::default(), stored).unwrap();
    assert_eq!(lessor.stored(), [Stored { id: 2, ttl_seconds: 2, remaining_seconds: 0 }, stored[0]]);
    assert!(!lessor.is_primary());
    lessor.promote(0, 1_000);
    assert_eq!(lessor.time_to_live(0, 9).unwrap().remaining_seconds, 21);
    assert_eq!(
        Lessor::recover(Config::default(), [stored[0], stored[0]]).unwrap_err(),
        Error::Exists { id: 9 }
    );
}

#[test]
fn lse_8_and_9_only_a_primary_counts_time() {
    let mut lessor = Lessor::new(Config::default());
    lessor.grant(0, 1, 5).unwrap();
    assert_eq!(expired_at(&mut lessor, 1_000_000), [0i64; 0]);
    assert_eq!(lessor.renew(0, 1), Err(RenewError::NotPrimary));
    lessor.promote(1_000_000, 1_000);
    lessor.handle_tick(1_010_000);
    lessor.demote();
    assert_eq!(lessor.take_expired(), None);
    assert_eq!(lessor.next_round_ms(), None);
    assert_eq!(expired_at(&mut lessor, 9_000_000), [0i64; 0]);
}

#[test]
fn lse_10_a_promotion_refills_and_extends() {
    let mut lessor = primary(Config::default());
    lessor.grant(0, 1, 30).unwrap();
    assert_eq!(lessor.time_to_live(4_000, 1).unwrap().remaining_seconds, 26);
    lessor.demote();
    lessor.promote(4_000, 1_000);
    assert_eq!(lessor.time_to_live(4_000, 1).unwrap().remaining_seconds, 31);
    lessor.demote();
    lessor.checkpoint(4_000, 1, 12).unwrap();
    lessor.promote(5_000, 1_000);
    assert_eq!(lessor.time_to_live(5_000, 1).unwrap().remaining_seconds, 13);
}

#[test]
fn lse_11_a_promotion_spreads_many_leases() {
    let mut lessor = Lessor::new(Config { retry_ms: 1_000_000, ..Config::default() });
    for id in 1..=3_000 {
        lessor.grant(0, id, 10).unwrap();
    }
    lessor.promote(0, 1_000);
    assert_eq!(
        lessor.time_to_live(0, lessor.list()[0]).unwrap().remaining_seconds,
        11,
        "none runs out earlier"
    );
    let mut second = [0usize; 20];
    for now_ms in (0..20_000).step_by(ROUND_MS as usize) {
        second[now_ms as usize / 1000] += expired_at(&mut lessor, now_ms).len();
    }
    assert_eq!(second.iter().sum::<usize>(), 3_000);
    assert!(second.iter().all(|&n| n <= EXPIRIES_PER_SECOND_MAX), "{second:?}");
}

#[test]
fn lse_12_expired_leases_come_in_batches_and_again_until_they_are_gone() {
    let mut lessor = primary(Config { retry_ms: 5_000, ..Config::default() });
    for id in 1..=1_200 {
        lessor.grant(0, id, 2).unwrap();
    }
    lessor.handle_tick(2_000);
    lessor.handle_tick(2_499);
    assert_eq!(
        lessor.take_expired().unwrap().len(),
        EXPIRED_BATCH_MAX,
        "in the order of ids, which tie on time"
    );
    assert_eq!(lessor.take_expired(), None, "the next round is not due");
    assert_eq!(expired_at(&mut lessor, 2_500).len(), EXPIRED_BATCH_MAX);
    assert_eq!(expired_at(&mut lessor, 3_000), (1_001..=1_200).collect::<Vec<_>>());
    assert_eq!(expired_at(&mut lessor, 6_999), [0i64; 0]);
    assert_eq!(expired_at(&mut lessor, 7_499), (1..=500).collect::<Vec<_>>(), "nobody revoked them");
}

#[test]
fn lse_12_a_lease_is_in_a_batch_once_even_at_the_end_of_the_clock() {
    let mut lessor = primary(Config::default());
    lessor.grant(0, 1, 2).unwrap();
    lessor.grant(0, 2, 2).unwrap();
    assert_eq!(expired_at(&mut lessor, u64::MAX), [1, 2]);
}

#[test]
fn lse_12_no_more_is_looked_for_while_batches_wait() {
    let mut lessor = primary(Config { retry_ms: 1_000_000, ..Config::default() });
    let all = (EXPIRED_BATCH_MAX * (EXPIRED_BATCHES_MAX + 2)) as i64;
    for id in 1..=all {
        lessor.grant(0, id, 2).unwrap();
    }
    for round in 0..40 {
        lessor.handle_tick(2_000 + round * ROUND_MS);
    }
    let mut batches = 0;
    while lessor.take_expired().is_some() {
        batches += 1;
    }
    assert_eq!(batches, EXPIRED_BATCHES_MAX);
    assert_eq!(expired_at(&mut lessor, 30_000).len(), EXPIRED_BATCH_MAX, "the rest was kept");
}

#[test]
fn lse_15_and_16_a_revoke_returns_the_keys_in_order_and_happens_once() {
    let mut lessor = primary(Config::default());
    lessor.grant(0, 1, 5).unwrap();
    for key in [&b"b"[..], b"", b"a\xff", b"a"] {
        lessor.attach(1, key).unwrap();
    }
    let keys = lessor.revoke(1).unwrap();
    assert_eq!(keys.iter().map(|k| &**k).collect::<Vec<_>>(), [&b""[..], b"a", b"a\xff", b"b"]);
    assert_eq!(lessor.revoke(1), Err(Error::NotFound { id: 1 }));
    assert_eq!(lessor.lease_of(b"a"), None);
    assert_eq!(expired_at(&mut lessor, 100_000), [0i64; 0]);
}

#[test]
fn lse_17_a_key_hangs_on_one_lease() {
    let mut lessor = Lessor::new(Config::default());
    lessor.grant(0, 1, 5).unwrap();
    lessor.grant(0, 2, 5).unwrap();
    lessor.attach(1, b"k").unwrap();
    lessor.attach(2, b"k").unwrap();
    assert_eq!(lessor.keys(1).count(), 0);
    assert_eq!(lessor.keys(2).collect::<Vec<_>>(), [b"k"]);
    assert_eq!(lessor.attach(3, b"k"), Err(Error::NotFound { id: 3 }));
    assert_eq!(lessor.lease_of(b"k"), Some(2));
    assert_eq!(lessor.detach(b"k"), Some(2));
    assert_eq!(lessor.detach(b"k"), None);
}

#[test]
fn lse_18_and_22_a_renewal_gives_the_whole_ttl_until_the_lease_has_run_out() {
    let mut lessor = primary(Config::default());
    lessor.grant(0, 1, 5).unwrap();
    assert_eq!(lessor.renew(4_999, 1), Ok(Renewal::Renewed { ttl_seconds: 5 }));
    assert_eq!(lessor.renew(9_999, 1), Err(RenewError::Expired { id: 1, late_ms: 0 }));
    assert_eq!(expired_at(&mut lessor, 9_999), [1]);
    assert_eq!(lessor.renew(10_000, 1), Err(RenewError::Expired { id: 1, late_ms: 1 }));
    lessor.revoke(1).unwrap();
    assert_eq!(lessor.renew(10_000, 1), Err(RenewError::NotFound { id: 1 }));
}

#[test]
fn lse_25_a_checkpoint_is_cleared_before_a_renewal() {
    let mut lessor = primary(Config::default());
    lessor.grant(0, 1, 30).unwrap();
    lessor.checkpoint(0, 1, 10).unwrap();
    assert_eq!(lessor.renew(1_000, 1), Ok(Renewal::ClearCheckpoint));
    lessor.checkpoint(1_000, 1, 0).unwrap();
    assert_eq!(lessor.renew(1_000, 1), Ok(Renewal::Renewed { ttl_seconds: 30 }));
}

#[test]
fn lse_27_and_28_time_to_live_is_rounded_down() {
    let mut lessor = primary(Config::default());
    assert_eq!(lessor.time_to_live(0, 1), None);
    lessor.grant(0, 1, 100).unwrap();
    assert_eq!(lessor.time_to_live(0, 1).unwrap().remaining_seconds, 100);
    assert_eq!(lessor.time_to_live(1, 1).unwrap().remaining_seconds, 99);
    assert_eq!(lessor.time_to_live(100_001, 1).unwrap().remaining_seconds, -1);
    assert_eq!(lessor.time_to_live(100_001, 1).unwrap().granted_seconds, 100);
}

#[test]
fn lse_6_a_stored_ttl_beyond_the_clock_never_runs_out() {
    let stored = Stored { id: 1, ttl_seconds: i64::MAX, remaining_seconds: 0 };
    let mut lessor = Lessor::recover(Config::default(), [stored]).unwrap();
    lessor.promote(u64::MAX / 2, 1_000);
    lessor.handle_tick(u64::MAX - 2);
    assert_eq!(lessor.take_expired(), None);
    let left = lessor.time_to_live(u64::MAX / 2, 1).unwrap().remaining_seconds;
    assert_eq!(left, (u64::MAX / 2 / 1_000) as i64);
}

#[test]
fn lse_31_the_list_begins_with_the_least_time_left() {
    let mut lessor = primary(Config::default());
    for (id, ttl) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
        lessor.grant(0, id, ttl).unwrap();
    }
    assert_eq!(lessor.list(), [2, 4, 3, 1]);
    lessor.demote();
    assert_eq!(lessor.list(), [1, 2, 3, 4]);
}

#[test]
fn lse_32_long_leases_are_checkpointed_every_interval() {
    let config = Config { checkpoint_interval_ms: Some(5_000), ..Config::default() };
    let mut lessor = primary(config);
    lessor.grant(0, 1, 12).unwrap();
    lessor.grant(0, 2, 5).unwrap();
    lessor.handle_tick(4_999);
    assert_eq!(lessor.take_checkpoints(), None);
    lessor.handle_tick(5_499);
    let due = lessor.take_checkpoints().unwrap();
    assert_eq!(
        due,
        [Checkpoint { id: 1, remaining_seconds: 7 }],
        "6.501 s are left; the short lease never comes"
    );
    let stored = lessor.checkpoint(5_499, 1, 7).unwrap();
    assert_eq!(stored, Stored { id: 1, ttl_seconds: 12, remaining_seconds: 7 });
    lessor.handle_tick(10_499);
    assert_eq!(lessor.take_checkpoints().unwrap(), [Checkpoint { id: 1, remaining_seconds: 2 }]);
    lessor.checkpoint(10_499, 1, 2).unwrap();
    lessor.handle_tick(16_000);
    assert_eq!(lessor.take_checkpoints(), None, "less than an interval was left");
}

#[test]
fn lse_32_checkpoints_come_in_batches_and_again_when_they_get_lost() {
    let mut lessor = primary(Config { checkpoint_interval_ms: Some(1_000), ..Config::default() });
    for id in 1..=2_500 {
        lessor.grant(0, id, 60).unwrap();
    }
    for now_ms in [1_000, 2_000] {
        lessor.handle_tick(now_ms);
        let sizes: Vec<usize> =
            std::iter::from_fn(|| lessor.take_checkpoints()).map(|batch| batch.len()).collect();
        assert_eq!(sizes, [CHECKPOINT_BATCH_MAX, CHECKPOINT_BATCH_MAX, 500]);
    }
}

#[test]
fn lse_34_a_demoted_lessor_makes_no_checkpoints() {
    let mut lessor = primary(Config { checkpoint_interval_ms: Some(1_000), ..Config::default() });
    lessor.grant(0, 1, 60).unwrap();
    lessor.handle_tick(1_000);
    lessor.demote();
    assert_eq!(lessor.take_checkpoints(), None);
    lessor.handle_tick(5_000);
    assert_eq!(lessor.take_checkpoints(), None);
}

#[test]
fn lse_19_a_lease_that_is_not_there_cannot_be_renewed() {
    let mut lessor = primary(Config::default());
    for id in [0, 1, -1] {
        assert_eq!(lessor.renew(0, id), Err(RenewError::NotFound { id }));
    }
}

#[test]
fn lse_29_the_keys_of_a_lease() {
    let mut lessor = Lessor::new(Config::default());
    lessor.grant(0, 1, 5).unwrap();
    for key in [b"b", b"a", b"c", b"a"] {
        lessor.attach(1, key).unwrap();
    }
    assert_eq!(lessor.keys(1).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert_eq!(lessor.keys(2).count(), 0, "an unknown lease has none");
}

#[test]
fn lse_33_a_checkpoint_counts_at_the_next_promotion() {
    let mut lessor = primary(Config::default());
    lessor.grant(0, 1, 100).unwrap();
    let stored = lessor.checkpoint(0, 1, 40).unwrap();
    assert_eq!(stored, Stored { id: 1, ttl_seconds: 100, remaining_seconds: 40 });
    assert_eq!(lessor.time_to_live(0, 1).unwrap().remaining_seconds, 100, "not before");
    let mut after = Lessor::recover(Config::default(), [stored]).unwrap();
    after.promote(1_000, 1_000);
    assert_eq!(after.time_to_live(1_000, 1).unwrap().remaining_seconds, 41);
}

#[test]
fn errors_tell_the_numbers() {
    let mut lessor = primary(Config::default());
    lessor.grant(0, 0x1f, 5).unwrap();
    assert_eq!(lessor.grant(0, 0x1f, 5).unwrap_err().to_string(), "lease 0x1f already exists");
    assert_eq!(lessor.grant(0, 0, 5).unwrap_err().to_string(), "lease id 0 cannot be granted");
    let error = lessor.grant(0, 2, MAX_TTL_SECONDS + 1).unwrap_err().to_string();
    assert_eq!(error, "lease TTL of 9000000001 s is above the maximum of 9000000000 s");
    let unknown = "lease 0x2 not found";
    assert_eq!(lessor.revoke(2).unwrap_err().to_string(), unknown);
    assert_eq!(lessor.attach(2, b"k").unwrap_err().to_string(), unknown);
    assert_eq!(lessor.checkpoint(0, 2, 1).unwrap_err().to_string(), unknown);
    assert_eq!(lessor.renew(0, 2).unwrap_err().to_string(), unknown);
    let late = lessor.renew(5_250, 0x1f).unwrap_err().to_string();
    assert_eq!(late, "lease 0x1f ran out 250 ms ago and is being revoked");
    let twice = Stored { id: 7, ttl_seconds: 5, remaining_seconds: 0 };
    let error = Lessor::recover(Config::default(), [twice, twice]).unwrap_err().to_string();
    assert_eq!(error, "lease 0x7 already exists");
}
