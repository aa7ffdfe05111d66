//! The simulated directory tree: names as they are now, names that are durable, and the changes between the two.
//!
//! A directory's changes reach the disk in order, as journaling file systems write them, but no promise ties one
//! directory to another or a name to its file's bytes. Invariant: applying a directory's `pending` changes, in order,
//! to `durable` gives `names`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use super::file::FileData;
use super::random::Random;

/// Index of a node in [`Tree::nodes`].
pub(super) type NodeId = usize;

pub(super) const ROOT: NodeId = 0;

#[derive(Clone, Debug)]
enum NameChange {
    Link { name: String, node: NodeId },
    Unlink { name: String },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    pub(super) names: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
    /// Changes with the number of the call that made them; a rename across directories has the same number in both.
    pending: Vec<(u64, NameChange)>,
}

impl Dir {
    fn apply(&mut self, call: u64, change: NameChange) {
        apply_to(&mut self.names, &change);
        self.pending.push((call, change));
    }
}

fn apply_to(names: &mut BTreeMap<String, NodeId>, change: &NameChange) {
    match change {
        NameChange::Link { name, node } => {
            names.insert(name.clone(), *node);
        }
        NameChange::Unlink { name } => {
            names.remove(name);
        }
    }
}

#[derive(Debug)]
pub(super) enum Content {
    File(FileData),
    Dir(Dir),
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) content: Content,
    pub(super) mode: u32,
    /// Open handles; an unlinked file lives on while there are any.
    pub(super) handles: usize,
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Option<Node>>,
    calls: u64,
}

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node { content: Content::Dir(Dir::default()), mode: 0o755, handles: 0 };
        Self { nodes: vec![Some(root)], calls: 0 }
    }

    pub(super) fn node(&self, id: NodeId) -> io::Result<&Node> {
        self.nodes.get(id).and_then(Option::as_ref).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn node_mut(&mut self, id: NodeId) -> io::Result<&mut Node> {
        self.nodes.get_mut(id).and_then(Option::as_mut).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn file(&mut self, id: NodeId) -> io::Result<&mut FileData> {
        match &mut self.node_mut(id)?.content {
            Content::File(file) => Ok(file),
            Content::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn dir(&mut self, id: NodeId) -> io::Result<&mut Dir> {
        match &mut self.node_mut(id)?.content {
            Content::Dir(dir) => Ok(dir),
            Content::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &FileData> {
        self.nodes.iter().flatten().filter_map(|node| match &node.content {
            Content::File(file) => Some(file),
            Content::Dir(_) => None,
        })
    }

    /// The node of a path.
    pub(super) fn find(&self, path: &Path) -> io::Result<NodeId> {
        names(path)?.into_iter().try_fold(ROOT, |id, name| match &self.node(id)?.content {
            Content::Dir(dir) => dir.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into()),
            Content::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        })
    }

    /// The directory that holds a path, and the name in it.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(NodeId, &'a str)> {
        let mut parts = names(path)?;
        let name = parts.pop().ok_or(io::ErrorKind::InvalidInput)?;
        let dir = self.find(&parts.iter().collect::<std::path::PathBuf>())?;
        match self.node(dir)?.content {
            Content::Dir(_) => Ok((dir, name)),
            Content::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Adds a new node under a name that is free.
    pub(super) fn create(
        &mut self,
        dir: NodeId,
        name: &str,
        content: Content,
        mode: u32,
    ) -> io::Result<NodeId> {
        let node = self.nodes.len();
        self.nodes.push(Some(Node { content, mode, handles: 0 }));
        self.calls += 1;
        let call = self.calls;
        self.dir(dir)?.apply(call, NameChange::Link { name: name.to_owned(), node });
        Ok(node)
    }

    pub(super) fn unlink(&mut self, dir: NodeId, name: &str) -> io::Result<()> {
        self.calls += 1;
        let call = self.calls;
        self.dir(dir)?.apply(call, NameChange::Unlink { name: name.to_owned() });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: (NodeId, &str), to: (NodeId, &str)) -> io::Result<()> {
        let node = *self.dir(from.0)?.names.get(from.1).ok_or(io::ErrorKind::NotFound)?;
        self.calls += 1;
        let call = self.calls;
        self.dir(to.0)?.apply(call, NameChange::Link { name: to.1.to_owned(), node });
        self.dir(from.0)?.apply(call, NameChange::Unlink { name: from.1.to_owned() });
        Ok(())
    }

    /// The directory's names become durable; so does the other half of a rename that reached into it.
    pub(super) fn sync_dir(&mut self, id: NodeId) -> io::Result<()> {
        let synced: Vec<u64> = self.dir(id)?.pending.iter().map(|(call, _)| *call).collect();
        for node in self.nodes.iter_mut().flatten() {
            let Content::Dir(dir) = &mut node.content else { continue };
            // In order: the changes of another directory up to the shared rename go with it.
            let upto = dir.pending.iter().rposition(|(call, _)| synced.binary_search(call).is_ok());
            for (_, change) in dir.pending.drain(..upto.map_or(0, |i| i + 1)) {
                apply_to(&mut dir.durable, &change);
            }
        }
        self.collect();
        Ok(())
    }

    /// Frees files that nothing refers to any more.
    fn collect(&mut self) {
        let mut used = vec![false; self.nodes.len()];
        used[ROOT] = true;
        for node in self.nodes.iter().flatten() {
            if let Content::Dir(dir) = &node.content {
                let pending = dir.pending.iter().filter_map(|(_, change)| match change {
                    NameChange::Link { node, .. } => Some(node),
                    NameChange::Unlink { .. } => None,
                });
                dir.names.values().chain(dir.durable.values()).chain(pending).for_each(|id| used[*id] = true);
            }
        }
        for (node, used) in self.nodes.iter_mut().zip(used) {
            if !used && node.as_ref().is_some_and(|node| node.handles == 0) {
                *node = None;
            }
        }
    }

    /// What is there after a power cut: of each directory's unsynced changes a prefix survives; files keep what
    /// [`FileData::survivor`] says.
    pub(super) fn survivor(&self, random: &mut Random) -> Self {
        let mut kept: Vec<usize> = vec![0; self.nodes.len()];
        for (id, node) in self.nodes.iter().enumerate() {
            if let Some(Node { content: Content::Dir(dir), .. }) = node {
                kept[id] = match random.below(4) {
                    0 => 0,
                    1 => dir.pending.len(),
                    _ => random.below(dir.pending.len() as u64 + 1) as usize,
                };
            }
        }
        self.keep_renames_whole(&mut kept);
        self.copy(|id, node| match &node.content {
            Content::File(file) => Content::File(file.survivor(random)),
            Content::Dir(dir) => {
                let mut names = dir.durable.clone();
                dir.pending[..kept[id]].iter().for_each(|(_, change)| apply_to(&mut names, change));
                Content::Dir(Dir { durable: names.clone(), names, pending: Vec::new() })
            }
        })
    }

    /// A rename across directories is atomic: where only one half would survive, the surviving prefix is cut before
    /// it. Cutting one can split another, so this repeats until nothing changes.
    fn keep_renames_whole(&self, kept: &mut [usize]) {
        loop {
            let mut halves: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
            let dirs = || {
                self.nodes.iter().enumerate().filter_map(|(id, node)| match &node.as_ref()?.content {
                    Content::Dir(dir) => Some((id, dir)),
                    Content::File(_) => None,
                })
            };
            for (id, dir) in dirs() {
                for (i, (call, _)) in dir.pending.iter().enumerate() {
                    let half = halves.entry(*call).or_default();
                    half.0 += 1;
                    half.1 += usize::from(i < kept[id]);
                }
            }
            let mut changed = false;
            for (id, dir) in dirs() {
                let split = dir.pending[..kept[id]].iter().position(|(call, _)| {
                    let (all, surviving) = halves[call];
                    surviving < all
                });
                if let Some(at) = split {
                    kept[id] = at;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    /// A copy of the running state.
    pub(super) fn fork(&self) -> io::Result<Self> {
        let mut failed = None;
        let tree = self.copy(|_, node| match &node.content {
            Content::Dir(dir) => Content::Dir(dir.clone()),
            Content::File(file) => Content::File(file.fork().unwrap_or_else(|e| {
                failed = Some(e);
                FileData::new()
            })),
        });
        failed.map_or(Ok(tree), Err)
    }

    fn copy(&self, mut content: impl FnMut(NodeId, &Node) -> Content) -> Self {
        let nodes = self
            .nodes
            .iter()
            .enumerate()
            .map(|(id, node)| {
                node.as_ref().map(|node| Node { content: content(id, node), mode: node.mode, handles: 0 })
            })
            .collect();
        let mut tree = Self { nodes, calls: self.calls };
        tree.collect();
        tree
    }
}

/// The names along a path; a leading `/` and `.` are the root.
fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}
