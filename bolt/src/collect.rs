//! All pages of a bucket as a write transaction sees it, with those of the buckets inside: what deleting it frees.

use crate::error::{Error, Result};
use crate::format::BUCKET_FLAG;
use crate::free_set::Run;
use crate::memory::Memory;
use crate::node::{NONE, NodeId};
use crate::tree::{Root, Tree, bucket_root};

/// Something still to be visited, with the opened bucket it belongs to.
enum Todo {
    Tree(usize),
    Page(u64, Option<usize>),
    Node(NodeId, usize),
}

/// The pages of opened bucket `tree`.
pub(crate) fn pages_of(memory: &Memory, trees: &[Tree], tree: usize) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let mut todo = vec![Todo::Tree(tree)];
    let mut budget = memory.snapshot.meta.high_water;
    while let Some(next) = todo.pop() {
        match next {
            Todo::Tree(index) => match (&trees[index], trees[index].root) {
                (tree, _) if tree.root_node != NONE => todo.push(Todo::Node(tree.root_node, index)),
                (_, Root::Page(id)) => todo.push(Todo::Page(id, Some(index))),
                (_, Root::Inline(_) | Root::New) => {}
            },
            Todo::Node(id, index) => {
                let node = trees[index].node(id);
                runs.extend(node.old);
                for inode in &node.inodes {
                    if !node.is_leaf {
                        todo.push(match inode.child {
                            NONE => Todo::Page(inode.value.position, Some(index)),
                            child => Todo::Node(child, index),
                        });
                    } else if inode.flags & BUCKET_FLAG != 0 {
                        let (name, value) = (memory.bytes(inode.key), memory.bytes(inode.value));
                        todo.extend(nested(trees, Some(index), name, value)?);
                    }
                }
            }
            Todo::Page(id, index) => {
                let page = memory.snapshot.page(id)?;
                budget = budget.checked_sub(page.pages()).ok_or_else(|| {
                    Error::corrupt(id, "more pages in a bucket than in the file (a cycle?)")
                })?;
                runs.push(Run { start: id, len: page.pages() });
                for i in 0..page.len() {
                    if !page.is_leaf() {
                        todo.push(Todo::Page(page.child(i), index));
                    } else if page.is_bucket(i) {
                        let element = page.leaf(i)?;
                        todo.extend(nested(trees, index, element.key, element.value)?);
                    }
                }
            }
        }
    }
    Ok(runs)
}

fn nested(trees: &[Tree], parent: Option<usize>, name: &[u8], value: &[u8]) -> Result<Option<Todo>> {
    if let Some(&opened) = parent.and_then(|index| trees[index].children.get(name)) {
        return Ok(Some(Todo::Tree(opened)));
    }
    let root = bucket_root(value)?.0;
    Ok((root != 0).then_some(Todo::Page(root, None)))
}
