//! Moving buckets, copies of the database, statistics, page lists, and the inspection command.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use stanchion_bolt::{Db, Error, Options, PageKind, Result};
use stanchion_disk::{Disk as _, OpenOptions, RealDisk, SimDisk};

fn db() -> (SimDisk, Db) {
    let disk = SimDisk::new(1);
    let db = Db::open(Arc::new(disk.clone()), "db", Options::default()).unwrap();
    (disk, db)
}

/// `outer/inner` with 200 rows, `outer/small` inline, `flat` with 3 rows and sequence 9.
fn fill(db: &Db) {
    db.update::<_, Error>(|tx| {
        let mut outer = tx.create_bucket("outer")?;
        let mut inner = outer.create_bucket("inner")?;
        (0..200_u32).try_for_each(|i| inner.put(i.to_be_bytes(), [1; 100]))?;
        outer.create_bucket("small")?.put("k", "v")?;
        let mut flat = tx.create_bucket("flat")?;
        flat.set_sequence(9);
        (0..3_u32).try_for_each(|i| flat.put(i.to_be_bytes(), [2; 6000]))
    })
    .unwrap();
}

#[test]
fn a_bucket_moves_with_all_in_it() {
    let (_, db) = db();
    fill(&db);
    let mut tx = db.begin_write().unwrap();
    tx.move_bucket(b"inner", &[b"outer"], &[]).unwrap();
    tx.bucket_mut("inner").unwrap().put("new", "row").unwrap();
    tx.move_bucket(b"flat", &[], &[b"outer", b"small"]).unwrap();
    tx.commit().unwrap();
    let tx = db.begin_read().unwrap();
    assert_eq!(tx.check(), []);
    let inner = tx.bucket("inner").unwrap().unwrap();
    assert_eq!((inner.iter().count(), inner.get(b"new").unwrap()), (201, Some(&b"row"[..])));
    let outer = tx.bucket("outer").unwrap().unwrap();
    assert!(outer.bucket(b"inner").unwrap().is_none() && tx.bucket("flat").unwrap().is_none());
    let flat = outer.bucket(b"small").unwrap().unwrap().bucket(b"flat").unwrap().unwrap();
    assert_eq!((flat.sequence(), flat.iter().count()), (9, 3));
}

