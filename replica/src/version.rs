//! Versions of the cluster and of the stored form, and when they change.
//!
//! What lives here: the rules, as functions of what is known. What may not: asking members for their versions, and
//! proposing.

use std::fmt;

/// A minor release; patches do not count in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u64,
    /// The second one.
    pub minor: u64,
}

impl Version {
    /// The lowest version that a cluster can have: that of one whose members do not say theirs.
    pub const LOWEST: Version = Version { major: 3, minor: 0 };
    /// The first version whose stored form names itself.
    pub const NAMED_STORAGE: Version = Version { major: 3, minor: 6 };

    /// Reads `3.7` or `3.7.1`, whose last number is dropped; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Version> {
        let number = |part: &str| -> Option<u64> {
            // No sign, which `parse` would take.
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten()
        };
        let mut parts = text.split('.');
        let version = Version { major: number(parts.next()?)?, minor: number(parts.next()?)? };
        if let Some(patch) = parts.next() {
            number(patch)?;
        }
        parts.next().is_none().then_some(version)
    }

    /// The form in which versions are stored and proposed, `3.7.0`.
    #[must_use]
    pub fn full(self) -> String {
        format!("{self}.0")
    }

    /// The minor release before this one, of the same major.
    #[must_use]
    pub fn one_below(self) -> Option<Version> {
        self.minor.checked_sub(1).map(|minor| Version { minor, ..self })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a leader knows when it looks at the cluster's version.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The agreed version.
    pub cluster: Option<Version>,
    /// The lowest version that any member runs; `None` if one does not say.
    pub lowest_member: Option<Version>,
    /// The target of a running downgrade.
    pub downgrade: Option<Version>,
}

/// The version that a leader proposes; `None` to leave it as it is. It follows the lowest member upwards, and goes down
/// to the target of a downgrade, by one minor.
#[must_use]
pub fn next_cluster_version(known: Known) -> Option<Version> {
    let Known { cluster, lowest_member, downgrade } = known;
    match (cluster, downgrade) {
        (None, _) => Some(lowest_member.unwrap_or(Version::LOWEST)),
        (Some(now), Some(target)) => (now.one_below() == Some(target)).then_some(target),
        (Some(now), None) => lowest_member.filter(|lowest| lowest.major == now.major && *lowest > now),
    }
}

/// Whether a downgrade is over: the cluster is at its target, and every member runs that release.
#[must_use]
pub fn downgrade_is_over(known: Known) -> bool {
    known.downgrade.is_some_and(|target| known.cluster == Some(target) && known.lowest_member == Some(target))
}

/// The storage version that follows from the cluster's: `Some(None)` is a file that does not name its version, as 3.5
/// left it. `None` to leave it as it is.
#[must_use]
pub fn next_storage_version(cluster: Option<Version>, stored: Option<Version>) -> Option<Option<Version>> {
    let cluster = cluster?;
    if cluster < Version::NAMED_STORAGE {
        // The file becomes that of 3.5 only by a downgrade, from 3.6 on.
        return (stored.is_some() && Version::NAMED_STORAGE.one_below() == Some(cluster)).then_some(None);
    }
    (stored != Some(cluster)).then_some(Some(cluster))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn known(cluster: &str, lowest: &str, downgrade: &str) -> Known {
        let read = Version::parse;
        Known { cluster: read(cluster), lowest_member: read(lowest), downgrade: read(downgrade) }
    }

    #[test]
    fn dwn_4_versions_have_two_or_three_numbers() {
        assert_eq!(v("3.6"), v("3.6.9"));
        assert_eq!((v("3.6").to_string(), v("3.6").full()), ("3.6".to_owned(), "3.6.0".to_owned()));
        for bad in ["", "3", "v3.6", "3.x", "3.6.x", "3.6.1.2", "3.", "-3.6", "+3.6", "3.6.", "not_decided"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn dwn_1_and_2_the_cluster_follows_its_lowest_member_upwards() {
        assert_eq!(next_cluster_version(known("", "3.7", "")), Some(v("3.7")));
        assert_eq!(next_cluster_version(known("", "", "")), Some(Version::LOWEST));
        assert_eq!(next_cluster_version(known("3.5", "3.7", "")), Some(v("3.7")));
        for stays in
            [known("3.7", "3.7", ""), known("3.7", "3.6", ""), known("3.6", "", ""), known("3.7", "4.0", "")]
        {
            assert_eq!(next_cluster_version(stays), None, "{stays:?}");
        }
    }

    #[test]
    fn dwn_7_and_8_a_downgrade_lowers_by_one_and_ends_when_all_run_the_target() {
        assert_eq!(next_cluster_version(known("3.7", "3.7", "3.6")), Some(v("3.6")));
        assert_eq!(next_cluster_version(known("3.6", "3.7", "3.6")), None);
        assert_eq!(next_cluster_version(known("3.7", "3.7", "3.5")), None);
        assert!(!downgrade_is_over(known("3.6", "3.7", "3.6")));
        assert!(downgrade_is_over(known("3.6", "3.6", "3.6")));
        assert!(!downgrade_is_over(known("3.6", "3.6", "")));
    }

    #[test]
    fn storage_follows_the_cluster_and_3_5_has_no_name() {
        assert_eq!(next_storage_version(None, None), None);
        assert_eq!(next_storage_version(Some(v("3.7")), None), Some(Some(v("3.7"))));
        assert_eq!(next_storage_version(Some(v("3.6")), Some(v("3.7"))), Some(Some(v("3.6"))));
        assert_eq!(next_storage_version(Some(v("3.7")), Some(v("3.7"))), None);
        assert_eq!(next_storage_version(Some(v("3.5")), Some(v("3.6"))), Some(None));
        assert_eq!(next_storage_version(Some(v("3.5")), None), None);
        assert_eq!(next_storage_version(Some(v("3.0")), Some(v("3.7"))), None);
    }
}
