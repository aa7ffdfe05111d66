//! Who a member is to its peers, and whether two fit together: the headers of requests and answers, and their check.

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::version::Version;

/// Id of the cluster.
pub(crate) const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
/// Id of the sender.
pub(crate) const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
/// Release of the sender.
pub(crate) const SERVER_VERSION: HeaderName = HeaderName::from_static("x-server-version");
/// Oldest release that the sender works with.
pub(crate) const MIN_CLUSTER_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
/// Peer URLs of the sender.
pub(crate) const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");
/// Id of the receiver, on streams.
pub(crate) const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");

/// The oldest release that a member of version 3 works with.
pub(crate) const OLDEST_CLUSTER: Version = Version::new(3, 0, 0);
/// What a missing version counts as.
const UNSTATED: Version = Version::new(2, 0, 0);
/// The oldest release whose streams are those of today.
const OLDEST_STREAMS: (u32, u32) = (2, 1);

/// Who this member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the cluster.
    pub cluster_id: u64,
    /// Id of this member.
    pub member_id: u64,
    /// The etcd release that this member reports.
    pub version: Version,
    /// Peer URLs that this member tells others.
    pub peer_urls: Vec<String>,
}

/// Why a member does not talk to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The releases do not work with each other, or one is no version.
    #[error("incompatible version")]
    Version,
    /// It belongs to another cluster.
    #[error("cluster ID mismatch")]
    Cluster,
}

impl Identity {
    /// The headers of a request to a peer.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(SERVER_FROM, text(&format!("{:x}", self.member_id)));
        headers.insert(SERVER_VERSION, text(&self.version.to_string()));
        headers.insert(MIN_CLUSTER_VERSION, text(&OLDEST_CLUSTER.to_string()));
        headers.insert(CLUSTER_ID, self.cluster_header());
        headers.insert(PEER_URLS, text(&self.peer_urls.join(",")));
        headers
    }

    /// The cluster's id, as headers carry it.
    #[must_use]
    pub fn cluster_header(&self) -> HeaderValue {
        text(&format!("{:x}", self.cluster_id))
    }

    /// Checks the headers of a peer's request.
    ///
    /// # Errors
    /// [`Mismatch`], in etcd's order: versions, then the cluster.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Mismatch> {
        let remote = version_in(headers, &SERVER_VERSION)?;
        let remote_oldest = version_in(headers, &MIN_CLUSTER_VERSION)?;
        if remote.minor_of() < OLDEST_CLUSTER.minor_of() || remote_oldest.minor_of() > self.version.minor_of()
        {
            return Err(Mismatch::Version);
        }
        // Compared as text, as etcd does: zeros in front make another cluster.
        if headers.get(CLUSTER_ID) != Some(&self.cluster_header()) {
            return Err(Mismatch::Cluster);
        }
        Ok(())
    }

    /// The sender as it introduces itself: its id and its peer URLs.
    #[must_use]
    pub fn sender(headers: &HeaderMap) -> Option<(u64, Vec<String>)> {
        Some((sender_id(headers)?, sender_urls(headers)?))
    }
}

/// The sender's id, if it tells one.
pub(crate) fn sender_id(headers: &HeaderMap) -> Option<u64> {
    u64::from_str_radix(headers.get(SERVER_FROM)?.to_str().ok()?, 16).ok()
}

/// The sender's peer URLs, if it tells any.
pub(crate) fn sender_urls(headers: &HeaderMap) -> Option<Vec<String>> {
    let urls = headers.get(PEER_URLS)?.to_str().ok()?;
    let urls: Vec<String> = urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect();
    (!urls.is_empty()).then_some(urls)
}

/// The answer to a stream request names a release whose streams can be read.
pub(crate) fn streams_fit(headers: &HeaderMap) -> bool {
    version_in(headers, &SERVER_VERSION).is_ok_and(|version| version.minor_of() >= OLDEST_STREAMS)
}

fn version_in(headers: &HeaderMap, name: &HeaderName) -> Result<Version, Mismatch> {
    let Some(value) = headers.get(name) else { return Ok(UNSTATED) };
    value.to_str().ok().and_then(|text| text.parse().ok()).ok_or(Mismatch::Version)
}

/// Hexadecimal ids, versions and URLs are visible ASCII; anything else is not sent at all.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            cluster_id: 0xcafe,
            member_id: 0x1f,
            version: Version::new(3, 7, 1),
            peer_urls: vec!["http://127.0.0.1:2380".into(), "http://127.0.0.1:2381".into()],
        }
    }

    #[test]
    fn members_of_one_cluster_fit_and_introduce_themselves() {
        let headers = identity().headers();
        assert_eq!(identity().check(&headers), Ok(()));
        assert_eq!(Identity::sender(&headers), Some((0x1f, identity().peer_urls)));
        assert_eq!(headers[MIN_CLUSTER_VERSION], "3.0.0");
    }

    #[test]
    fn versions_are_checked_before_the_cluster() {
        let with = |name: HeaderName, value: Option<&str>| {
            let mut headers = identity().headers();
            match value {
                Some(value) => headers.insert(name, HeaderValue::from_str(value).unwrap()),
                None => headers.remove(name),
            };
            identity().check(&headers)
        };
        for (name, value, expected) in [
            (SERVER_VERSION, Some("3.0.0"), Ok(())),
            (SERVER_VERSION, Some("99.0.0"), Ok(())),
            (SERVER_VERSION, Some("2.9.0"), Err(Mismatch::Version)),
            (SERVER_VERSION, None, Err(Mismatch::Version)),
            (SERVER_VERSION, Some("three"), Err(Mismatch::Version)),
            (MIN_CLUSTER_VERSION, Some("3.8.0"), Err(Mismatch::Version)),
            (MIN_CLUSTER_VERSION, None, Ok(())),
            (CLUSTER_ID, Some("0cafe"), Err(Mismatch::Cluster)),
            (CLUSTER_ID, Some("cafe"), Ok(())),
            (CLUSTER_ID, None, Err(Mismatch::Cluster)),
        ] {
            assert_eq!(with(name.clone(), value), expected, "{name} {value:?}");
        }
    }
}
