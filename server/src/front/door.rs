//! The front door: what is decided about a call before its request is looked at. The first of the two places where
//! auth will decide (the other is apply): today every caller is nobody, which is right while auth is off.

use http::HeaderMap;
use tokio::time::{MissedTickBehavior, interval};

use stanchion_replica::version::Version;

use super::Front;
use crate::member::Caller;
use crate::refusal::{INVALID_CLIENT_API_VERSION, LEARNER, NO_LEADER, Refusal};

/// Looks at a stream's leader before it is given up.
const LEADERLESS_LOOKS: u32 = 3;

/// A call that was let in.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) needs_leader: bool,
}

impl Front {
    /// Lets a call in or refuses it: learner, client version, leader, identity, in this order.
    pub(super) fn enter(
        &self,
        metadata: &HeaderMap,
        learner_may: bool,
        kind: &'static str,
    ) -> Result<Call, Refusal> {
        let standing = self.member.standing();
        if standing.is_learner && !learner_may {
            return Err(LEARNER);
        }
        let version = match metadata.get("client-api-version") {
            None => "",
            Some(version) => {
                std::str::from_utf8(version.as_bytes()).map_err(|_| INVALID_CLIENT_API_VERSION)?
            }
        };
        // What callers make up must not become a label each.
        let known = version.is_empty() || (version.len() <= 8 && Version::parse(version).is_some());
        let labels = [kind, if known { version } else { "unknown" }];
        self.metrics.server.client_requests.with_label_values(&labels).inc();
        let needs_leader = metadata.get("hasleader").is_some_and(|v| v == "true");
        if needs_leader && standing.leader == 0 {
            return Err(NO_LEADER);
        }
        Ok(Call { caller: self.identify(metadata), needs_leader })
    }

    /// Who calls. While auth is off tokens are not looked at.
    fn identify(&self, _metadata: &HeaderMap) -> Caller {
        Caller::default()
    }

    /// Resolves when a stream that needs a leader has to end; never if it needs none.
    pub(super) async fn leader_lost(&self, call: &Call) {
        if !call.needs_leader {
            return std::future::pending().await;
        }
        let mut look = interval(self.limits.election_timeout);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.tick().await;
        let mut without = 0;
        while without < LEADERLESS_LOOKS {
            look.tick().await;
            without = if self.member.standing().leader == 0 { without + 1 } else { 0 };
        }
    }
}
