//! Scenarios: scripts that show the algorithm at work, one behaviour each, with every message and decision spelled out.
//!
//! They are in `raft/tests/scenarios`; its README tells in which order to read them. `STANCHION_SCENARIOS=rewrite` writes
//! what the scripts print now into them: for a change that is meant, to be read before it is kept.
#![allow(unreachable_pub, reason = "parts of one test module")]

mod commands;
mod script;
mod stage;
mod words;

use std::path::{Path, PathBuf};

use script::Part;
use stage::Stage;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

/// Runs one script and compares, or rewrites it.
fn run(name: &str) {
    let path = folder().join(name).with_extension("txt");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut parts = script::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rewrite = std::env::var_os("STANCHION_SCENARIOS").is_some_and(|v| v == "rewrite");
    let mut stage = Stage::default();
    let mut acts = 0;
    for part in &mut parts {
        let Part::Act(act) = part else { continue };
        acts += 1;
        for command in &act.commands {
            if let Err(why) = stage.run(command) {
                panic!("{}:{}: {command}: {why}", path.display(), act.line);
            }
        }
        let found = stage.take_output();
        if rewrite {
            act.output = found;
        } else {
            assert_eq!(act.output, found, "{}:{}: expected (left), found (right)", path.display(), act.line);
        }
    }
    assert!(acts > 0, "{} has no command", path.display());
    if rewrite {
        std::fs::write(&path, script::print(&parts)).unwrap();
    }
}

/// One test a script.
macro_rules! scenarios {
    ($($name:ident,)+) => {
        const ALL: &[&str] = &[$(stringify!($name)),+];
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )+
    };
}

scenarios! {
    append_after_snapshot,
    apply_pages,
    async_writes,
    async_writes_aba,
    bootstrap,
    campaign,
    campaign_learner_must_vote,
    change_v1_add_single,
    change_v1_remove_leader,
    change_v1_remove_leader_step_down,
    change_v2_add_double_auto,
    change_v2_add_double_explicit,
    change_v2_add_double_implicit,
    change_v2_add_single_auto,
    change_v2_add_single_explicit,
    change_v2_replace_leader,
    change_v2_replace_leader_step_down,
    change_without_validation,
    check_quorum,
    forget_leader,
    forget_leader_lease_reads,
    forget_leader_pre_vote_check_quorum,
    heartbeat_recovers_from_probing,
    joint_rules,
    lagging_commit,
    pre_vote,
    pre_vote_check_quorum,
    probe_and_replicate,
    read_of_deposed_leader,
    reads,
    replicate_pause,
    single_node,
    slow_follower_after_compaction,
    snapshot_behind_pending,
    snapshot_ends_by_answer,
    transfer,
}

#[test]
fn every_script_is_run() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "txt"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut listed = ALL.to_vec();
    listed.sort_unstable();
    assert_eq!(found, listed);
}
