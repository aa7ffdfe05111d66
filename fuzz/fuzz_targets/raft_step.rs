//! A node takes any sequence of decodable messages, mixed with its own events, and keeps its invariants.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stanchion_raft::{ConfChangeV2, ConfState, Config, Error, MemStorage, Message, RawNode};

fn work(node: &mut RawNode<MemStorage>) -> Result<(), Error> {
    let mut ready = node.ready()?;
    if let Some(s) = ready.snapshot.take() {
        node.storage_mut().apply_snapshot(*s)?;
    }
    node.storage_mut().append(&ready.entries)?;
    for e in &ready.committed_entries {
        if let Ok(Some(change)) = ConfChangeV2::from_entry(e) {
            let _impossible = node.apply_conf_change(change);
        }
    }
    node.advance(ready)
}

fuzz_target!(|ops: Vec<(u8, Vec<u8>)>| {
    let storage = MemStorage::with_conf_state(ConfState::new(&[1, 2, 3], &[]));
    let mut node = RawNode::new(&Config::new(1), storage).expect("settings are valid");
    let mut last = node.status().hard_state;
    for (kind, data) in ops {
        let small = u64::from(data.first().copied().unwrap_or(0));
        let _refused = match kind % 16 {
            0 => node.tick(),
            1 => node.campaign(),
            2 => node.propose(data),
            3 => node.read_index(data),
            4 => node.transfer_leader(small),
            5 => {
                node.report_snapshot(small, kind > 127);
                node.report_unreachable(small);
                Ok(())
            }
            6..=9 if node.has_ready() => work(&mut node),
            _ => match Message::decode(data.into()) {
                Ok(m) => node.step(m),
                Err(_) => Ok(()),
            },
        };
        let (now, status) = (node.status().hard_state, node.status());
        assert!(now.term >= last.term && now.commit >= last.commit);
        assert!(status.applied <= now.commit && now.commit <= status.last_index);
        last = now;
    }
});