#[test]
fn a_bucket_cannot_move_to_where_it_is_into_itself_or_over_another() {
    let (_, db) = db();
    fill(&db);
    let mut tx = db.begin_write().unwrap();
    let mut refused = |name: &[u8], from: &[&[u8]], to: &[&[u8]], message: &str| {
        assert_eq!(tx.move_bucket(name, from, to).unwrap_err().to_string(), message);
    };
    refused(b"flat", &[], &[], r#"bucket "flat" is moved to where it is"#);
    refused(b"none", &[], &[b"outer"], r#"bucket "none" not found"#);
    refused(b"flat", &[], &[b"none"], r#"bucket "none" not found"#);
    let around = r#""outer" is a bucket around the target, not a bucket outside of it"#;
    refused(b"outer", &[], &[b"outer"], around);
    refused(b"outer", &[], &[b"outer", b"inner"], around);
    tx.bucket_mut("outer").unwrap().create_bucket("flat").unwrap();
    let exists = tx.move_bucket(b"flat", &[], &[b"outer"]).unwrap_err().to_string();
    assert_eq!(exists, r#"bucket "flat" exists"#);
    tx.bucket_mut("outer").unwrap().put("value", "v").unwrap();
    let value = tx.move_bucket(b"value", &[b"outer"], &[]).unwrap_err().to_string();
    assert_eq!(value, r#""value" is a value, not a bucket"#);
    tx.commit().unwrap();
    assert_eq!(db.begin_read().unwrap().check(), []);
}

#[test]
fn a_backup_is_the_transaction_it_was_taken_from() {
    let (disk, db) = db();
    fill(&db);
    let tx = db.begin_read().unwrap();
    // Whatever is written meanwhile, pages included that the backup has not come to.
    db.update::<_, Error>(|tx| tx.delete_bucket("outer")).unwrap();
    db.update::<_, Error>(|tx| tx.create_bucket("later")?.put("k", [3; 20_000])).unwrap();
    let mut image = Vec::new();
    assert_eq!(tx.write_to(&mut image).unwrap(), tx.size());
    assert_eq!(image.len() as u64, tx.size());
    disk.open(Path::new("copy"), OpenOptions::create()).unwrap().write_all_at(&image, 0).unwrap();
    let copy = Db::open(Arc::new(disk), "copy", Options::default()).unwrap();
    let copied = copy.begin_read().unwrap();
    assert_eq!((copied.txid(), copied.check()), (tx.txid(), vec![]));
    assert_eq!(copied.bucket_stats().unwrap(), tx.bucket_stats().unwrap());
    assert!(copied.bucket("later").unwrap().is_none());
    copy.update::<_, Error>(|tx| tx.delete_bucket("outer")).unwrap();
}

#[test]
fn a_copy_that_cannot_be_written_says_so() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (_, db) = db();
    fill(&db);
    let text = db.begin_read().unwrap().write_to(&mut Full).unwrap_err().to_string();
    assert_eq!(text, "writing a copy: no storage space");
}

#[test]
fn a_compacted_copy_has_the_same_contents_and_no_free_pages() {
    let (disk, db) = db();
    fill(&db);
    for i in 0..200_u32 {
        db.update::<_, Error>(|tx| {
            tx.bucket_mut("outer")?.bucket_mut("inner")?.put(i.to_be_bytes(), [4; 90])
        })
        .unwrap();
    }
    let tx = db.begin_read().unwrap();
    for (path, limit) in [("whole", 0), ("parts", 2000)] {
        let copy = tx.compact_to(Arc::new(disk.clone()), path, Options::default(), limit).unwrap();
        let copied = copy.begin_read().unwrap();
        assert_eq!(copied.check(), []);
        let (ours, theirs) = (tx.bucket_stats().unwrap(), copied.bucket_stats().unwrap());
        assert_eq!(
            (ours.keys, ours.data_bytes, ours.buckets),
            (theirs.keys, theirs.data_bytes, theirs.buckets)
        );
        assert_eq!(copied.bucket("flat").unwrap().unwrap().sequence(), 9);
        assert!(copied.size() <= tx.size());
    }
    let text = tx.compact_to(Arc::new(disk), "whole", Options::default(), 0).unwrap_err().to_string();
    assert_eq!(text, r#"create "whole": entity already exists"#);
}

#[test]
fn statistics_and_pages_count_what_is_there() {
    let (_, db) = db();
    fill(&db);
    let tx = db.begin_read().unwrap();
    let stats = tx.bucket_stats().unwrap();
    // The top level counts as a bucket.
    assert_eq!((stats.buckets, stats.inline_buckets, stats.keys), (5, 1, 204));
    assert_eq!(stats.data_bytes, 200 * 104 + 2 + 3 * 6004);
    let pages = tx.pages().unwrap();
    let count = |kind| pages.iter().filter(|p| p.kind == kind).count() as u64;
    assert_eq!((count(PageKind::Meta), count(PageKind::Leaf)), (2, stats.leaf_pages));
    assert_eq!((count(PageKind::Branch), count(PageKind::Freelist)), (stats.branch_pages, 0));
    let all: u64 = pages.iter().map(|p| 1 + p.overflow).sum();
    assert_eq!(all, db.stats().pages);
    assert!(pages.windows(2).all(|w| w[0].id + w[0].overflow + 1 == w[1].id));
    let free = db.stats().free_pages + db.stats().pending_pages;
    assert_eq!(count(PageKind::Free), free);
    let stats = db.stats();
    assert_eq!((stats.page_size, stats.txid, stats.open_readers), (4096, 2, 1));
    assert_eq!(stats.oldest_reader, Some(2));
}

#[test]
fn the_map_is_as_long_as_asked_for_and_grows_under_readers() {
    let disk = Arc::new(SimDisk::new(1));
    let open = |initial_map_size| {
        Db::open(disk.clone(), "db", Options { initial_map_size, ..Options::default() }).unwrap()
    };
    let db = open(0);
    fill(&db);
    let small = db.stats().map_size;
    let reader = db.begin_read().unwrap();
    let flat = reader.bucket("flat").unwrap().unwrap();
    let value = flat.get(&0_u32.to_be_bytes()).unwrap().unwrap();
    // Nine pages more than the map has room for.
    let large = vec![5; small as usize + 9 * 4096];
    db.update::<_, Error>(|tx| tx.bucket_mut("flat")?.put("large", &large)).unwrap();
    assert!(db.stats().map_size >= 2 * small, "a new map for a longer file");
    assert_eq!(value, [2; 6000], "a slice of the old map");
    assert_eq!((reader.check(), db.begin_read().unwrap().check()), (vec![], vec![]));
    drop((reader, db));
    let db = open(1 << 20);
    assert_eq!(db.stats().map_size, 1 << 20);
}

#[test]
fn a_file_keeps_its_page_size_and_a_bucket_fills_its_pages_as_told() {
    let disk = Arc::new(SimDisk::new(1));
    let open = |page_size| Db::open(disk.clone(), "db", Options { page_size, ..Options::default() }).unwrap();
    drop(open(1024));
    let db = open(8192);
    assert_eq!(db.stats().page_size, 1024);
    let leaves = |name: &str, fill| {
        db.update::<_, Error>(|tx| {
            let mut bucket = tx.create_bucket(name)?;
            bucket.set_fill_percent(fill);
            (0..1000_u32).try_for_each(|i| bucket.put(i.to_be_bytes(), [1; 80]))
        })
        .unwrap();
        let tx = db.begin_read().unwrap();
        tx.stats_below(&tx.bucket(name).unwrap().unwrap()).unwrap().leaf_pages
    };
    // A row takes 100 bytes: ten fit, four into half a page, and two are the least.
    assert_eq!([leaves("full", 1.0), leaves("half", 0.5), leaves("least", 0.0)], [100, 249, 496]);
}

/// Such a value takes several calls to write, and neighbours of it are written before and after.
#[test]
fn values_of_more_than_one_write_come_back_whole() {
    let disk = Arc::new(SimDisk::new(1));
    let open = || Db::open(disk.clone(), "db", Options::default()).unwrap();
    let value = |n: usize| (0..n).map(|i| ((i * i) >> 7) as u8).collect::<Vec<u8>>();
    let lens = [10, 300_000, 20, 700_001, (256 << 10) - 16 - 16 - 1];
    open()
        .update::<_, Error>(|tx| {
            let mut bucket = tx.create_bucket("b")?;
            lens.iter().zip(0_u8..).try_for_each(|(&len, key)| bucket.put([key], value(len)))
        })
        .unwrap();
    let db = open();
    let tx = db.begin_read().unwrap();
    assert_eq!(tx.check(), []);
    let bucket = tx.bucket("b").unwrap().unwrap();
    for (len, key) in lens.into_iter().zip(0_u8..) {
        assert!(bucket.get(&[key]).unwrap().unwrap() == value(len), "value of {len} bytes");
    }
}

/// Runs the inspection example, which the test harness has built beside the tests.
fn inspect(args: &[&str]) -> Output {
    let tests = std::env::current_exe().unwrap();
    let example = tests.parent().and_then(Path::parent).unwrap().join("examples/bolt-inspect");
    Command::new(example).args(args).output().unwrap()
}

fn shown(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[cfg_attr(miri, ignore = "starts a program")]
fn the_inspection_command_shows_a_file_and_finds_what_is_wrong() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let file = path.to_str().unwrap();
    let db = Db::open(Arc::new(RealDisk), &path, Options::default())?;
    fill(&db);
    let root = db.begin_read()?.bucket("flat")?.unwrap().root_page();
    drop(db);
    let output = inspect(&["check", file]);
    assert_eq!((shown(&output), output.status.code()), ("OK\n".to_owned(), Some(0)));
    assert_eq!(
        shown(&inspect(&["buckets", file])),
        "flat\t3 keys\t18012 bytes\nouter\t201 keys\t20802 bytes\n"
    );
    let tree = shown(&inspect(&["tree", file]));
    assert!(tree.contains("  small (inline, sequence 0)") && tree.contains("sequence 9"), "{tree}");
    let pages = shown(&inspect(&["pages", file]));
    assert!(
        pages.lines().any(|l| l.contains("branch")) && pages.lines().any(|l| l.contains("free")),
        "{pages}"
    );
    let stats = shown(&inspect(&["stats", file]));
    assert!(stats.contains("keys             204"), "{stats}");
    let target = dir.path().join("compact");
    let compact = inspect(&["compact", file, target.to_str().unwrap()]);
    assert_eq!(compact.status.code(), Some(0), "{compact:?}");
    assert_eq!(shown(&inspect(&["check", target.to_str().unwrap()])), "OK\n");
    assert_eq!(inspect(&["nonsense", file]).status.code(), Some(2));
    assert_eq!(inspect(&[]).status.code(), Some(2));
    assert_eq!(inspect(&["check", "/nonexistent/db"]).status.code(), Some(1));

    // Two damages, two findings: keys out of order, and a child that is not there.
    let disk = RealDisk.open(&path, OpenOptions::write()).unwrap();
    let mut header = [0; 12];
    disk.read_exact_at(&mut header, root * 4096).unwrap();
    let outer = Db::open(Arc::new(RealDisk), &path, Options::read_only())?;
    let inner = outer.begin_read()?.bucket("outer")?.unwrap().bucket(b"inner")?.unwrap().root_page();
    drop(outer);
    disk.write_all_at(&99_999_u64.to_le_bytes(), inner * 4096 + 16 + 8).unwrap();
    disk.write_all_at(&99_u64.to_le_bytes(), root * 4096).unwrap();
    let output = inspect(&["check", file]);
    let text = shown(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("page id outside 2..") && text.contains("header carries page id 99"), "{text}");
    assert!(text.ends_with("2 findings\n"), "{text}");
    Ok(())
}
