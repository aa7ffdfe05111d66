//! A store on a disk, for tests.

use std::path::Path;
use std::sync::Arc;

use stanchion_disk::{Disk, SimDisk};
use stanchion_mvcc::{Error, Event, Recovered, Store, StoreOptions};

use crate::model::{Model, ModelEvent, Pair};

/// Number of random cases: more with `STANCHION_SOAK` set to a factor.
pub(crate) fn cases(usual: u32) -> u32 {
    let factor = std::env::var("STANCHION_SOAK").ok().and_then(|text| text.parse::<u32>().ok());
    usual * factor.unwrap_or(1)
}

/// A store and the disk that holds its file.
pub(crate) struct World {
    store: Option<Store>,
    disk: SimDisk,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut world = Self { store: None, disk: SimDisk::new(1) };
        let recovered = world.open();
        assert_eq!((recovered.revision, recovered.compact_revision, recovered.keys), (1, -1, 0));
        world
    }

    pub(crate) fn store(&self) -> &Store {
        self.store.as_ref().expect("the store is open")
    }

    fn open(&mut self) -> Recovered {
        self.try_open().expect("the store opens")
    }

    fn try_open(&mut self) -> Result<Recovered, Error> {
        // Durability is the crash tests' business; here only contents count.
        let options = StoreOptions { restore_threads: 3, sync: false, ..StoreOptions::default() };
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let (store, recovered) = Store::open(disk, Path::new("db"), &options)?;
        self.store = Some(store);
        Ok(recovered)
    }

    /// Commits, closes and opens again.
    pub(crate) fn restart(&mut self) -> Recovered {
        self.try_restart().expect("the store opens again")
    }

    /// As [`restart`](Self::restart), when opening may fail.
    pub(crate) fn try_restart(&mut self) -> Result<Recovered, Error> {
        self.store().commit().expect("a commit");
        self.store = None;
        self.try_open()
    }

    /// Commits, closes and opens again, and checks what the start found.
    pub(crate) fn reopen(&mut self, model: &Model) {
        let recovered = self.restart();
        assert_eq!((recovered.revision, recovered.compact_revision), (model.revision(), model.compacted));
        let state = model.state(model.revision());
        assert_eq!(recovered.keys, state.len() as u64);
        let found: Vec<_> =
            recovered.lease_keys.iter().map(|found| (found.key.to_vec(), found.lease)).collect();
        let attached: Vec<_> = state
            .values()
            .filter(|pair| pair.lease != 0)
            .map(|pair| (pair.key.clone(), pair.lease))
            .collect();
        assert_eq!(found, attached);
    }
}

pub(crate) fn model_event(event: &Event) -> ModelEvent {
    let pair = Pair::decode(&event.kv);
    assert_eq!(event.key, pair.key);
    assert_eq!(event.created, !event.delete && pair.version == 1);
    assert_eq!(event.lease, pair.lease);
    ModelEvent { main: event.revision.main, sub: event.revision.sub, delete: event.delete, pair }
}
