//! Write transactions: opening buckets for change and changing them. Committing is in [`crate::commit`].

use std::sync::Arc;

use crate::collect;
use crate::cursor::{Bucket, Cursor, Range};
use crate::cursor_mut::CursorMut;
use crate::db::{Shared, Writer};
use crate::error::{Error, Result};
use crate::format::{BUCKET_FLAG, MAX_KEY_SIZE, MAX_VALUE_SIZE};
use crate::free_set::Run;
use crate::memory::{Memory, Span};
use crate::tree::{Root, Tree, incompatible};

/// The write transaction. Dropping it without [`WriteTx::commit`] rolls it back.
///
/// What it hands out ends with the next change, at the latest with the commit; the compiler sees to that:
///
/// ```compile_fail,E0502
/// # use stanchion_bolt::{Db, Error, Options};
/// # let db = Db::open(std::sync::Arc::new(stanchion_disk::SimDisk::new(1)), "db", Options::default())?;
/// # db.update::<_, Error>(|tx| tx.create_bucket("b")?.put("k", "v"))?;
/// let mut tx = db.begin_write()?;
/// let value = tx.bucket("b")?.expect("a bucket").get(b"k")?;
/// tx.bucket_mut("b")?.put("k", "another")?;
/// assert_eq!(value, Some(&b"v"[..]));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct WriteTx {
    pub(crate) shared: Arc<Shared>,
    /// Given back when the transaction ends.
    pub(crate) writer: Option<Writer>,
    pub(crate) memory: Memory,
    /// Opened buckets; the first is the top level. Deleted ones stay, reachable from no other.
    pub(crate) trees: Vec<Tree>,
    /// Pages of the current commit that this one will no longer use.
    pub(crate) freed: Vec<Run>,
    /// The commit lowers the high-water mark over the free pages below it.
    pub(crate) trim: bool,
}

/// A bucket open for change. It borrows the transaction: one at a time.
#[derive(Debug)]
pub struct BucketMut<'tx> {
    tx: &'tx mut WriteTx,
    tree: usize,
}

impl WriteTx {
    pub(crate) fn begin(shared: Arc<Shared>, mut writer: Writer) -> Result<Self> {
        let ready = shared.current().and_then(|snapshot| {
            writer.freelist.release(&shared.readers())?;
            Ok(snapshot)
        });
        let snapshot = match ready {
            Ok(snapshot) => snapshot,
            Err(e) => {
                shared.give_back(writer);
                return Err(e);
            }
        };
        let (arena, spare) = (std::mem::take(&mut writer.arena), std::mem::take(&mut writer.spare));
        let root = Tree::new(Vec::new(), Root::Page(snapshot.meta.root), snapshot.meta.sequence);
        Ok(Self {
            shared,
            writer: Some(writer),
            memory: Memory { snapshot, arena, spare },
            trees: vec![root],
            freed: Vec::new(),
            trim: false,
        })
    }

    /// The id its commit will have.
    #[must_use]
    pub fn txid(&self) -> u64 {
        self.memory.snapshot.meta.txid + 1
    }

    /// Bytes of the database before this transaction's changes: high-water mark times page size.
    #[must_use]
    pub fn size(&self) -> u64 {
        let meta = &self.memory.snapshot.meta;
        meta.high_water * u64::from(meta.page_size)
    }

