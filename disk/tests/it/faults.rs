//! Errors that the simulated disk makes on request.

use std::io::ErrorKind;
use std::path::Path;

use stanchion_disk::{Disk, Faults, Latency, OpenOptions, SimDisk};

const PATH: &str = "/f";

fn disk_with_synced_file(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(7);
    let file = disk.open(Path::new(PATH), OpenOptions::create()).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync_data().unwrap();
    disk
}

#[test]
fn a_failed_sync_loses_the_dirty_pages() {
    let disk = disk_with_synced_file(b"old");
    let file = disk.open(Path::new(PATH), OpenOptions::write()).unwrap();
    file.write_all_at(b"newer", 0).unwrap();
    disk.set_faults(Faults { sync_error: 1.0, ..Faults::default() });
    assert!(file.sync_data().is_err());
    assert_eq!(disk.read(Path::new(PATH)).unwrap(), b"old");
    disk.set_faults(Faults::default());
    file.sync_data().unwrap();
    assert_eq!(disk.after_power_cut(1).read(Path::new(PATH)).unwrap(), b"old");
}

#[test]
fn reads_and_writes_fail_at_their_rates() {
    let disk = disk_with_synced_file(b"abc");
    let file = disk.open(Path::new(PATH), OpenOptions::write()).unwrap();
    disk.set_faults(Faults { read_error: 0.25, write_error: 0.5, ..Faults::default() });
    let failed = |n: u32, call: &dyn Fn() -> bool| (0..n).filter(|_| !call()).count();
    let reads = failed(4000, &|| file.read_at(&mut [0], 0).is_ok());
    let writes = failed(4000, &|| file.write_all_at(b"x", 0).is_ok());
    assert!((800..1200).contains(&reads), "{reads}");
    assert!((1800..2200).contains(&writes), "{writes}");
}

#[test]
fn space_is_counted_in_chunks_and_comes_back() {
    let disk = SimDisk::new(1);
    disk.set_faults(Faults { space_bytes: Some(3 * 4096), ..Faults::default() });
    let a = disk.open(Path::new("/a"), OpenOptions::create()).unwrap();
    a.allocate(0, 8192).unwrap();
    a.write_all_at(&[1; 8192], 0).unwrap();
    let b = disk.open(Path::new("/b"), OpenOptions::create()).unwrap();
    b.write_all_at(b"x", 100).unwrap();
    assert_eq!(b.write_all_at(b"x", 5000).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(b.len().unwrap(), 101);
    assert_eq!(b.write_all_at(&[2; 5000], 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(b.len().unwrap(), 4096, "what fits is written, as by the kernel");
    assert_eq!(b.allocate(0, 8192).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.used_bytes(), 3 * 4096);
    a.set_len(4096).unwrap();
    b.write_all_at(b"x", 5000).unwrap();
    drop(a);
    disk.remove_file(Path::new("/a")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(disk.used_bytes(), 2 * 4096);
}

#[test]
fn a_failed_write_leaves_a_prefix() {
    let disk = disk_with_synced_file(&[1; 1000]);
    let file = disk.open(Path::new(PATH), OpenOptions::write()).unwrap();
    disk.set_faults(Faults { write_error: 1.0, ..Faults::default() });
    let mut prefixes = std::collections::BTreeSet::new();
    for value in 2..100 {
        assert_eq!(file.write_all_at(&[value; 1000], 0).unwrap_err().raw_os_error(), Some(5), "EIO");
        let bytes = disk.read(Path::new(PATH)).unwrap();
        let written = bytes.iter().take_while(|byte| **byte == value).count();
        assert!(bytes[written..].iter().all(|byte| *byte != value), "only a prefix");
        prefixes.insert(written);
    }
    assert!(prefixes.len() > 50, "{prefixes:?}");
}

#[test]
fn a_failed_sync_of_a_directory_makes_nothing_durable() {
    let disk = SimDisk::new(1);
    disk.open(Path::new("/f"), OpenOptions::create()).unwrap();
    disk.set_faults(Faults { sync_error: 1.0, ..Faults::default() });
    assert_eq!(disk.sync_dir(Path::new("/")).unwrap_err().raw_os_error(), Some(5), "EIO");
    assert!(disk.exists(Path::new("/f")).unwrap());
    let survived = |disk: &SimDisk| {
        (0..20).filter(|seed| disk.after_power_cut(*seed).exists(Path::new("/f")).unwrap()).count()
    };
    let unsynced = survived(&disk);
    assert!((1..20).contains(&unsynced), "survives by chance only: {unsynced}");
    disk.set_faults(Faults::default());
    disk.sync_dir(Path::new("/")).unwrap();
    assert_eq!(survived(&disk), 20);
}

#[test]
fn names_fail_at_their_rate_and_stay() {
    let disk = disk_with_synced_file(b"abc");
    disk.set_faults(Faults { name_error: 1.0, ..Faults::default() });
    for result in [
        disk.open(Path::new("/new"), OpenOptions::create()).map(drop),
        disk.rename(Path::new(PATH), Path::new("/g")),
        disk.remove_file(Path::new(PATH)),
        disk.create_dir(Path::new("/d"), 0o700),
    ] {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(5), "EIO");
    }
    assert_eq!(disk.list(Path::new("/")).unwrap(), ["f"]);
}

#[test]
fn a_read_may_find_a_bit_turned_for_good() {
    let disk = disk_with_synced_file(&[0; 100]);
    disk.set_faults(Faults { bit_flip: 1.0, ..Faults::default() });
    let found = disk.read(Path::new(PATH)).unwrap();
    assert_eq!(found.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
    disk.set_faults(Faults::default());
    assert_eq!(disk.read(Path::new(PATH)).unwrap(), found);
    assert_eq!(disk.after_power_cut(3).read(Path::new(PATH)).unwrap(), found);
}

#[test]
fn a_read_only_disk_reads() {
    let disk = disk_with_synced_file(b"abc");
    disk.set_faults(Faults { read_only: true, ..Faults::default() });
    assert_eq!(disk.read(Path::new(PATH)).unwrap(), b"abc");
    for result in [
        disk.open(Path::new("/new"), OpenOptions::create()).map(drop),
        disk.rename(Path::new(PATH), Path::new("/g")),
        disk.remove_file(Path::new(PATH)),
        disk.create_dir(Path::new("/d"), 0o700),
    ] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ReadOnlyFilesystem);
    }
}

#[test]
fn flipped_bits_are_on_the_medium_too() {
    let disk = disk_with_synced_file(b"abc");
    disk.flip_bit(Path::new(PATH), 1, 0).unwrap();
    assert_eq!(disk.read(Path::new(PATH)).unwrap(), b"acc");
    assert_eq!(disk.after_power_cut(1).read(Path::new(PATH)).unwrap(), b"acc");
}

#[test]
fn latency_adds_up() {
    let disk = disk_with_synced_file(b"abc");
    let latency = Latency { read_nanos: 1, write_nanos: 10, sync_nanos: 100 };
    disk.set_faults(Faults { latency, ..Faults::default() });
    let file = disk.open(Path::new(PATH), OpenOptions::write()).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(disk.elapsed_nanos(), 111);
}
