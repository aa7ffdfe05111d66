//! Locks: a client that wins one holds it alone until its key goes.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Check, Model, hold};

/// Who won which lock at which revision.
#[derive(Debug, Default)]
pub struct Locks {
    wins: BTreeMap<Bytes, BTreeMap<i64, usize>>,
}

impl Locks {
    /// A client was told that it has won a lock at a revision.
    ///
    /// # Errors
    /// Another one held it then.
    pub fn won(&mut self, model: &Model, key: &Bytes, client: usize, revision: i64) -> Check {
        let wins = self.wins.entry(key.clone()).or_default();
        let before = wins.range(..revision).next_back().map(|(at, who)| (*at, *who));
        let after = wins.range(revision + 1..).next().map(|(at, who)| (*at, *who));
        for ((first, holder), (second, other)) in before
            .map(|before| (before, (revision, client)))
            .into_iter()
            .chain(after.map(|after| ((revision, client), after)))
        {
            let let_go = (first + 1..=second)
                .any(|at| model.changes(at).iter().any(|change| change.key == *key && change.pair.is_none()));
            hold!(
                let_go,
                "client {other} won {key:?} at revision {second}, which client {holder} held since {first}"
            );
        }
        hold!(
            wins.insert(revision, client).is_none_or(|known| known == client),
            "two clients won {key:?} at revision {revision}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stanchion_api::etcdserverpb as pb;

    use super::*;

    #[test]
    fn a_lock_is_won_again_only_after_its_key_went() {
        let (mut model, mut locks) = (Model::default(), Locks::default());
        let key = Bytes::from_static(b"lock0");
        let put = pb::PutRequest { key: key.clone(), ..Default::default() };
        let delete = pb::DeleteRangeRequest { key: key.clone(), ..Default::default() };
        model.put(&put).unwrap();
        locks.won(&model, &key, 0, 2).unwrap();
        model.put(&put).unwrap();
        assert!(locks.won(&model, &key, 1, 3).is_err());
        model.delete(&delete).unwrap();
        model.put(&put).unwrap();
        locks.won(&model, &key, 1, 5).unwrap();
    }
}