    /// The top level, read-only.
    #[must_use]
    pub fn root(&self) -> Bucket<'_> {
        Bucket::opened(&self.memory, &self.trees, &self.trees[0])
    }

    /// A top-level bucket, read-only; shows this transaction's changes.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn bucket(&self, name: impl AsRef<[u8]>) -> Result<Option<Bucket<'_>>> {
        self.root().bucket(name.as_ref())
    }

    /// The top-level buckets, in order.
    #[must_use]
    pub fn buckets(&self) -> Range<'_> {
        self.root().iter()
    }

    /// The top level, for change. It holds buckets only: `put` there makes a file that other programs misread.
    pub(crate) fn root_mut(&mut self) -> BucketMut<'_> {
        BucketMut { tx: self, tree: 0 }
    }

    /// A top-level bucket, for change.
    ///
    /// # Errors
    /// [`Error::BucketNotFound`], [`Error::Corrupt`].
    pub fn bucket_mut(&mut self, name: impl AsRef<[u8]>) -> Result<BucketMut<'_>> {
        self.root_mut().into_bucket(name.as_ref())
    }

    /// Creates a top-level bucket.
    ///
    /// # Errors
    /// [`Error::BucketExists`], [`Error::BucketNameEmpty`], [`Error::KeyTooLarge`], [`Error::Corrupt`].
    pub fn create_bucket(&mut self, name: impl AsRef<[u8]>) -> Result<BucketMut<'_>> {
        self.root_mut().into_new_bucket(name.as_ref())
    }

    /// A top-level bucket, created if it is missing.
    ///
    /// # Errors
    /// As [`Self::create_bucket`], without "exists".
    pub fn create_bucket_if_not_exists(&mut self, name: impl AsRef<[u8]>) -> Result<BucketMut<'_>> {
        match self.open_tree(0, name.as_ref())? {
            Some(tree) => Ok(BucketMut { tx: self, tree }),
            None => self.create_bucket(name),
        }
    }

    /// Deletes a top-level bucket with all in it.
    ///
    /// # Errors
    /// [`Error::BucketNotFound`], [`Error::Corrupt`].
    pub fn delete_bucket(&mut self, name: impl AsRef<[u8]>) -> Result<()> {
        self.root_mut().delete_bucket(name)
    }

    /// Moves bucket `name` from the bucket at path `from` into the one at path `to` (empty: the top level).
    ///
    /// # Errors
    /// [`Error::BucketNotFound`], [`Error::BucketExists`], [`Error::SameBucket`], [`Error::IncompatibleValue`] (also
    /// when the target is the moved bucket or lies inside it), [`Error::Corrupt`].
    pub fn move_bucket(&mut self, name: &[u8], from: &[&[u8]], to: &[&[u8]]) -> Result<()> {
        if from == to {
            return Err(Error::SameBucket { name: name.to_vec() });
        }
        if to.len() > from.len() && to.starts_with(from) && to[from.len()] == name {
            return Err(Error::IncompatibleValue {
                name: name.to_vec(),
                found: "a bucket around the target",
                expected: "a bucket outside of it",
            });
        }
        let source = self.open_path(from)?;
        let target = self.open_path(to)?;
        let moved =
            self.open_tree(source, name)?.ok_or_else(|| Error::BucketNotFound { name: name.to_vec() })?;
        self.check_vacant(target, name)?;
        self.trees[source].remove(&mut self.memory, name, BUCKET_FLAG)?;
        self.trees[source].children.remove(name);
        // The value written at commit replaces the placeholder: the moved tree counts as changed.
        self.trees[target].put(&mut self.memory, name, &[0; 16], BUCKET_FLAG)?;
        self.trees[target].children.insert(name.to_vec(), moved);
        self.trees[moved].dirty = true;
        Ok(())
    }

    fn open_path(&mut self, path: &[&[u8]]) -> Result<usize> {
        let mut tree = 0;
        for name in path {
            tree =
                self.open_tree(tree, name)?.ok_or_else(|| Error::BucketNotFound { name: name.to_vec() })?;
        }
        Ok(tree)
    }

    /// Opens a bucket in the bucket `parent`.
    pub(crate) fn open_tree(&mut self, parent: usize, name: &[u8]) -> Result<Option<usize>> {
        if let Some(&tree) = self.trees[parent].children.get(name) {
            return Ok(Some(tree));
        }
        let Some((flags, value)) = self.element(parent, name)? else { return Ok(None) };
        if flags & BUCKET_FLAG == 0 {
            return Err(incompatible(name, flags));
        }
        let tree = Tree::stored(name.to_vec(), value, &self.memory)?;
        Ok(Some(self.adopt(parent, tree)))
    }

    fn element(&self, tree: usize, key: &[u8]) -> Result<Option<(u32, Span)>> {
        Bucket::opened(&self.memory, &self.trees, &self.trees[tree]).element(key)
    }

    fn check_vacant(&self, parent: usize, name: &[u8]) -> Result<()> {
        match self.element(parent, name)? {
            None => Ok(()),
            Some((flags, _)) if flags & BUCKET_FLAG != 0 => Err(Error::BucketExists { name: name.to_vec() }),
            Some((flags, _)) => Err(incompatible(name, flags)),
        }
    }

    fn adopt(&mut self, parent: usize, tree: Tree) -> usize {
        let index = self.trees.len();
        self.trees[parent].children.insert(tree.name.clone(), index);
        self.trees.push(tree);
        index
    }

    /// Undoes everything; the same as dropping it.
    pub fn rollback(self) {}
}

impl Drop for WriteTx {
    fn drop(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            writer.arena = std::mem::take(&mut self.memory.arena);
            writer.arena.clear();
            writer.spare = std::mem::take(&mut self.memory.spare);
            self.shared.give_back(writer);
        }
    }
}

