//! Schedules that are written, not drawn: the rare timings that show certain mistakes. Each is played on the same world
//! under the same oracle, and must pass without a mistake.

use bytes::Bytes;
use stanchion_raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType as Op, ConfChangeV2, Entry, Message,
    MessageType as T,
};

use super::oracle::Check;
use super::world::World;

/// A schedule and what it is about.
pub type Plot = (&'static str, fn() -> Check);

/// All of them.
pub const PLOTS: &[Plot] = &[
    ("figure 8 of the paper", figure_8),
    ("half a joint election", half_a_joint_election),
    ("an entry that comes back", entry_that_comes_back),
    ("an append of a leader that counts back one by one", short_append),
    ("a log that is longer and older", longer_log),
    ("a campaign before two changes are applied", campaign_before_changes),
    ("two changes at once", two_changes_at_once),
    ("a snapshot twice", snapshot_twice),
    ("an answer to an older read", answer_to_older_read),
    ("a leader with waiting reads is deposed", deposed_with_reads),
];

fn between(from: &'static [u64], to: &'static [u64]) -> impl Fn(&Message) -> bool {
    move |m| from.contains(&m.from) && to.contains(&m.to)
}

/// Node 1 leads term 2 and everybody has its first entry.
fn led_by_1(world: &mut World, all: &[u64]) -> Check {
    world.call(1, |node| node.campaign())?;
    world.settle(all)
}

#[test]
fn plots_hold() {
    for (name, plot) in PLOTS {
        assert_eq!(plot(), Ok(()), "{name}");
    }
}

/// An entry of an old term is on a majority, and is overwritten all the same: it must not have been committed.
fn figure_8() -> Check {
    let mut w = World::staged(&[1, 2, 3, 4, 5], &[], |c| c.max_bytes_per_msg = 0);
    // Node 1 leads term 2; its entry reaches node 2 alone.
    w.call(1, |node| node.campaign())?;
    w.settle(&[1])?;
    w.deliver(|m| m.msg_type == T::Vote && m.to != 5)?;
    w.settle(&[2, 3, 4])?;
    w.settle(&[1])?;
    w.lose(|m| m.to != 2);
    w.settle(&[2])?;
    w.lose(|_| true);
    // Node 5, which had heard of no term before, leads term 3 with 3 and 4. Nobody gets its entry.
    w.call(5, |node| node.campaign())?;
    w.settle(&[5])?;
    w.lose(|_| true);
    w.call(5, |node| node.campaign())?;
    w.settle(&[5])?;
    w.deliver(between(&[5], &[1, 3, 4]))?;
    w.settle(&[3, 4])?;
    w.settle(&[5])?;
    w.lose(|_| true);
    w.settle(&[1])?;
    w.lose(|_| true);
    // Node 1 has heard of it and leads term 4. It brings node 3 up to its old entry, and no further.
    w.call(1, |node| node.campaign())?;
    w.settle(&[1])?;
    w.deliver(between(&[1], &[5]))?;
    for _ in 0..3 {
        w.deliver(between(&[1], &[2, 3]))?;
        w.settle(&[2, 3])?;
        w.settle(&[1])?;
    }
    w.lose(|_| true);
    // Node 5 may still win: its last entry is of term 3.
    w.call(5, |node| node.campaign())?;
    w.settle(&[5])?;
    w.deliver(between(&[5], &[3, 4]))?;
    w.settle(&[3, 4])?;
    w.settle(&[5])
}

/// Nodes 4 and 5 know the joint configuration and are the majority of its incoming half; nodes 2 and 3 have not heard that
/// it is committed and are the majority of the old one. Only one of the two may elect.
fn half_a_joint_election() -> Check {
    let mut w = World::staged(&[1, 2, 3], &[4, 5], |_| {});
    led_by_1(&mut w, &[1, 2, 3])?;
    let single = |change_type, node_id| ConfChangeSingle { change_type, node_id };
    let changes = vec![
        single(Op::AddNode, 4),
        single(Op::AddNode, 5),
        single(Op::RemoveNode, 2),
        single(Op::RemoveNode, 3),
    ];
    let change = ConfChangeV2::new(ConfChangeTransition::JointExplicit, changes);
    w.call(1, |node| node.propose_conf_change_v2(&change))?;
    w.settle(&[1])?;
    w.deliver(between(&[1], &[2, 3]))?;
    w.settle(&[2, 3])?;
    w.settle(&[1])?;
    w.lose(|_| true);
    // The newcomers get the configuration by snapshot.
    w.save(1);
    w.call(1, |node| node.tick())?;
    w.settle(&[1, 4, 5])?;
    // Three of three incoming voters are no quorum of the outgoing ones.
    w.call(1, |node| node.propose("new"))?;
    w.settle(&[1, 4, 5])?;
    w.lose(|_| true);
    for candidate in [2, 4] {
        w.call(candidate, |node| node.campaign())?;
        w.settle(&[candidate])?;
    }
    w.deliver(between(&[2], &[3]))?;
    w.deliver(between(&[4], &[5]))?;
    w.settle(&[3, 5])?;
    w.settle(&[2, 4])
}

/// The scenario `async_writes_aba`, as a matter of what is applied.
fn entry_that_comes_back() -> Check {
    let mut w = World::staged(&[1, 2, 3, 4, 5, 6, 7], &[], |c| c.async_storage_writes = true);
    w.call(1, |node| node.campaign())?;
    w.settle(&[1])?;
    w.deliver(|m| m.msg_type == T::Vote && ![2, 7].contains(&m.to))?;
    w.settle(&[3, 4, 5, 6])?;
    w.settle(&[1])?;
    w.deliver(|m| m.msg_type == T::App && m.to == 4)?;
    w.settle(&[4])?;
    w.lose(|m| m.to != 2);
    w.deliver(|_| true)?;
    w.queue(2)?;
    w.call(3, |node| node.campaign())?;
    w.settle(&[3])?;
    w.deliver(between(&[3], &[1, 5, 6, 7]))?;
    w.settle(&[5, 6, 7])?;
    w.settle(&[3])?;
    w.lose(|m| m.to != 2);
    w.deliver(|_| true)?;
    w.queue(2)?;
    w.settle(&[1])?;
    w.lose(|_| true);
    w.call(1, |node| node.campaign())?;
    w.settle(&[1])?;
    w.deliver(between(&[1], &[4, 5, 6]))?;
    w.settle(&[4, 5, 6])?;
    w.settle(&[1])?;
    w.lose(|m| m.to == 2 && m.msg_type == T::Vote);
    w.deliver(between(&[1], &[2]))?;
    w.queue(2)?;
    // Everybody else agrees; the writes of node 2 are done, and it has heard of none.
    w.settle(&[1, 4, 5, 6])?;
    (0..3).try_for_each(|_| w.append(2))?;
    w.deliver(between(&[2], &[1]))?;
    w.settle(&[1])?;
    w.deliver(between(&[1], &[2]))?;
    w.queue(2)?;
    // Now the first write's confirmation, and whatever it lets out to be applied.
    for _ in 0..6 {
        w.answer(2)?;
        w.queue(2)?;
        w.apply(2)?;
        w.look_at(2)?;
    }
    w.settle(&[1, 2, 4, 5, 6])
}

/// A follower has a tail of an old leader behind what its leader asks about. Our leader goes on exactly where the logs part
/// (`log::find_conflict_by_term`), so that it never asks below; one that counts back one by one, as the paper has it, can.
fn short_append() -> Check {
    let mut w = tail_on_3()?;
    let (term, commit) = (w.term(1), 6);
    let entries = vec![Entry { index: 3, term: 2, ..Entry::normal("shared") }];
    w.inject(Message { from: 1, term, index: 2, log_term: 2, entries, commit, ..Message::new(T::App, 3) });
    w.settle(&[3])?;
    w.settle(&[1])
}

/// A log that is longer, and older.
fn longer_log() -> Check {
    let mut w = tail_on_3()?;
    for _ in 0..2 {
        w.call(3, |node| node.campaign())?;
        w.settle(&[3])?;
        w.deliver(between(&[3], &[2]))?;
        w.settle(&[2])?;
        w.settle(&[3])?;
        w.lose(|_| true);
        // It led a term before: the first message of the newer one deposes it.
        let term = w.term(1);
        w.inject(Message { from: 1, term, index: 9, log_term: term, ..Message::new(T::App, 3) });
        w.deliver(|_| true)?;
    }
    Ok(())
}

/// Node 3 led term 2; everybody has entry 2, node 1 entry 3 as well, and nobody what comes behind it. Node 1 leads term 3
/// with node 2, and has committed others in their place.
fn tail_on_3() -> Result<World, String> {
    let mut w = World::staged(&[1, 2, 3], &[], |_| {});
    w.call(3, |node| node.campaign())?;
    w.settle(&[1, 2, 3])?;
    w.call(3, |node| node.propose("shared"))?;
    w.work_until_idle(3)?;
    w.deliver(between(&[3], &[1]))?;
    w.work_until_idle(1)?;
    w.lose(|_| true);
    for _ in 0..3 {
        w.call(3, |node| node.propose("tail"))?;
    }
    w.work_until_idle(3)?;
    w.lose(|_| true);
    w.call(1, |node| node.campaign())?;
    w.settle(&[1, 2])?;
    for _ in 0..2 {
        w.call(1, |node| node.propose("kept"))?;
        w.settle(&[1, 2])?;
    }
    w.lose(|_| true);
    Ok(w)
}

/// Two changes are committed and node 3 has applied neither. The quorum of its old configuration and the quorum of the new
/// one do not meet (etcd issue 7625).
fn campaign_before_changes() -> Check {
    let mut w = World::staged(&[1, 2, 3], &[4, 5], |c| c.async_storage_writes = true);
    led_by_1(&mut w, &[1, 2, 3])?;
    for newcomer in [4, 5] {
        w.call(1, |node| node.propose_conf_change(&ConfChange::new(Op::AddNode, newcomer)))?;
        for _ in 0..3 {
            w.settle(&[1, 2])?;
            w.deliver(between(&[1], &[3]))?;
            w.queue(3)?;
            w.append_all(3)?;
            w.deliver(between(&[3], &[1]))?;
        }
    }
    w.settle(&[1, 2])?;
    w.lose(|_| true);
    w.save(1);
    w.call(1, |node| node.tick())?;
    w.settle(&[1, 4, 5])?;
    w.lose(|_| true);
    // An entry that only the three of five get.
    w.call(1, |node| node.propose("new"))?;
    w.settle(&[1])?;
    w.lose(|m| [2, 3].contains(&m.to));
    w.settle(&[1, 4, 5])?;
    w.lose(|_| true);
    w.call(3, |node| node.campaign())?;
    w.queue(3)?;
    w.append_all(3)?;
    w.deliver(between(&[3], &[2]))?;
    w.settle(&[2])?;
    w.deliver(between(&[2], &[3]))?;
    w.look_at(3)
}

/// Node 2 has two changes in its log and knows of neither that it is committed. In their configuration nodes 1, 4 and 5 are
/// a quorum, in the old one nodes 2 and 3.
fn two_changes_at_once() -> Check {
    let mut w = World::staged(&[1, 2, 3], &[4, 5], |_| {});
    led_by_1(&mut w, &[1, 2, 3])?;
    for newcomer in [4, 5] {
        w.call(1, |node| node.propose_conf_change(&ConfChange::new(Op::AddNode, newcomer)))?;
    }
    w.settle(&[1])?;
    w.deliver(between(&[1], &[2]))?;
    w.settle(&[2])?;
    w.settle(&[1])?;
    w.lose(|_| true);
    w.save(1);
    w.call(1, |node| node.tick())?;
    w.lose(|m| [2, 3].contains(&m.to));
    w.settle(&[1, 4, 5])?;
    w.lose(|_| true);
    w.call(1, |node| node.propose("new"))?;
    w.settle(&[1])?;
    w.lose(|m| [2, 3].contains(&m.to));
    w.settle(&[1, 4, 5])?;
    w.lose(|_| true);
    w.call(2, |node| node.campaign())?;
    w.settle(&[2])?;
    w.deliver(between(&[2], &[3]))?;
    w.settle(&[3])?;
    w.settle(&[2])
}

/// A snapshot message arrives a second time when its receiver has gone on and forgotten the entries of that time.
fn snapshot_twice() -> Check {
    let mut w = World::staged(&[1, 2, 3], &[], |_| {});
    led_by_1(&mut w, &[1, 2])?;
    w.lose(|_| true);
    w.save(1);
    w.call(1, |node| node.tick())?;
    for _ in 0..3 {
        w.deliver(|m| m.msg_type != T::Snap)?;
        w.settle(&[3])?;
        w.work_until_idle(1)?;
    }
    let again = w.on_the_wire(|m| m.msg_type == T::Snap).ok_or("no snapshot was sent")?;
    w.settle(&[1, 2, 3])?;
    for _ in 0..4 {
        w.call(1, |node| node.propose("on"))?;
        w.settle(&[1, 2, 3])?;
    }
    w.save(3);
    w.inject(again);
    w.settle(&[3])
}

/// Reads at a leader that is deposed and does not know it: an answer that node 2 gave before it chose another leader
/// confirms the first read, and not the one that came later.
fn answer_to_older_read() -> Check {
    let mut w = deposed()?;
    w.read_at(1);
    w.deliver(|m| m.msg_type == T::HeartbeatResp && m.to == 1)?;
    w.work_until_idle(1)
}

/// The same leader hears of its successor while its readers wait.
fn deposed_with_reads() -> Check {
    let mut w = deposed()?;
    w.lose(|m| m.to == 1);
    w.read_at(1);
    w.work_until_idle(1)?;
    w.call(3, |node| node.tick())?;
    w.settle(&[3])?;
    w.deliver(|m| m.to == 1)?;
    w.work_until_idle(1)
}

/// Node 1 leads term 2 and was asked to read. Node 2's answer is under way, and node 3 leads term 3 and has committed.
fn deposed() -> Result<World, String> {
    let mut w = World::staged(&[1, 2, 3], &[], |_| {});
    led_by_1(&mut w, &[1, 2, 3])?;
    w.read_at(1);
    w.work_until_idle(1)?;
    w.deliver(between(&[1], &[2]))?;
    w.work_until_idle(2)?;
    w.lose(|m| m.to == 3);
    w.call(3, |node| node.campaign())?;
    w.work_until_idle(3)?;
    for _ in 0..4 {
        w.deliver(between(&[3], &[2]))?;
        w.work_until_idle(2)?;
        w.deliver(between(&[2], &[3]))?;
        w.work_until_idle(3)?;
    }
    w.call(3, |node| node.propose(Bytes::from_static(b"new")))?;
    for _ in 0..3 {
        w.work_until_idle(3)?;
        w.deliver(between(&[3], &[2]))?;
        w.work_until_idle(2)?;
        w.deliver(between(&[2], &[3]))?;
    }
    w.work_until_idle(3)?;
    w.lose(|m| m.msg_type != T::HeartbeatResp);
    Ok(w)
}
