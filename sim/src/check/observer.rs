//! What an observer of an election was shown: leaders in the order of their revisions, each with a value of its own.

use stanchion_api::mvccpb::KeyValue;

use super::{Check, Holders, Model, hold};

/// How far an observer has come.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// The revision of the newest thing that it was shown.
    pub revision: i64,
    /// The revision that created the newest leader's key.
    created: i64,
}

impl Observed {
    /// It was shown the state of a revision, with this leader or none.
    ///
    /// # Errors
    /// It was shown something newer before, this was not the leader then, or it had another value.
    pub fn shown(
        &mut self,
        (holders, model): (&Holders, &Model),
        prefix: &str,
        leader: Option<&KeyValue>,
        at: i64,
    ) -> Check {
        hold!(
            at >= self.revision,
            "an observer is shown revision {at} of {prefix:?}, and was shown {} before",
            self.revision
        );
        self.revision = at;
        let holder = holders.holder(prefix, at)?;
        let is_holder = match (leader, holder) {
            (Some(leader), Some(holder)) => {
                leader.key == holder.key && leader.create_revision == holder.created
            }
            (leader, holder) => leader.is_none() && holder.is_none(),
        };
        hold!(is_holder, "an observer is shown {leader:?} at revision {at}, but {holder:?} led {prefix:?}");
        let Some(leader) = leader else { return Ok(()) };
        hold!(
            leader.create_revision >= self.created,
            "an observer is shown the leader of {} after that of {}",
            leader.create_revision,
            self.created
        );
        self.created = leader.create_revision;
        let expected = model.range_at(&leader.key, &[], at).pop();
        hold!(
            expected.as_ref() == Some(leader),
            "an observer is shown {leader:?} at revision {at}, the leader's was {expected:?}"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use stanchion_api::etcdserverpb as pb;

    use super::*;

    const PREFIX: &str = "e/";

    /// Key 1 leads from revision 2 on with the values `a` and `b`, key 0, of revision 3, from 5 on.
    fn history() -> (Model, Holders) {
        let (mut model, mut holders) = (Model::default(), Holders::new(&[PREFIX]));
        for id in [1, 2] {
            model.grant(&pb::LeaseGrantRequest { id, ttl: 5 }, 1).unwrap();
        }
        let puts = [("e/1", "a", 1), ("e/0", "c", 2), ("e/1", "b", 1)];
        for (key, value, lease) in puts {
            let (key, value) = (key.into(), value.into());
            model.put(&pb::PutRequest { key, value, lease, ..Default::default() }).unwrap();
        }
        model.revoke(&pb::LeaseRevokeRequest { id: 1 }).unwrap();
        model.revoke(&pb::LeaseRevokeRequest { id: 2 }).unwrap();
        holders.follow(&model).unwrap();
        (model, holders)
    }

    #[test]
    fn an_observer_sees_leaders_in_order_and_nothing_else() {
        let (model, holders) = history();
        let at = |key: &str, at| model.range_at(key.as_bytes(), &[], at).pop();
        let (a, b, c) = (at("e/1", 2).unwrap(), at("e/1", 4).unwrap(), at("e/0", 5).unwrap());
        let shown = |seen: &mut Observed, leader: Option<&KeyValue>, at| {
            seen.shown((&holders, &model), PREFIX, leader, at)
        };
        let mut seen = Observed::default();
        for (leader, at) in [(None, 1), (Some(&a), 3), (Some(&b), 4), (Some(&c), 5), (None, 6)] {
            shown(&mut seen, leader, at).unwrap();
        }
        for (before, leader, at, reason) in [
            (4, Some(&a), 3, "was shown 4 before"),
            (1, Some(&c), 3, "led"),
            (1, Some(&b), 5, "led"),
            (1, None, 4, "led"),
            (1, Some(&a), 6, "led"),
            (1, Some(&a), 4, "the leader's was"),
            (1, Some(&c), 7, "is the newest"),
        ] {
            let mut seen = Observed { revision: before, created: 0 };
            let wrong = shown(&mut seen, leader, at).expect_err(reason);
            assert!(wrong.contains(reason), "{wrong}");
        }
        let mut ahead = Observed { revision: 1, created: 3 };
        let wrong = shown(&mut ahead, Some(&a), 3).expect_err("it goes back");
        assert!(wrong.contains("after that of 3"), "{wrong}");
    }
}
