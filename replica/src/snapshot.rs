//! Snapshots: what a member's state at one entry is to raft, to other members and to the files of etcd.
//!
//! The state itself is the database's file; a snapshot names its place in the log and its membership. What lives here:
//! making that name from an image of the file. What may not: streaming, files, when one is made.

use stanchion_mvcc::{Error, ReadTxn, schema};
use stanchion_raft::{ConfState, Snapshot, SnapshotMetadata};

use crate::apply::stored_cluster;
use crate::membership::{Cluster, to_v2_json};

/// The snapshot that an image's file is: its applied entry, its members, and the data that releases up to 3.6 need.
///
/// The file alone counts, not what is applied in memory: [commit](stanchion_mvcc::Store::commit) first.
///
/// # Errors
/// The file's, or a record that cannot be read.
pub fn of_image(image: &ReadTxn) -> Result<Snapshot, Error> {
    let file = image.file();
    let applied = schema::applied(&file)?;
    let cluster = stored_cluster(&file)?;
    let version = schema::cluster_version(&file)?;
    Ok(Snapshot {
        data: to_v2_json(&cluster, version.as_deref()).into(),
        metadata: SnapshotMetadata {
            conf_state: conf_state(&cluster),
            index: applied.index,
            term: applied.term,
        },
    })
}

/// The members as raft counts them.
#[must_use]
pub fn conf_state(cluster: &Cluster) -> ConfState {
    let ids = |learners: bool| cluster.members().filter(move |m| m.is_learner == learners).map(|m| m.id);
    ConfState::new(&ids(false).collect::<Vec<_>>(), &ids(true).collect::<Vec<_>>())
}
