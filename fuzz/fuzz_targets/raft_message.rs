//! Any bytes are a message or an error; a message survives every form unchanged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stanchion_raft::{ConfChangeV2, Entry, Message, Snapshot, WireForm};

fuzz_target!(|data: &[u8]| {
    let bytes = bytes::Bytes::copy_from_slice(data);
    if let Ok(m) = Message::decode(bytes.clone()) {
        for form in [WireForm::Etcd35, WireForm::Etcd36, WireForm::Etcd37] {
            let again = Message::decode(m.encode(form).into()).expect("own bytes");
            assert_eq!(again, m);
        }
    }
    if let Ok(e) = Entry::decode(bytes.clone()) {
        assert_eq!(Entry::decode(e.encode().into()).expect("own bytes"), e);
    }
    if let Ok(s) = Snapshot::decode(bytes.clone()) {
        assert_eq!(Snapshot::decode(s.encode().into()).expect("own bytes"), s);
    }
    if let Ok(c) = ConfChangeV2::decode(bytes) {
        assert_eq!(ConfChangeV2::decode(c.encode().into()).expect("own bytes"), c);
    }
});
