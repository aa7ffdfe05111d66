//! Who holds a lock or leads an election: of the live keys under its prefix, the one that was created first.
//!
//! Both hang on this one rule. A lock has a single key, an election one per candidate. What may not live here: how
//! clients get there, and what watchers are told.

use std::collections::BTreeMap;

use bytes::Bytes;
use stanchion_api::mvccpb::KeyValue;

use super::{Check, Model, hold};

/// The key that holds, by its name and the revision that created it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The key.
    pub key: Bytes,
    /// The revision that created it.
    pub created: i64,
}

/// Who held one lock, or led one election, at each revision.
#[derive(Debug, Default)]
struct Succession {
    /// The live keys: the revision that created each, and the lease that it hangs on now.
    live: BTreeMap<Bytes, (i64, i64)>,
    /// From which revision on somebody held, or nobody, by rising revision.
    reigns: BTreeMap<i64, Option<Holder>>,
    /// The client of each key that held, as far as one was told so, by the revision that created the key.
    told: BTreeMap<i64, usize>,
}

/// All locks and elections, by the prefix of their keys.
#[derive(Debug)]
pub struct Holders {
    successions: BTreeMap<&'static str, Succession>,
    /// Up to this revision the history is known.
    seen: i64,
}

impl Holders {
    /// Nobody holds anything under these prefixes.
    #[must_use]
    pub fn new(prefixes: &[&'static str]) -> Holders {
        let successions = prefixes.iter().map(|prefix| (*prefix, Succession::default())).collect();
        Holders { successions, seen: 1 }
    }

    /// The history has grown. It must be told so after every entry, since a model knows only the leases of now.
    ///
    /// # Errors
    /// Two hold at once, or one whose lease has ended.
    pub fn follow(&mut self, model: &Model) -> Check {
        for revision in self.seen + 1..=model.revision {
            for (prefix, succession) in &mut self.successions {
                succession.advance(model, prefix, revision)?;
            }
        }
        self.seen = model.revision;
        self.successions.iter().try_for_each(|(prefix, succession)| succession.check_lease(model, prefix))
    }

    /// A client was told at a revision that the key which it had created at `created` holds.
    ///
    /// # Errors
    /// Another key held then, or the key is another client's.
    pub fn claimed(&mut self, prefix: &'static str, client: usize, created: i64, at: i64) -> Check {
        let holder = self.holder(prefix, at)?.map(|holder| holder.created);
        hold!(
            holder == Some(created),
            "client {client} was told at revision {at} that it holds {prefix:?} since {created}, but there {} held",
            told(holder)
        );
        let known = self.successions.get_mut(prefix).map(|one| *one.told.entry(created).or_insert(client));
        hold!(
            known == Some(client),
            "clients {known:?} and {client} were both told that they hold {prefix:?} by the key of {created}"
        );
        Ok(())
    }

    /// A client was told at a revision that its key of `created` is not there.
    ///
    /// # Errors
    /// It is.
    pub fn lost(&self, model: &Model, key: &Bytes, created: i64, at: i64) -> Check {
        let pair = model.range_at(key, &[], at).pop();
        hold!(
            pair.is_none_or(|pair| pair.create_revision != created),
            "a client was told at revision {at} that its {key:?} of {created} is gone, but there it is"
        );
        Ok(())
    }

    /// Who holds at a revision.
    ///
    /// # Errors
    /// Nobody has agreed on that revision yet.
    pub fn holder(&self, prefix: &str, at: i64) -> Result<Option<&Holder>, String> {
        hold!(at <= self.seen, "revision {at} is shown, but {} is the newest", self.seen);
        let reigns = self.successions.get(prefix).map(|succession| &succession.reigns);
        Ok(reigns.and_then(|reigns| reigns.range(..=at).next_back()?.1.as_ref()))
    }
}

impl Succession {
    fn advance(&mut self, model: &Model, prefix: &str, revision: i64) -> Check {
        let mut moved = false;
        for change in
            model.changes(revision).iter().filter(|change| change.key.starts_with(prefix.as_bytes()))
        {
            moved = true;
            match &change.pair {
                Some(KeyValue { create_revision, lease, .. }) => {
                    self.live.insert(change.key.clone(), (*create_revision, *lease));
                }
                None => _ = self.live.remove(&change.key),
            }
        }
        if !moved {
            return Ok(());
        }
        let first = self.live.iter().min_by_key(|(_, (created, _))| *created);
        let holder = first.map(|(key, (created, _))| Holder { key: key.clone(), created: *created });
        if let Some(Holder { key, created }) = &holder {
            let other = self.live.iter().find(|(other, (at, _))| at == created && *other != key);
            hold!(
                other.is_none(),
                "{key:?} and {other:?} were both created first, at {created}, so both hold {prefix:?}"
            );
        }
        if self.newest() != holder.as_ref() {
            self.reigns.insert(revision, holder);
        }
        Ok(())
    }

