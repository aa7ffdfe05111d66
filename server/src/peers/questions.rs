//! Questions to other members: leases to the leader, versions to everybody.

use std::sync::Arc;
use std::time::Duration;

use stanchion_api::etcdserverpb as pb;
use stanchion_peer::{AskError, Asker, MemberInfo, PromoteError};
use stanchion_replica::version::Version;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Peers;
use crate::refusal::{self, Refusal};

/// Between two rounds over the leader's URLs.
const PAUSE: Duration = Duration::from_millis(50);

/// What the leader says of a lease.
enum Answered<T> {
    Found(T),
    NoSuchLease,
}

/// What the leader says against a promotion; `None` if it may be asked again.
fn about_promotion(error: AskError) -> Option<Refusal> {
    tracing::debug!(%error, "the leader has not promoted a learner");
    let AskError::Refused { status, text } = error else { return None };
    match status {
        http::StatusCode::NOT_FOUND => Some(refusal::MEMBER_NOT_FOUND),
        http::StatusCode::REQUEST_TIMEOUT => Some(refusal::TIMEOUT),
        http::StatusCode::PRECONDITION_FAILED if text.contains(&PromoteError::NotReady.to_string()) => {
            Some(refusal::LEARNER_NOT_READY)
        }
        http::StatusCode::PRECONDITION_FAILED => Some(refusal::NOT_A_LEARNER),
        _ => None,
    }
}

impl Peers {
    /// Renews a lease at the leader; its granted TTL, or 0 if there is none.
    pub(crate) async fn renew_lease(self: Arc<Self>, id: i64) -> Result<i64, Refusal> {
        let answered = self.ask_leader(move |asker, url| async move { asker.renew_lease(&url, id).await });
        match answered.await? {
            Answered::Found(ttl) => Ok(ttl),
            Answered::NoSuchLease => Ok(0),
        }
    }

    /// Looks a lease up at the leader; TTL -1 if there is none.
    pub(crate) async fn lease_time_to_live(
        self: Arc<Self>,
        request: pb::LeaseTimeToLiveRequest,
    ) -> Result<pb::LeaseTimeToLiveResponse, Refusal> {
        let answered =
            self.ask_leader(move |asker, url| async move { asker.lease_time_to_live(&url, request).await });
        match answered.await? {
            Answered::Found(found) => Ok(found),
            Answered::NoSuchLease => {
                Ok(pb::LeaseTimeToLiveResponse { id: request.id, ttl: -1, ..Default::default() })
            }
        }
    }

    /// Asks the leader at all its URLs, whoever leads by then, until it answers or the request's time is up.
    async fn ask_leader<T, F>(&self, ask: impl Fn(Asker, String) -> F) -> Result<Answered<T>, Refusal>
    where
        F: Future<Output = Result<T, AskError>>,
    {
        let asker = self.asker.within(self.request_timeout);
        let asking = async {
            loop {
                for url in self.leader_urls().ok_or(refusal::NO_LEADER)? {
                    match ask(asker.clone(), url).await {
                        Ok(found) => return Ok(Answered::Found(found)),
                        Err(AskError::Refused { status, .. }) if status == http::StatusCode::NOT_FOUND => {
                            return Ok(Answered::NoSuchLease);
                        }
                        Err(error) => tracing::debug!(%error, "the leader has not answered about a lease"),
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        timeout(self.request_timeout, asking).await.unwrap_or(Err(refusal::TIMEOUT))
    }

    /// Promotes a learner at the leader, whoever leads by then; all members afterwards.
    pub(crate) async fn promote_at_leader(self: Arc<Self>, id: u64) -> Result<Vec<MemberInfo>, Refusal> {
        let asker = self.asker.within(self.request_timeout);
        let promoting = async {
            loop {
                for url in self.leader_urls().unwrap_or_default() {
                    match asker.promote(&url, id, None).await.map_err(about_promotion) {
                        Ok(members) => return Ok(members),
                        Err(Some(refusal)) => return Err(refusal),
                        Err(None) => {}
                    }
                }
                let wait = if self.shared.leader() == 0 { self.election } else { PAUSE };
                tokio::time::sleep(wait).await;
            }
        };
        timeout(self.request_timeout, promoting).await.unwrap_or(Err(refusal::TIMEOUT))
    }

    fn leader_urls(&self) -> Option<Vec<String>> {
        let leader = self.shared.leader();
        let view = self.shared.view.read();
        let member = view.cluster.member(leader)?;
        Some(member.peer_urls.clone())
    }

    /// Asks all others which release they run. One that does not say counts as unknown.
    pub(crate) async fn learn_versions(&self) {
        let mut asking = JoinSet::new();
        for (id, urls) in self.known.lock().clone() {
            let asker = self.asker.clone();
            asking.spawn(async move {
                for url in urls {
                    match asker.version(&url).await {
                        Ok(info) => return (id, Version::parse(&info.etcdserver)),
                        Err(error) => {
                            tracing::debug!(peer = %format_args!("{id:x}"), %error, "failed to get version");
                        }
                    }
                }
                (id, None)
            });
        }
        let mut versions = std::collections::BTreeMap::new();
        while let Some(asked) = asking.join_next().await {
            if let Ok((id, Some(version))) = asked {
                versions.insert(id, version);
            }
        }
        *self.shared.member_versions.lock() = versions;
    }
}
