//! `compare` from its flags to its files.

use std::process::{Command, Output};

use crate::member::binary;

fn compare(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_compare")).args(args).output().unwrap()
}

#[test]
fn two_servers_one_and_three_members_side_by_side() {
    let out = tempfile::tempdir().unwrap();
    let server = |name: &str| format!("--server={name}={}", binary().display());
    let place = tempfile::tempdir().unwrap();
    let output = compare(&[
        &server("one"),
        &server("other"),
        "--scenarios=put-1",
        "--members=1,3",
        "--rounds=2",
        "--seconds=0.1",
        "--warm-up=0",
        "--ceiling=0.1",
        "--repeats=0",
        &format!("--place=here={}", place.path().display()),
        &format!("--out={}", out.path().display()),
    ]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    // Interleaved, and shown while it runs.
    let order: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("put-1 x1 here ")).collect();
    let expected = ["round 1 one:", "round 1 other:", "round 2 one:", "round 2 other:"];
    assert!(
        order.len() == 4 && order.iter().zip(expected).all(|(line, begin)| line.starts_with(begin)),
        "{log}"
    );
    let table = std::fs::read_to_string(out.path().join("compare.md")).unwrap();
    assert_eq!(table, String::from_utf8(output.stdout).unwrap());
    for words in
        ["Limits on here", "| operations/s |", "1 member, here", "3 members, here", "of the bare echo's rate"]
    {
        assert!(table.contains(words), "{words}: {table}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.path().join("compare.json")).unwrap()).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 8);
    for plot in ["rate.svg", "p50.svg", "p99.svg", "cpu.svg", "memory.svg"] {
        let svg = std::fs::read_to_string(out.path().join(plot)).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.ends_with("</svg>\n") && svg.contains("put-1"),
            "{plot}: {svg}"
        );
    }
    // Nothing stays behind.
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn a_member_is_replaced_under_load() {
    let out = tempfile::tempdir().unwrap();
    let output = compare(&[
        &format!("--server=one={}", binary().display()),
        "--scenarios=replacement-few",
        "--members=3",
        "--rounds=1",
        "--seconds=1",
        "--warm-up=0",
        "--repeats=0",
        &format!("--out={}", out.path().display()),
    ]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{log}");
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("| new member's start to first read, s |"), "{table}");
    assert!(table.contains("| longest read, ms |"), "{table}");
}

#[test]
fn wrong_flags_are_named() {
    for (args, words) in [
        (&["--server=a"][..], "NAME=BINARY"),
        (&["--server=a=/no/such/binary"], "/no/such/binary"),
        (&[], "--server"),
        (&["--server=a=/bin/sh", "--members=0"], "1 to 9"),
        (&["--server=a=/bin/sh", "--scenarios=flying"], "no scenario \"flying\""),
        (&["--server=a=/bin/sh", "--place=x=/no/such/directory"], "is not a directory"),
    ] {
        let output = compare(args);
        let log = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {log}");
        assert!(log.contains(words), "{args:?}: {log}");
    }
}

#[test]
fn a_server_that_does_not_start_is_quoted() {
    let output = compare(&["--server=a=/bin/false", "--scenarios=put-1"]);
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(log.contains("a does not serve"), "{log}");
}
