//! Real threads: readers beside a writer and a shrinking thread, as much as the machine gives them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use stanchion_bolt::{Db, Error, Options, ReadTx};

use crate::place;

const ROWS: u32 = if cfg!(miri) { 8 } else { 2000 };
const COMMITS: u32 = if cfg!(miri) { 3 } else { 150 };

/// All rows carry the number of the commit that wrote them.
fn read(tx: &ReadTx) -> u32 {
    let bucket = tx.bucket("b").unwrap().unwrap();
    let mut rounds = bucket.iter().map(|entry| {
        let value = entry.unwrap().1.unwrap();
        assert!(value.chunks(4).all(|part| part == &value[..4]));
        u32::from_le_bytes(value[..4].try_into().unwrap())
    });
    let round = rounds.next().unwrap();
    assert!(rounds.all(|r| r == round), "one transaction sees one state");
    round
}

#[test]
fn readers_on_many_threads_see_whole_commits() {
    let (_dir, disk, path) = place();
    let options = Options { no_sync: true, ..Options::default() };
    let db = Db::open(disk, path, options).unwrap();
    let write = |round: u32| {
        db.update::<_, Error>(|tx| {
            let mut bucket = tx.create_bucket_if_not_exists("b")?;
            // Values grow and shrink: pages are freed, the file grows, the map is made anew.
            let len = 4 * (1 + (round as usize * 37) % 100);
            (0..ROWS).try_for_each(|row| bucket.put(row.to_be_bytes(), round.to_le_bytes().repeat(len / 4)))
        })
        .unwrap();
    };
    write(0);
    let (over, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for hold in 0..4 {
            let (db, over, reads) = (&db, &over, &reads);
            scope.spawn(move || {
                let mut held: Vec<(ReadTx, u32)> = Vec::new();
                let mut last = 0;
                while !over.load(Ordering::Relaxed) {
                    let tx = db.begin_read().unwrap();
                    let round = read(&tx);
                    assert!(round >= last);
                    last = round;
                    held.push((tx, round));
                    if held.len() > 3 * hold {
                        let (tx, round) = held.remove(0);
                        assert_eq!(read(&tx), round, "a transaction sees the same state to its end");
                    }
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                db.shrink_step(64).unwrap();
            }
        });
        (1..=COMMITS).for_each(write);
        over.store(true, Ordering::Relaxed);
    });
    let tx = db.begin_read().unwrap();
    assert_eq!((read(&tx), tx.check()), (COMMITS, vec![]));
    assert!(reads.into_inner() > 0);
}
