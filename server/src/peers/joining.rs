//! Before a member joins a running cluster: who is in it, and whether the two fit together.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use stanchion_peer::{Asker, MemberInfo, PeerUrl};
use stanchion_replica::boot::{Identity, NewCluster};
use stanchion_replica::version::Version;

use super::compatibility::{self, Joinable};

/// Longest wait for one member's list.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for one member's list when a cluster is founded.
const FOUNDING_TIMEOUT: Duration = Duration::from_secs(1);

/// What the running members say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Who this member is.
    pub identity: Identity,
    /// The others: id and peer URLs.
    pub others: Vec<(u64, Vec<String>)>,
}

/// Why a member cannot join or found a cluster.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody answers.
    #[error(
        "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs ({urls}); start the other members, or correct --initial-cluster"
    )]
    Silent {
        /// Who was asked.
        urls: String,
    },
    /// The list has another length.
    #[error(
        "error validating peerURLs: member count is unequal: the cluster has {running} members, --initial-cluster names {given}; add this member first (etcdctl member add), and name all members"
    )]
    Count {
        /// Members of the running cluster.
        running: usize,
        /// Members in `--initial-cluster`.
        given: usize,
    },
    /// A running member is not in the list.
    #[error(
        "error validating peerURLs: unmatched member {id:x} at {urls}; --initial-cluster must name it so"
    )]
    Unmatched {
        /// The running member.
        id: u64,
        /// Its peer URLs.
        urls: String,
    },
    /// The cluster runs a version that this member cannot.
    #[error(
        "incompatible with current running cluster: its version is {cluster}, this member can join {joinable}; {}",
        .joinable.advice(*.cluster)
    )]
    Version {
        /// The cluster's version.
        cluster: Version,
        /// What this member can join.
        joinable: Joinable,
    },
    /// No running member tells the cluster's version.
    #[error(
        "incompatible with current running cluster: no member tells the cluster's version; start this member again when the others have a leader and have agreed on one"
    )]
    NoVersion,
    /// There are more learners than this member allows.
    #[error("too many learner members in cluster: {learners}, --max-learners is {max}")]
    Learners {
        /// Learners in the cluster.
        learners: usize,
        /// What this member allows.
        max: usize,
    },
    /// This member has been part of the cluster already.
    #[error(
        "member {id:x} has already been bootstrapped; its data directory is gone: remove the member and add it again, then start it with --initial-cluster-state=existing"
    )]
    AlreadyBootstrapped {
        /// Its id.
        id: u64,
    },
}

/// Asks the running members, and finds this one among them.
///
/// # Errors
/// [`JoinError`].
pub async fn join(given: &NewCluster, max_learners: usize) -> Result<Joined, JoinError> {
    let urls = urls_of_others(given);
    let (cluster_id, members) = first_list(&urls, LIST_TIMEOUT)
        .await
        .ok_or_else(|| JoinError::Silent { urls: urls.iter().cloned().collect::<Vec<_>>().join(", ") })?;
    if members.len() != given.members.len() {
        return Err(JoinError::Count { running: members.len(), given: given.members.len() });
    }
    let mut own = None;
    for member in &members {
        let unmatched = || JoinError::Unmatched { id: member.id, urls: member.peer_urls.join(", ") };
        let name = name_in(given, &member.peer_urls).await.ok_or_else(unmatched)?;
        if name == given.name {
            own = Some(member.id);
        }
    }
    let Some(member_id) = own else {
        return Err(JoinError::Unmatched { id: 0, urls: own_urls(given).join(", ") });
    };
    let others: Vec<&MemberInfo> = members.iter().filter(|member| member.id != member_id).collect();
    compatibility::check(&others).await?;
    let learners = members.iter().filter(|member| member.is_learner).count();
    if learners > max_learners {
        return Err(JoinError::Learners { learners, max: max_learners });
    }
    let others = others.into_iter().map(|member| (member.id, member.peer_urls.clone())).collect();
    Ok(Joined { identity: Identity { member_id, cluster_id }, others })
}

/// A member that founds a cluster must not have run in it before: its log would be missing.
///
/// # Errors
/// [`JoinError::AlreadyBootstrapped`]. Silence of the others is fine.
pub async fn check_new(given: &NewCluster, member_id: u64) -> Result<(), JoinError> {
    match first_list(&urls_of_others(given), FOUNDING_TIMEOUT).await {
        Some((_, members))
            if members.iter().any(|member| member.id == member_id && !member.client_urls.is_empty()) =>
        {
            Err(JoinError::AlreadyBootstrapped { id: member_id })
        }
        _ => Ok(()),
    }
}

fn own_urls(given: &NewCluster) -> Vec<String> {
    let own = given.members.iter().filter(|(name, _)| *name == given.name);
    own.flat_map(|(_, urls)| urls.clone()).collect()
}

fn urls_of_others(given: &NewCluster) -> BTreeSet<String> {
    let own = own_urls(given);
    let all = given.members.iter().flat_map(|(_, urls)| urls.clone());
    all.filter(|url| !own.contains(url)).collect()
}

async fn first_list(urls: &BTreeSet<String>, limit: Duration) -> Option<(u64, Vec<MemberInfo>)> {
    let asker = Asker::new(limit);
    for url in urls {
        match asker.members(url).await {
            Ok((cluster_id, members)) if !members.is_empty() => return Some((cluster_id, members)),
            Ok(_) => tracing::warn!(url, "a member knows no members"),
            Err(error) => tracing::debug!(url, %error, "failed to get the members of the cluster"),
        }
    }
    None
}

/// The name that `--initial-cluster` gives to a member at these URLs: the same text, or the same addresses.
async fn name_in(given: &NewCluster, urls: &[String]) -> Option<String> {
    let sorted = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<String>>();
    if let Some((name, _)) = given.members.iter().find(|(_, known)| sorted(known) == sorted(urls)) {
        return Some(name.clone());
    }
    let wanted = resolved(urls).await?;
    for (name, known) in &given.members {
        if resolved(known).await.as_ref() == Some(&wanted) {
            return Some(name.clone());
        }
    }
    None
}

async fn resolved(urls: &[String]) -> Option<BTreeSet<SocketAddr>> {
    let mut addresses = BTreeSet::new();
    for url in urls {
        let parsed: PeerUrl = url.parse().ok()?;
        addresses.extend(tokio::net::lookup_host(parsed.authority()).await.ok()?);
    }
    Some(addresses)
}
