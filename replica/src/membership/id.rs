//! How etcd derives member, cluster and request ids.

use sha1::{Digest as _, Sha1};

/// The id of a member that bootstraps a cluster: of its peer URLs (any order) and the cluster's token.
#[must_use]
pub fn bootstrap_member_id(peer_urls: &[String], cluster_token: &str) -> u64 {
    member_id(peer_urls, cluster_token)
}

/// The id of a member that is added to a running cluster at `unix_seconds`.
#[must_use]
pub fn added_member_id(peer_urls: &[String], unix_seconds: u64) -> u64 {
    member_id(peer_urls, &unix_seconds.to_string())
}

fn member_id(peer_urls: &[String], salt: &str) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    for url in urls {
        hash.update(url);
    }
    hash.update(salt);
    first_eight_bytes(hash)
}

/// The id of a cluster, from the ids of the members that bootstrap it (any order).
#[must_use]
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut hash = Sha1::new();
    for id in ids {
        hash.update(id.to_be_bytes());
    }
    first_eight_bytes(hash)
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    digest[..8].iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// Makes request ids that are unique in the cluster: 16 bits of the member's id, 40 bits of its start time, 8 bits
/// that count; the lower 48 are counted up as one number.
#[derive(Clone, Debug)]
pub struct RequestIds {
    prefix: u64,
    suffix: u64,
}

impl RequestIds {
    const SUFFIX_MASK: u64 = (1 << 48) - 1;

    /// A generator for a member that started at `unix_millis`.
    #[must_use]
    pub fn new(member_id: u64, unix_millis: u64) -> Self {
        Self { prefix: member_id << 48, suffix: unix_millis << 8 & Self::SUFFIX_MASK }
    }

    /// The next id; never 0.
    pub fn next_id(&mut self) -> u64 {
        loop {
            self.suffix = (self.suffix + 1) & Self::SUFFIX_MASK;
            let id = self.prefix | self.suffix;
            if id != 0 {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_real_cluster() {
        let id = bootstrap_member_id(&["http://127.0.0.1:24791".to_owned()], "tok1");
        assert_eq!(id, 0x249a_333a_f4fe_0c78);
        assert_eq!(cluster_id(&[id]), 0x6b0b_d9f4_9e9c_ad83);
    }

    #[test]
    fn the_order_of_urls_and_members_does_not_matter() {
        let (a, b) = ("http://a:1".to_owned(), "http://b:1".to_owned());
        assert_eq!(added_member_id(&[a.clone(), b.clone()], 7), added_member_id(&[b, a], 7));
        assert_eq!(cluster_id(&[1, 2]), cluster_id(&[2, 1]));
    }

    #[test]
    fn request_ids_count_up_from_member_and_time() {
        let mut ids = RequestIds::new(0x249a_333a_f4fe_0c78, 0x12_3456_789a);
        assert_eq!(ids.next_id(), 0x0c78_1234_5678_9a01);
        assert_eq!(ids.next_id(), 0x0c78_1234_5678_9a02);
        let mut last = RequestIds { prefix: 0, suffix: RequestIds::SUFFIX_MASK };
        assert_eq!(last.next_id(), 1);
    }
}