impl<'tx> BucketMut<'tx> {
    /// The value of a key; `None` if there is none or it names a bucket.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<&[u8]>> {
        self.as_bucket().get(key.as_ref())
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error::KeyEmpty`], [`Error::KeyTooLarge`], [`Error::ValueTooLarge`], [`Error::IncompatibleValue`] where the
    /// key names a bucket, [`Error::Corrupt`].
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        if key.is_empty() {
            return Err(Error::KeyEmpty);
        }
        if key.len() > MAX_KEY_SIZE {
            return Err(Error::KeyTooLarge { len: key.len() });
        }
        if value.len() > MAX_VALUE_SIZE {
            return Err(Error::ValueTooLarge { len: value.len() });
        }
        self.tx.trees[self.tree].put(&mut self.tx.memory, key, value, 0)
    }

    /// Removes a key; whether it was there.
    ///
    /// # Errors
    /// [`Error::IncompatibleValue`] where the key names a bucket, [`Error::Corrupt`].
    pub fn delete(&mut self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.tx.trees[self.tree].remove(&mut self.tx.memory, key.as_ref(), 0)
    }

    /// A nested bucket, read-only.
    ///
    /// # Errors
    /// [`Error::IncompatibleValue`] where the name is that of a value, [`Error::Corrupt`].
    pub fn bucket(&self, name: impl AsRef<[u8]>) -> Result<Option<Bucket<'_>>> {
        self.as_bucket().bucket(name.as_ref())
    }

    /// A nested bucket, for change.
    ///
    /// # Errors
    /// [`Error::BucketNotFound`], [`Error::IncompatibleValue`] where the name is that of a value,
    /// [`Error::Corrupt`].
    pub fn bucket_mut(&mut self, name: impl AsRef<[u8]>) -> Result<BucketMut<'_>> {
        self.reborrow().into_bucket(name.as_ref())
    }

    /// Creates a nested bucket.
    ///
    /// # Errors
    /// [`Error::BucketExists`], [`Error::BucketNameEmpty`], [`Error::KeyTooLarge`], [`Error::IncompatibleValue`]
    /// where the name is that of a value, [`Error::Corrupt`].
    pub fn create_bucket(&mut self, name: impl AsRef<[u8]>) -> Result<BucketMut<'_>> {
        self.reborrow().into_new_bucket(name.as_ref())
    }

    /// A nested bucket, created if it is missing.
    ///
    /// # Errors
    /// As [`Self::create_bucket`], without "exists".
    pub fn create_bucket_if_not_exists(&mut self, name: impl AsRef<[u8]>) -> Result<BucketMut<'_>> {
        match self.tx.open_tree(self.tree, name.as_ref())? {
            Some(tree) => Ok(BucketMut { tx: self.tx, tree }),
            None => self.create_bucket(name),
        }
    }

    /// Deletes a nested bucket with all in it.
    ///
    /// # Errors
    /// [`Error::BucketNotFound`], [`Error::IncompatibleValue`] where the name is that of a value,
    /// [`Error::Corrupt`].
    pub fn delete_bucket(&mut self, name: impl AsRef<[u8]>) -> Result<()> {
        let name = name.as_ref();
        let tx = &mut *self.tx;
        let tree =
            tx.open_tree(self.tree, name)?.ok_or_else(|| Error::BucketNotFound { name: name.to_vec() })?;
        let pages = collect::pages_of(&tx.memory, &tx.trees, tree)?;
        tx.trees[self.tree].remove(&mut tx.memory, name, BUCKET_FLAG)?;
        tx.trees[self.tree].children.remove(name);
        tx.freed.extend(pages);
        Ok(())
    }

    /// Its sequence number.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.tx.trees[self.tree].sequence
    }

    /// Sets the sequence number.
    pub fn set_sequence(&mut self, sequence: u64) {
        let tree = &mut self.tx.trees[self.tree];
        tree.sequence = sequence;
        tree.dirty = true;
    }

    /// Raises the sequence number by one and returns it.
    pub fn next_sequence(&mut self) -> u64 {
        self.set_sequence(self.sequence() + 1);
        self.sequence()
    }

    /// How full pages are made when they are split in this transaction: 0.1 to 1.0, 0.5 unless set. Higher suits
    /// rising keys.
    pub fn set_fill_percent(&mut self, fill: f64) {
        self.tx.trees[self.tree].fill_percent = fill;
    }

    /// The same bucket, read-only.
    #[must_use]
    pub fn as_bucket(&self) -> Bucket<'_> {
        Bucket::opened(&self.tx.memory, &self.tx.trees, &self.tx.trees[self.tree])
    }

    /// A reading cursor.
    #[must_use]
    pub fn cursor(&self) -> Cursor<'_> {
        self.as_bucket().cursor()
    }

    /// A cursor that can delete where it stands.
    #[must_use]
    pub fn cursor_mut(&mut self) -> CursorMut<'_> {
        CursorMut::new(self.reborrow())
    }

    fn reborrow(&mut self) -> BucketMut<'_> {
        BucketMut { tx: self.tx, tree: self.tree }
    }

    pub(crate) fn into_bucket(self, name: &[u8]) -> Result<BucketMut<'tx>> {
        match self.tx.open_tree(self.tree, name)? {
            Some(tree) => Ok(BucketMut { tx: self.tx, tree }),
            None => Err(Error::BucketNotFound { name: name.to_vec() }),
        }
    }

    fn into_new_bucket(self, name: &[u8]) -> Result<BucketMut<'tx>> {
        if name.is_empty() {
            return Err(Error::BucketNameEmpty);
        }
        if name.len() > MAX_KEY_SIZE {
            return Err(Error::KeyTooLarge { len: name.len() });
        }
        let tx = self.tx;
        tx.check_vacant(self.tree, name)?;
        // A placeholder, replaced by the bucket's header when the transaction commits.
        tx.trees[self.tree].put(&mut tx.memory, name, &[0; 16], BUCKET_FLAG)?;
        let tree = tx.adopt(self.tree, Tree::new(name.to_vec(), Root::New, 0));
        Ok(BucketMut { tx, tree })
    }
}
