//! Readers beside a writer and a shrinking thread, in schedules that shuttle chooses: each switch of threads at a
//! lock of the shared state, or between two reads of a page.
//!
//! `cargo test -p stanchion-bolt --features shuttle --test schedules`

use std::sync::Arc;

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};
use stanchion_bolt::{Db, Error, Options, ReadTx};
use stanchion_disk::SimDisk;

const ROWS: u8 = 40;

fn open() -> Db {
    let options = Options { page_size: 1024, no_sync: true, ..Options::default() };
    Db::open(Arc::new(SimDisk::new(1)), "db", options).unwrap()
}

/// Gives every row the value `round`, so that a reader which sees two rounds at once sees a page too new.
fn write(db: &Db, round: u8) {
    db.update::<_, Error>(|tx| {
        let mut bucket = tx.create_bucket_if_not_exists("b")?;
        (0..ROWS).try_for_each(|row| bucket.put([row], [round; 100]))?;
        // Long values come and go: the file grows, and there is something to shrink.
        if round.is_multiple_of(2) {
            bucket.put("long", [round; 70_000])
        } else {
            bucket.delete("long").map(drop)
        }
    })
    .unwrap();
}

/// Reads all rows with a switch of threads after each; they must be of one round, and stay so.
fn read(tx: &ReadTx) -> u8 {
    let bucket = tx.bucket("b").unwrap().unwrap();
    let round = bucket.get(&[0]).unwrap().unwrap()[0];
    for row in (0..ROWS).step_by(5) {
        thread::yield_now();
        assert_eq!(bucket.get(&[row]).unwrap(), Some(&[round; 100][..]), "row {row}");
    }
    assert_eq!(tx.check(), []);
    round
}

fn readers_writer_and_shrinking() {
    let db = open();
    write(&db, 0);
    let readers = (0..2).map(|_| {
        let db = db.clone();
        thread::spawn(move || {
            let mut last = 0;
            for _ in 0..3 {
                let tx = db.begin_read().unwrap();
                let round = read(&tx);
                assert!(round >= last, "a later transaction sees an older state");
                last = round;
                let moved = db.begin_read().unwrap();
                drop(tx);
                assert!(read(&moved) >= last);
            }
        })
    });
    let mut threads: Vec<_> = readers.collect();
    let writer = db.clone();
    threads.push(thread::spawn(move || (1..6).for_each(|round| write(&writer, round))));
    let shrinker = db.clone();
    threads.push(thread::spawn(move || {
        for _ in 0..4 {
            shrinker.shrink_step(8).unwrap();
        }
    }));
    for thread in threads {
        thread.join().unwrap();
    }
    let stats = db.stats();
    assert_eq!((stats.open_readers, read(&db.begin_read().unwrap())), (0, 5));
}

fn run(scheduler: impl Scheduler + 'static) {
    let mut config = Config::new();
    // Shuttle's threads have small stacks of their own; a commit needs more.
    config.stack_size = 1 << 20;
    Runner::new(scheduler, config).run(readers_writer_and_shrinking);
}

#[test]
fn random_schedules() {
    run(RandomScheduler::new(2000));
}

#[test]
fn schedules_with_few_switches() {
    run(PctScheduler::new(3, 2000));
}
