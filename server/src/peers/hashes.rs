//! Asking other members for the hash of their store.

use std::time::Duration;

use stanchion_peer::Asker;
use stanchion_replica::corruption::PeerHash;
use tokio::task::JoinSet;

/// Asks all `members` (id and peer URLs) at the same time; by rising id, those who have answered. Who is away, is not
/// there yet, has compacted or belongs to another cluster says nothing about its store.
pub(crate) async fn ask_hashes(
    members: Vec<(u64, Vec<String>)>,
    cluster_id: u64,
    revision: i64,
    limit: Duration,
) -> Vec<PeerHash> {
    let asker = Asker::new(limit);
    let mut asking = JoinSet::new();
    for (member_id, urls) in members {
        let asker = asker.clone();
        asking.spawn(async move {
            for url in urls {
                match asker.hash_kv(&url, cluster_id, revision).await {
                    Ok(hash) => {
                        return Some(PeerHash {
                            member_id,
                            current_revision: hash.header_revision,
                            hash: hash.hash,
                            compact_revision: hash.compact_revision,
                        });
                    }
                    Err(error) => {
                        tracing::warn!(
                            peer = %format_args!("{member_id:x}"), revision, %error, "failed to get a peer's hash"
                        );
                    }
                }
            }
            None
        });
    }
    let mut hashes: Vec<PeerHash> = asking.join_all().await.into_iter().flatten().collect();
    hashes.sort_by_key(|hash| hash.member_id);
    hashes
}
