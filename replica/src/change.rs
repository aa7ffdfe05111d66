//! What a committed membership change means for the list of members.
//!
//! Joint changes (`ConfChangeV2`) are never proposed by etcd and are not known here.

use stanchion_raft::{ConfChange, ConfChangeType};

use crate::membership::{Change, ChangeContext};

/// Why a membership entry says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("membership change of node {node_id:x}: {what}")]
pub struct MeaningError {
    /// The node that raft is told of.
    pub node_id: u64,
    /// What is wrong.
    pub what: String,
}

/// What a change means for the list of members.
///
/// # Errors
/// [`MeaningError`] if the context cannot be read or names another node.
pub fn meaning(change: &ConfChange) -> Result<Change, MeaningError> {
    let node_id = change.node_id;
    if change.change_type == ConfChangeType::RemoveNode {
        return Ok(Change::Remove(node_id));
    }
    let wrong = |what: String| MeaningError { node_id, what };
    let context = ChangeContext::from_json(&change.context).map_err(wrong)?;
    if context.member.id != node_id {
        return Err(wrong(format!("its context is of member {:x}", context.member.id)));
    }
    Ok(Change::from_context(context, change.change_type == ConfChangeType::UpdateNode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Member;

    #[test]
    fn means_what_it_says() {
        let member = Member { id: 7, peer_urls: vec!["http://a:1".into()], ..Member::default() };
        let context = ChangeContext { member: member.clone(), is_promote: false }.to_json().into();
        let add = ConfChange { context, ..ConfChange::new(ConfChangeType::AddNode, 7) };
        assert_eq!(meaning(&add), Ok(Change::Add(member)));
        assert_eq!(meaning(&ConfChange::new(ConfChangeType::RemoveNode, 7)), Ok(Change::Remove(7)));
        assert!(meaning(&ConfChange { node_id: 8, ..add }).is_err());
        assert!(meaning(&ConfChange::new(ConfChangeType::AddNode, 7)).is_err());
    }
}
