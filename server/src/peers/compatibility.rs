//! Whether this release can run in a cluster that is running: the cluster's version decides, as its members tell it.
//!
//! What lives here: asking for versions, and the judgement. What may not: who the members are; that is `joining`'s.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use stanchion_peer::{Asker, MemberInfo};
use stanchion_replica::version::Version;

use super::joining::JoinError;
use crate::config::ETCD_VERSION;

/// Longest wait for one member's versions.
const VERSION_TIMEOUT: Duration = Duration::from_secs(2);

/// The versions of clusters that this release can join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joinable {
    /// From the oldest one that says its version up to this release's own.
    UpTo(Version),
    /// A downgrade is under way. Who is to run in it has the release below, so the cluster still has the version above.
    Downgrading(Version),
}

impl Joinable {
    fn new(downgrading: bool) -> Joinable {
        let own = Version::parse(ETCD_VERSION).expect("our own version is one");
        if downgrading {
            Joinable::Downgrading(Version { minor: own.minor + 1, ..own })
        } else {
            Joinable::UpTo(own)
        }
    }

    fn range(self) -> RangeInclusive<Version> {
        match self {
            Joinable::UpTo(own) => Version::LOWEST..=own,
            Joinable::Downgrading(above) => above..=above,
        }
    }

    /// What to do about a cluster of this version, which is outside.
    pub(super) fn advice(self, cluster: Version) -> &'static str {
        match self {
            Joinable::Downgrading(_) => {
                "a downgrade is under way: wait until it is over, or cancel it (etcdctl downgrade cancel), then start this member again"
            }
            Joinable::UpTo(own) if cluster > own => "start a release that is at least as new as the cluster",
            Joinable::UpTo(_) => "upgrade the members of the cluster first",
        }
    }
}

impl fmt::Display for Joinable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.range();
        write!(f, "{} to {}", range.start(), range.end())
    }
}

/// Asks the others, and judges what they say.
///
/// # Errors
/// [`JoinError::Version`], [`JoinError::NoVersion`].
pub(super) async fn check(others: &[&MemberInfo]) -> Result<(), JoinError> {
    let asker = Asker::new(VERSION_TIMEOUT);
    let joinable = Joinable::new(downgrade_is_on(&asker, others).await);
    let mut told = Vec::new();
    for member in others {
        if let Some(version) = version_of(&asker, member).await {
            told.push((member.id, version));
        }
    }
    judge(joinable, &told)
}

/// What the first member says that says anything; silence means no.
async fn downgrade_is_on(asker: &Asker, others: &[&MemberInfo]) -> bool {
    for url in others.iter().flat_map(|member| &member.peer_urls) {
        match asker.downgrade_enabled(url).await {
            Ok(on) => return on,
            Err(error) => tracing::debug!(url, %error, "failed to ask about a downgrade"),
        }
    }
    false
}

/// The cluster's version as a member tells it, at the first of its URLs that answers.
async fn version_of(asker: &Asker, member: &MemberInfo) -> Option<String> {
    for url in &member.peer_urls {
        match asker.version(url).await {
            Ok(info) => return Some(info.etcdcluster),
            Err(error) => tracing::debug!(url, %error, "failed to get the version of a member"),
        }
    }
    None
}

/// One member at least must tell the cluster's version, and none a version that this release cannot run in. Another
/// member may be down meanwhile, or not know the version yet: such a one is passed over.
fn judge(joinable: Joinable, told: &[(u64, String)]) -> Result<(), JoinError> {
    let mut known = false;
    for (id, text) in told {
        let id = format!("{id:x}");
        let Some(cluster) = Version::parse(text) else {
            tracing::warn!(
                "remote-member-id" = id,
                "remote-member-cluster-version" = text,
                "failed to parse cluster version of remote member"
            );
            continue;
        };
        let range = joinable.range();
        if cluster < *range.start() {
            tracing::warn!(
                "remote-member-id" = id,
                "remote-member-cluster-version" = text,
                "minimum-cluster-version-supported" = range.start().full(),
                "cluster version of remote member is not compatible; too low"
            );
        } else if cluster > *range.end() {
            tracing::warn!(
                "remote-member-id" = id,
                "remote-member-cluster-version" = text,
                "maximum-cluster-version-supported" = range.end().full(),
                "cluster version of remote member is not compatible; too high"
            );
        } else {
            known = true;
            continue;
        }
        return Err(JoinError::Version { cluster, joinable });
    }
    if known { Ok(()) } else { Err(JoinError::NoVersion) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(versions: &[&str]) -> Vec<(u64, String)> {
        versions.iter().zip(1..).map(|(version, id)| (id, (*version).to_owned())).collect()
    }

    fn judged(downgrading: bool, versions: &[&str]) -> Result<(), JoinError> {
        judge(Joinable::new(downgrading), &told(versions))
    }

    fn own() -> Version {
        Version::parse(ETCD_VERSION).unwrap()
    }

    fn above() -> String {
        Version { minor: own().minor + 1, ..own() }.full()
    }

    fn refused(downgrading: bool, versions: &[&str]) -> String {
        match judged(downgrading, versions) {
            Err(error @ JoinError::Version { .. }) => error.to_string(),
            other => panic!("{versions:?}: {other:?}"),
        }
    }

    #[test]
    fn dwn_9_a_cluster_from_3_0_to_our_own_version_is_joined() {
        for version in ["3.0.0", "3.4.0", "3.6.0", &own().full()] {
            assert!(judged(false, &[version]).is_ok(), "{version}");
        }
        for (version, advice) in [
            ("2.3.0", "upgrade the members of the cluster first"),
            (above().as_str(), "start a release that is at least as new as the cluster"),
            ("4.0.0", "start a release that is at least as new as the cluster"),
        ] {
            let said = refused(false, &[version]);
            assert!(said.starts_with("incompatible with current running cluster: "), "{said}");
            assert!(said.ends_with(advice), "{said}");
        }
        let said = refused(false, &["4.0.0"]);
        assert!(
            said.contains(&format!("its version is 4.0, this member can join 3.0 to {}", own())),
            "{said}"
        );
    }

    #[test]
    fn dwn_9_one_member_that_does_not_fit_is_enough() {
        let own = own().full();
        assert!(
            judged(false, &["not_decided", &own, "no version"]).is_ok(),
            "who does not know is passed over"
        );
        for versions in [[&own, "4.0.0"], ["4.0.0", &own], [&own, "2.3.0"]] {
            refused(false, &versions);
        }
    }

    #[test]
    fn dwn_9_somebody_must_know_the_version() {
        for versions in [&[][..], &["not_decided"], &["", "v3.7.0", "3"]] {
            let judged = judged(false, versions);
            assert!(matches!(judged, Err(JoinError::NoVersion)), "{versions:?}: {judged:?}");
        }
    }

    #[test]
    fn dwn_9_a_downgrade_is_joined_by_the_release_below_alone() {
        assert!(judged(true, &[&above()]).is_ok());
        for version in [own().full(), own().one_below().unwrap().full(), "4.0.0".to_owned()] {
            let said = refused(true, &[&version]);
            assert!(said.contains("a downgrade is under way"), "{said}");
        }
    }
}
