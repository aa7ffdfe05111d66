//! Configuration changes as they travel in log entries. Their rules live in `crate::confchange`.

use bytes::Bytes;

use super::{DecodeError, Entry, EntryType};

/// What happens to one node (`raftpb.ConfChangeType`; thesis, 4.1, and 4.2.1 for learners).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConfChangeType {
    /// Add a voter, or promote a learner.
    #[default]
    AddNode = 0,
    /// Remove a voter or learner.
    RemoveNode = 1,
    /// Nothing changes for Raft; the application updates what it keeps about the node.
    UpdateNode = 2,
    /// Add a learner, or demote a voter.
    AddLearnerNode = 3,
}

/// How a joint configuration is used and left (`raftpb.ConfChangeTransition`; thesis, 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ConfChangeTransition {
    /// Simple change if one operation suffices, else joint and left automatically.
    #[default]
    Auto = 0,
    /// Joint, left automatically.
    JointImplicit = 1,
    /// Joint, left by an empty [`ConfChangeV2`] that the application proposes.
    JointExplicit = 2,
}

/// One operation on one node (`raftpb.ConfChangeSingle`; thesis, 4.1). Node 0 makes it a
/// no-op: the way in which an application cancels a committed change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConfChangeSingle {
    /// What to do.
    pub change_type: ConfChangeType,
    /// With whom.
    pub node_id: u64,
}

/// A change of one node (`raftpb.ConfChange`; thesis, 4.1), the only kind that etcd servers understand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChange {
    /// The application's number for it.
    pub id: u64,
    /// What to do.
    pub change_type: ConfChangeType,
    /// With whom.
    pub node_id: u64,
    /// The application's bytes.
    pub context: Bytes,
}

/// A change of any number of nodes (`raftpb.ConfChangeV2`; thesis, 4.3); an empty one leaves a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChangeV2 {
    /// How the joint configuration is used.
    pub transition: ConfChangeTransition,
    /// The operations, in order.
    pub changes: Vec<ConfChangeSingle>,
    /// The application's bytes.
    pub context: Bytes,
}

impl ConfChange {
    /// A change without number and context (thesis, 4.1).
    #[must_use]
    pub fn new(change_type: ConfChangeType, node_id: u64) -> Self {
        Self { change_type, node_id, ..Self::default() }
    }

    /// The entry that proposes it (thesis, 4.1).
    #[must_use]
    pub fn to_entry(&self) -> Entry {
        Entry { entry_type: EntryType::ConfChange, data: self.encode().into(), ..Entry::default() }
    }
}

impl From<ConfChange> for ConfChangeV2 {
    fn from(cc: ConfChange) -> Self {
        let single = ConfChangeSingle { change_type: cc.change_type, node_id: cc.node_id };
        Self { transition: ConfChangeTransition::Auto, changes: vec![single], context: cc.context }
    }
}

impl ConfChangeV2 {
    /// A change of `changes` under `transition` (thesis, 4.3).
    #[must_use]
    pub fn new(transition: ConfChangeTransition, changes: Vec<ConfChangeSingle>) -> Self {
        Self { transition, changes, context: Bytes::new() }
    }

    /// The change that an entry of either kind holds (thesis, 4.1 and 4.3). A normal entry holds none.
    ///
    /// # Errors
    /// The bytes are not an encoding of the entry's kind.
    pub fn from_entry(entry: &Entry) -> Result<Option<Self>, DecodeError> {
        match entry.entry_type {
            EntryType::Normal => Ok(None),
            EntryType::ConfChange => Ok(Some(ConfChange::decode(entry.data.clone())?.into())),
            EntryType::ConfChangeV2 => Ok(Some(Self::decode(entry.data.clone())?)),
        }
    }

    /// The entry that proposes it (thesis, 4.3).
    #[must_use]
    pub fn to_entry(&self) -> Entry {
        // The leave is proposed with no bytes at all: it then passes every size limit.
        let data = if *self == Self::default() { Bytes::new() } else { self.encode().into() };
        Entry { entry_type: EntryType::ConfChangeV2, data, ..Entry::default() }
    }

    /// `Some(auto_leave)` if applying it enters a joint configuration, `None` if the simple path does
    /// (C-old,new: thesis, 4.3).
    #[must_use]
    pub fn enter_joint(&self) -> Option<bool> {
        match self.transition {
            ConfChangeTransition::Auto if self.changes.len() <= 1 => None,
            ConfChangeTransition::Auto | ConfChangeTransition::JointImplicit => Some(true),
            ConfChangeTransition::JointExplicit => Some(false),
        }
    }

    /// True if applying it leaves a joint configuration (thesis, 4.3). The context does not matter.
    #[must_use]
    pub fn leave_joint(&self) -> bool {
        self.transition == ConfChangeTransition::Auto && self.changes.is_empty()
    }
}
