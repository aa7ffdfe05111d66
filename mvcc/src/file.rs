//! The file under the store. For now it is kept in memory, by path: the bbolt file takes this place behind the same
//! functions once `bolt` has a public API.
use crate::schema::Table;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

/// An error of the file.
#[derive(Debug, thiserror::Error)]
#[error("file")]
pub struct FileError;

/// Key and value.
pub(crate) type Record<'a> = (&'a [u8], &'a [u8]);
type Data = BTreeMap<(Table, Vec<u8>), Vec<u8>>;
#[derive(Debug, Default)]
pub(crate) struct File(Arc<Mutex<Arc<Data>>>);
static ALL: Mutex<BTreeMap<std::path::PathBuf, Arc<Mutex<Arc<Data>>>>> = Mutex::new(BTreeMap::new());
#[derive(Debug)]
pub(crate) struct Image(Arc<Data>);
pub(crate) struct FileTxn<'a>(&'a File, Arc<Data>);

#[derive(Clone, Copy, Debug)]
pub(crate) struct FileOptions {
    pub(crate) read_only: bool,
    pub(crate) initial_map_size: u64,
    pub(crate) sync: bool,
}
impl File {
    pub(crate) fn open(
        _disk: Arc<dyn stanchion_disk::Disk>,
        _path: &std::path::Path,
        o: &FileOptions,
    ) -> Result<Self, FileError> {
        let _ = (o.read_only, o.initial_map_size, o.sync);
        Ok(Self(ALL.lock().entry(_path.to_path_buf()).or_default().clone()))
    }
    pub(crate) fn image(&self) -> Result<Image, FileError> {
        Ok(Image(self.0.lock().clone()))
    }
    pub(crate) fn write(&self) -> Result<FileTxn<'_>, FileError> {
        Ok(FileTxn(self, self.0.lock().clone()))
    }
    pub(crate) fn size(&self) -> u64 {
        0
    }
    pub(crate) fn size_in_use(&self) -> u64 {
        0
    }
}
impl Image {
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<&[u8]> {
        self.0.get(&(table, key.to_vec())).map(|v| &v[..])
    }
    pub(crate) fn buckets(&self) -> Result<Vec<Vec<u8>>, FileError> {
        Ok(Table::ALL.iter().map(|t| t.name().as_bytes().to_vec()).collect())
    }
    pub(crate) fn scan_bucket<'a>(
        &'a self,
        bucket: &[u8],
        from: &[u8],
        visit: impl FnMut(&'a [u8], &'a [u8]) -> ControlFlow<()>,
    ) -> Result<(), FileError> {
        self.scan(Table::ALL.into_iter().find(|t| t.name().as_bytes() == bucket).unwrap(), from, visit)
    }
    pub(crate) fn first_from(&self, table: Table, from: &[u8]) -> Result<Option<Record<'_>>, FileError> {
        let mut r = None;
        self.scan(table, from, |k, v| {
            r = Some((k, v));
            ControlFlow::Break(())
        })?;
        Ok(r)
    }
    pub(crate) fn last(&self, table: Table) -> Result<Option<Record<'_>>, FileError> {
        let mut r = None;
        self.scan(table, b"", |k, v| {
            r = Some((k, v));
            ControlFlow::Continue(())
        })?;
        Ok(r)
    }
    pub(crate) fn scan<'a>(
        &'a self,
        table: Table,
        from: &[u8],
        mut visit: impl FnMut(&'a [u8], &'a [u8]) -> ControlFlow<()>,
    ) -> Result<(), FileError> {
        for ((t, k), v) in self.0.range((table, from.to_vec())..) {
            if *t != table || visit(k, v).is_break() {
                break;
            }
        }
        Ok(())
    }
}
impl FileTxn<'_> {
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), FileError> {
        Arc::make_mut(&mut self.1).insert((table, key.to_vec()), value.to_vec());
        Ok(())
    }
    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), FileError> {
        Arc::make_mut(&mut self.1).remove(&(table, key.to_vec()));
        Ok(())
    }
    pub(crate) fn commit(self) -> Result<(), FileError> {
        *self.0.0.lock() = self.1;
        Ok(())
    }
}
