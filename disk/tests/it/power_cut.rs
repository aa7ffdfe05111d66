//! What survives a power cut.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use stanchion_disk::{Disk, OpenOptions, PowerCut, SimDisk};

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn write(disk: &SimDisk, path: &str, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(p(path), OpenOptions::create())?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()
}

#[test]
fn synced_bytes_under_a_synced_name_survive() {
    let disk = SimDisk::new(1);
    write(&disk, "/f", b"kept").unwrap();
    disk.sync_dir(p("/")).unwrap();
    for seed in 0..100 {
        assert_eq!(disk.after_power_cut(seed).read(p("/f")).unwrap(), b"kept");
    }
}

#[test]
fn a_synced_file_without_a_synced_name_may_vanish() {
    let disk = SimDisk::new(1);
    write(&disk, "/f", b"x").unwrap();
    let found: BTreeSet<bool> =
        (0..50).map(|seed| disk.after_power_cut(seed).exists(p("/f")).unwrap()).collect();
    assert_eq!(found, BTreeSet::from([false, true]));
}

#[test]
fn a_rename_is_atomic_also_across_directories() {
    let disk = SimDisk::new(1);
    for dir in ["/a", "/b"] {
        disk.create_dir(p(dir), 0o700).unwrap();
    }
    write(&disk, "/a/old", b"1").unwrap();
    write(&disk, "/b/new", b"2").unwrap();
    for dir in ["/", "/a", "/b"] {
        disk.sync_dir(p(dir)).unwrap();
    }
    disk.rename(p("/a/old"), p("/b/new")).unwrap();
    let mut outcomes = BTreeSet::new();
    for seed in 0..100 {
        let after = disk.after_power_cut(seed);
        outcomes.insert((after.exists(p("/a/old")).unwrap(), after.read(p("/b/new")).unwrap()));
    }
    assert_eq!(outcomes, BTreeSet::from([(true, b"2".to_vec()), (false, b"1".to_vec())]));
    disk.sync_dir(p("/b")).unwrap();
    assert!(!disk.after_power_cut(3).exists(p("/a/old")).unwrap(), "one sync covers both halves");
}

#[test]
fn every_change_is_a_crash_point() {
    // The usual way to replace a file: at every crash it is the old one or the new one.
    let replace = |disk: &SimDisk| -> io::Result<()> {
        write(disk, "/f.tmp", &[2; 1500])?;
        disk.rename(p("/f.tmp"), p("/f"))?;
        disk.sync_dir(p("/"))
    };
    let start = || {
        let disk = SimDisk::new(9);
        write(&disk, "/f", &[1; 1500]).unwrap();
        disk.sync_dir(p("/")).unwrap();
        disk
    };
    let disk = start();
    let first = disk.changes() + 1;
    replace(&disk).unwrap();
    let last = disk.changes();
    assert_eq!(last - first + 1, 5, "create, write, sync, rename, sync");
    let mut seen = BTreeSet::new();
    for n in first..=last {
        let disk = start();
        disk.crash_at(n);
        let err = replace(&disk).unwrap_err();
        assert!(PowerCut::is(&err), "{err}");
        assert!(disk.is_crashed());
        assert!(PowerCut::is(&disk.read(p("/f")).unwrap_err()), "every later call fails");
        for seed in 0..50 {
            let after = disk.after_power_cut(seed);
            let bytes = after.read(p("/f")).unwrap();
            assert!(bytes == [1; 1500] || bytes == [2; 1500], "crash at {n}, seed {seed}");
            seen.insert(bytes[0]);
        }
    }
    assert_eq!(seen, BTreeSet::from([1, 2]));
}

#[test]
fn a_careless_replacement_is_found_out() {
    // Without the sync before the rename some crash must show a torn file.
    let disk = SimDisk::new(9);
    write(&disk, "/f", &[1; 1500]).unwrap();
    disk.sync_dir(p("/")).unwrap();
    let file = disk.open(p("/f.tmp"), OpenOptions::create()).unwrap();
    file.write_all_at(&[2; 1500], 0).unwrap();
    disk.rename(p("/f.tmp"), p("/f")).unwrap();
    disk.sync_dir(p("/")).unwrap();
    let torn =
        (0..100).filter(|&seed| disk.after_power_cut(seed).read(p("/f")).unwrap() != [2; 1500]).count();
    assert!(torn > 20, "{torn} of 100");
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    let run = || {
        let disk = SimDisk::new(5);
        for i in 0..20_u8 {
            write(&disk, &format!("/{i}"), &[i; 3000]).unwrap();
            disk.open(p("/0"), OpenOptions::write()).unwrap().write_all_at(&[i; 700], 300).unwrap();
        }
        let after = disk.after_power_cut(77);
        after
            .list(p("/"))
            .unwrap()
            .into_iter()
            .map(|n| after.read(&p("/").join(n)).unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn a_fork_goes_its_own_way() {
    let disk = SimDisk::new(1);
    write(&disk, "/f", b"one").unwrap();
    let file = disk.open(p("/f"), OpenOptions::write()).unwrap();
    let _map = file.map(4096).unwrap();
    let fork = disk.fork(2).unwrap();
    file.write_all_at(b"two", 0).unwrap();
    assert_eq!(fork.read(p("/f")).unwrap(), b"one");
    assert_eq!(disk.read(p("/f")).unwrap(), b"two");
}
