//! Whether members of another cluster sit where this one's should be: a member whose directory or token is a wrong one
//! would wait for ever without saying why.

use std::time::Duration;

use stanchion_peer::Asker;

use crate::member::MemberHandle;

/// Longest wait for one member's answer, and time between two rounds of questions.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);

/// This member cannot reach a quorum: too many of the others belong to another cluster.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "cluster ID mismatch: this member is of cluster {own:x}, the one at {url} of cluster {other:x}; to join that cluster, add this member there (etcdctl member add), remove its data directory and start it with --initial-cluster-state=existing; if it founds a cluster, give all members the same --initial-cluster and --initial-cluster-token"
)]
pub struct OtherCluster {
    own: u64,
    other: u64,
    url: String,
}

/// Resolves when so many others belong to another cluster that this member will never find a quorum.
pub async fn await_other_cluster(member: &MemberHandle) -> OtherCluster {
    let asker = Asker::new(ASK_TIMEOUT);
    let own = member.standing();
    loop {
        let members = member.members(false).await.unwrap_or_default();
        let voters = members.iter().filter(|member| !member.is_learner).count();
        let mut strangers = Vec::new();
        for member in members.iter().filter(|member| !member.is_learner && member.id != own.member_id) {
            if let Some(stranger) = stranger(&asker, own.cluster_id, &member.peer_ur_ls).await {
                strangers.push(stranger);
            }
        }
        if leaves_no_quorum(voters, strangers.len())
            && let Some(stranger) = strangers.pop()
        {
            return stranger;
        }
        tokio::time::sleep(ASK_TIMEOUT).await;
    }
}

fn leaves_no_quorum(voters: usize, strangers: usize) -> bool {
    voters.saturating_sub(strangers) <= voters / 2
}

/// The member at these URLs, if it answers and belongs to another cluster.
async fn stranger(asker: &Asker, own: u64, urls: &[String]) -> Option<OtherCluster> {
    for url in urls {
        match asker.members(url).await {
            Ok((other, _)) if other == own => return None,
            Ok((other, _)) => return Some(OtherCluster { own, other, url: url.clone() }),
            Err(error) => tracing::debug!(url, %error, "failed to ask for a member's cluster"),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::leaves_no_quorum;

    #[test]
    fn a_minority_of_strangers_stops_nobody() {
        for (voters, strangers, stops) in [
            (1, 0, false),
            (2, 1, true),
            (3, 1, false),
            (3, 2, true),
            (4, 1, false),
            (4, 2, true),
            (5, 2, false),
        ] {
            assert_eq!(leaves_no_quorum(voters, strangers), stops, "{strangers} of {voters}");
        }
    }
}