    fn newest(&self) -> Option<&Holder> {
        self.reigns.last_key_value()?.1.as_ref()
    }

    fn check_lease(&self, model: &Model, prefix: &str) -> Check {
        let Some(Holder { key, created }) = self.newest() else { return Ok(()) };
        let lease = self.live.get(key).map_or(0, |(_, lease)| *lease);
        hold!(
            model.leases.contains_key(&lease),
            "{key:?} of {created} holds {prefix:?} at {} without a lease: {lease:x} is none or has ended",
            model.revision
        );
        Ok(())
    }
}

fn told(holder: Option<i64>) -> String {
    holder.map_or("nobody".to_owned(), |created| format!("the key of {created}"))
}

#[cfg(test)]
mod tests {
    use stanchion_api::etcdserverpb as pb;

    use super::*;

    const PREFIX: &str = "e/";

    /// A model with two leases, and who holds what in it.
    fn begin() -> (Model, Holders) {
        let mut model = Model::default();
        for id in [1, 2] {
            model.grant(&pb::LeaseGrantRequest { id, ttl: 5 }, 1).unwrap();
        }
        (model, Holders::new(&[PREFIX, "lock0"]))
    }

    fn put(model: &mut Model, key: &str, lease: i64) {
        model.put(&pb::PutRequest { key: key.to_owned().into(), lease, ..Default::default() }).unwrap();
    }

    fn delete(model: &mut Model, key: &str) {
        let key = key.to_owned().into();
        model.delete(&pb::DeleteRangeRequest { key, ..Default::default() }).unwrap();
    }

    #[test]
    fn the_key_that_was_created_first_holds_and_none_after_its_lease() {
        let (mut model, mut holders) = begin();
        put(&mut model, "e/1", 1);
        put(&mut model, "e/0", 2);
        put(&mut model, "e/1", 1);
        model.revoke(&pb::LeaseRevokeRequest { id: 1 }).unwrap();
        holders.follow(&model).unwrap();
        let created = |at| holders.holder(PREFIX, at).unwrap().map(|holder| holder.created);
        assert_eq!([1, 2, 3, 4, 5].map(created), [None, Some(2), Some(2), Some(2), Some(3)]);
        assert!(holders.holder(PREFIX, 6).is_err(), "nobody knows what comes");
        let mut claimed = |client, created, at| holders.claimed(PREFIX, client, created, at);
        claimed(0, 2, 4).unwrap();
        claimed(1, 3, 5).unwrap();
        let wrong = claimed(0, 2, 5).expect_err("its lease has ended");
        assert!(wrong.contains("the key of 3 held"), "{wrong}");
        claimed(1, 3, 4).expect_err("it did not wait");
        claimed(1, 2, 4).expect_err("another client was told the same");
    }

    #[test]
    fn a_lock_is_won_again_only_after_its_key_went() {
        let (mut model, mut holders) = begin();
        put(&mut model, "lock0", 1);
        put(&mut model, "lock0", 2);
        delete(&mut model, "lock0");
        put(&mut model, "lock0", 2);
        holders.follow(&model).unwrap();
        holders.claimed("lock0", 0, 2, 2).unwrap();
        holders.claimed("lock0", 1, 3, 3).expect_err("the first holds it");
        holders.claimed("lock0", 1, 4, 4).expect_err("nobody holds it");
        holders.claimed("lock0", 1, 5, 5).unwrap();
    }

    #[test]
    fn nobody_holds_without_a_lease_and_no_two_at_once() {
        let (mut model, mut holders) = begin();
        put(&mut model, "e/1", 1);
        holders.follow(&model).unwrap();
        put(&mut model, "e/1", 0);
        let wrong = holders.follow(&model).expect_err("it hangs on no lease any more");
        assert!(wrong.contains("without a lease"), "{wrong}");
        let (mut model, mut holders) = begin();
        let operation = |key: &'static str| {
            let put = pb::PutRequest { key: key.into(), lease: 1, ..Default::default() };
            pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) }
        };
        let success = vec![operation("e/1"), operation("e/2")];
        model.txn(&pb::TxnRequest { success, ..Default::default() }).unwrap();
        let wrong = holders.follow(&model).expect_err("one revision created both");
        assert!(wrong.contains("both hold"), "{wrong}");
    }

    #[test]
    fn who_is_told_that_its_key_is_gone_has_none() {
        let (mut model, holders) = begin();
        put(&mut model, "e/1", 1);
        delete(&mut model, "e/1");
        put(&mut model, "e/1", 1);
        let key = Bytes::from_static(b"e/1");
        holders.lost(&model, &key, 2, 2).expect_err("it is there");
        holders.lost(&model, &key, 2, 3).unwrap();
        holders.lost(&model, &key, 2, 4).unwrap();
    }
}
