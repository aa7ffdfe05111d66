use super::*;

fn member(id: u64, url: &str) -> Member {
    Member { id, peer_urls: vec![url.to_owned()], name: format!("m{id}"), ..Member::default() }
}

fn learner(id: u64, url: &str) -> Member {
    Member { is_learner: true, ..member(id, url) }
}

fn unstarted(id: u64, url: &str) -> Member {
    Member { name: String::new(), ..member(id, url) }
}

#[test]
fn clu_6_each_refusal_has_its_reason() {
    let cluster = Cluster::new([member(1, "a"), learner(2, "b")], [9]);
    let check = |change| cluster.check(&change, 1);
    assert_eq!(check(Change::Add(member(9, "x"))), Err(ChangeError::IdRemoved));
    assert_eq!(check(Change::Add(member(1, "x"))), Err(ChangeError::IdExists));
    assert_eq!(check(Change::Add(member(3, "a"))), Err(ChangeError::PeerUrlExists));
    assert_eq!(check(Change::Add(learner(3, "c"))), Err(ChangeError::TooManyLearners));
    assert_eq!(cluster.check(&Change::Add(learner(3, "c")), 2), Ok(()));
    assert_eq!(check(Change::Promote(1)), Err(ChangeError::NotLearner));
    assert_eq!(check(Change::Promote(2)), Ok(()));
    for change in [Change::Remove(7), Change::Promote(7), Change::Update { id: 7, peer_urls: vec![] }] {
        assert_eq!(check(change), Err(ChangeError::IdNotFound));
    }
    let to = |url: &str| Change::Update { id: 1, peer_urls: vec![url.to_owned()] };
    assert_eq!(check(to("b")), Err(ChangeError::PeerUrlExists));
    assert_eq!(check(to("a")), Ok(()));
}

#[test]
fn clu_9_an_update_keeps_the_learner_flag_and_the_name() {
    let mut cluster = Cluster::new([learner(2, "b")], []);
    cluster.apply(&Change::Update { id: 2, peer_urls: vec!["c".to_owned()] });
    assert_eq!(cluster.member(2), Some(&learner(2, "c")));
}

#[test]
fn applying_a_change_again_changes_nothing() {
    let mut cluster = Cluster::new([member(1, "a")], []);
    for change in [Change::Add(learner(2, "b")), Change::Promote(2), Change::Remove(2)] {
        cluster.apply(&change);
        let once = cluster.clone();
        cluster.apply(&change);
        assert_eq!(cluster, once);
    }
    assert!(cluster.is_removed(2));
}

#[test]
fn clu_3_a_member_shows_its_name_once_it_has_published_itself() {
    let mut cluster = Cluster::new([unstarted(1, "a")], []);
    assert!(!cluster.member(1).unwrap().is_started());
    assert!(cluster.publish(1, "m1", &["http://c:1".to_owned()]));
    assert!(cluster.member(1).unwrap().is_started());
    assert!(!cluster.publish(1, "m1", &["http://c:1".to_owned()]));
    assert!(!cluster.publish(5, "m5", &[]));
}

#[test]
fn clu_7_started_voters_decide() {
    let one = Cluster::new([member(1, "a")], []);
    assert!(one.is_ready_to_add_voter());
    assert!(!one.is_ready_to_remove(1), "the last voter stays");
    // (voters, started) -> adding needs started >= (voters + 1) / 2 + 1.
    for (voters, started, ready) in [(2, 1, false), (2, 2, true), (3, 2, false), (3, 3, true), (4, 3, true)] {
        let members = (1..=voters).map(|id| {
            let url = id.to_string();
            if id <= started { member(id, &url) } else { unstarted(id, &url) }
        });
        assert_eq!(Cluster::new(members, []).is_ready_to_add_voter(), ready, "{voters} {started}");
    }
    let three = Cluster::new([member(1, "a"), member(2, "b"), unstarted(3, "c"), learner(4, "d")], []);
    assert!(three.is_ready_to_remove(3));
    assert!(!three.is_ready_to_remove(2));
    assert!(three.is_ready_to_remove(4));
    assert!(three.is_ready_to_promote());
}
