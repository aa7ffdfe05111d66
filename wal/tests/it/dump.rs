//! The dump command, as its user sees it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use stanchion_disk::RealDisk;
use stanchion_wal::{EntryRef, HardState, Options, Prepare, SnapshotMark, Wal};

/// The command, built if it is not.
fn wal_dump() -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "-p", "stanchion-wal", "--example", "wal-dump", "--"]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

fn dump(arguments: &[&str], dir: &Path) -> (i32, Vec<String>, String) {
    let output = wal_dump().args(arguments).arg(dir).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code().unwrap(), lines, String::from_utf8(output.stderr).unwrap())
}

fn log(dir: &Path) -> Wal {
    let options = Options::default().segment_size(4096).prepare(Prepare::OnDemand);
    let mut wal = Wal::create(Arc::new(RealDisk), dir, b"\x08\x07", options).unwrap();
    let state = HardState { term: 1, vote: 0xab, commit: 1 };
    wal.save(&state, &[EntryRef::new(1, 1, 1, b"member"), EntryRef::new(2, 1, 0, b"")]).unwrap();
    wal.save_snapshot(&SnapshotMark { conf_state: Some((&[8, 7][..]).into()), ..SnapshotMark::new(1, 1) })
        .unwrap();
    wal
}

#[test]
fn one_object_a_line() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("wal");
    drop(log(&dir));
    let (code, lines, errors) = dump(&["--json"], &dir);
    assert_eq!((code, &errors[..]), (0, ""));
    let file = r#""file":"0000000000000000-0000000000000000.wal""#;
    let expected = [
        format!(r#"{{"kind":"crc",{file},"offset":0,"crc":"00000000"}}"#),
        format!(r#"{{"kind":"metadata",{file},"offset":16,"size":2,"data":"0807"}}"#),
        format!(r#"{{"kind":"snapshot",{file},"offset":40,"index":0,"term":0,"conf_state":null}}"#),
        format!(r#"{{"kind":"entry",{file},"offset":64,"index":1,"term":1,"type":"conf-change","size":6}}"#),
        format!(r#"{{"kind":"entry",{file},"offset":96,"index":2,"term":1,"type":"normal","size":0}}"#),
        format!(r#"{{"kind":"state",{file},"offset":120,"term":1,"vote":"ab","commit":1}}"#),
        format!(r#"{{"kind":"snapshot",{file},"offset":152,"index":1,"term":1,"conf_state":"0807"}}"#),
        format!(r#"{{"kind":"end",{file},"offset":184,"torn":null}}"#),
    ];
    assert_eq!(lines, expected);
    let (_, lines, _) = dump(&[], &dir);
    let text = "0000000000000000-0000000000000000.wal         96 entry    index=2 term=1 type=normal size=0";
    assert_eq!(lines[4], text);
}

#[test]
fn where_and_why_a_damaged_one_ends() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("wal");
    drop(log(&dir));
    let path = dir.join("0000000000000000-0000000000000000.wal");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|w| w == b"member").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let (code, lines, errors) = dump(&["--json"], &dir);
    assert_eq!((code, lines.len()), (1, 4));
    assert!(lines[3].starts_with(
        r#"{"kind":"error","file":"0000000000000000-0000000000000000.wal","offset":64,"error":"#
    ));
    for part in ["CRC mismatch: expected ", r#","expected":""#, r#","found":""#] {
        assert!(lines[3].contains(part), "{}", lines[3]);
    }
    assert!(errors.contains("is damaged at offset 64: CRC mismatch"), "{errors}");

    let (code, lines, errors) = dump(&["--json"], temp.path());
    assert_eq!((code, lines.len()), (1, 1));
    assert!(errors.contains("is not a log"), "{errors}");
}

#[test]
fn following_shows_what_is_appended_over_segments() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("wal");
    let mut wal = log(&dir);
    let mut child = wal_dump().args(["--json", "--follow"]).arg(&dir).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut until = |part: &str| lines.find(|line| line.contains(part)).unwrap();
    until(r#""index":1,"term":1,"conf_state":"0807""#);
    wal.save(&HardState::default(), &[EntryRef::new(3, 1, 0, b"live")]).unwrap();
    until(r#""index":3,"term":1,"type":"normal","size":4"#);
    wal.cut().unwrap();
    wal.save(&HardState::default(), &[EntryRef::new(4, 1, 0, b"on")]).unwrap();
    let line = until(r#""index":4"#);
    assert!(line.contains("0000000000000001-0000000000000004.wal"), "{line}");
    drop(lines);
    // Its output is closed: it ends by itself with the next line.
    wal.save(&HardState::default(), &[EntryRef::new(5, 1, 0, b"x")]).unwrap();
    assert!(child.wait().unwrap().success());
}
