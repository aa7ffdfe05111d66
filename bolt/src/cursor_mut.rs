//! A cursor that deletes. It keeps a key, not a place: changes never leave it dangling.

use crate::error::Result;
use crate::write::BucketMut;

/// A position in a bucket open for change.
#[derive(Debug)]
pub struct CursorMut<'tx> {
    bucket: BucketMut<'tx>,
    /// The key it stands on, or stood on before that was deleted.
    key: Option<Vec<u8>>,
}

/// An owned entry: the value, or `None` where the key names a bucket.
pub type OwnedEntry = (Vec<u8>, Option<Vec<u8>>);

impl<'tx> CursorMut<'tx> {
    pub(crate) fn new(bucket: BucketMut<'tx>) -> Self {
        Self { bucket, key: None }
    }

    /// Moves to the first entry.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`], as all moves.
    pub fn first(&mut self) -> Result<Option<OwnedEntry>> {
        let found = self.bucket.cursor().first()?.map(owned);
        Ok(self.stand(found))
    }

    /// Moves to the last entry.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn last(&mut self) -> Result<Option<OwnedEntry>> {
        let found = self.bucket.cursor().last()?.map(owned);
        Ok(self.stand(found))
    }

    /// Moves to the first entry whose key is not below `key`.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<OwnedEntry>> {
        let found = self.bucket.cursor().seek(key)?.map(owned);
        Ok(self.stand(found))
    }

    /// Moves to the first entry behind where it stands.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    // Not an iterator, for the reasons of `Cursor::next`.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<OwnedEntry>> {
        let Some(key) = self.key.take() else { return self.first() };
        let mut cursor = self.bucket.cursor();
        let found = match cursor.seek(&key)? {
            Some((at, _)) if at == key => cursor.next()?,
            other => other,
        };
        let found = found.map(owned);
        Ok(self.stand(found))
    }

    /// Moves to the last entry before where it stands.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`].
    pub fn prev(&mut self) -> Result<Option<OwnedEntry>> {
        let Some(key) = self.key.take() else { return self.last() };
        let mut cursor = self.bucket.cursor();
        let found = match cursor.seek(&key)? {
            Some(_) => cursor.prev()?,
            None => cursor.last()?,
        };
        let found = found.map(owned);
        Ok(self.stand(found))
    }

    /// Deletes the entry it stands on; whether there was one. The cursor then stands in the gap.
    ///
    /// # Errors
    /// [`crate::Error::IncompatibleValue`] on a nested bucket, [`crate::Error::Corrupt`].
    pub fn delete(&mut self) -> Result<bool> {
        match &self.key {
            Some(key) => self.bucket.delete(key),
            None => Ok(false),
        }
    }

    fn stand(&mut self, found: Option<OwnedEntry>) -> Option<OwnedEntry> {
        self.key = found.as_ref().map(|(key, _)| key.clone());
        found
    }
}

fn owned((key, value): (&[u8], Option<&[u8]>)) -> OwnedEntry {
    (key.to_vec(), value.map(<[u8]>::to_vec))
}
