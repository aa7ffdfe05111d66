//! The nodes of a script, what travels between them, and a record of all that happens. The commands are in
//! `commands.rs`; here is what a node does with its readies, its disk and its messages.

use std::collections::{BTreeMap, VecDeque};

use stanchion_raft::{
    ConfChangeV2, Config, Entry, Error, HardState, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD, MemStorage,
    Message, RawNode, ReadState, Ready, Snapshot, Storage,
};

use super::words;
use crate::cluster::Node;

/// One node and its two storage threads, which only asynchronous mode uses.
pub struct Member {
    pub node: Node,
    pub config: Config,
    pub appends: VecDeque<Message>,
    pub applies: VecDeque<Message>,
    /// Confirmations of writes that have not reached the state machine, one write each.
    pub held: VecDeque<Vec<Message>>,
}

impl Member {
    pub fn start(config: Config, storage: MemStorage) -> Self {
        let mut node = RawNode::new(&config, storage).expect("a script's settings are valid");
        node.set_tracing(true);
        Self { node, config, appends: VecDeque::new(), applies: VecDeque::new(), held: VecDeque::new() }
    }
}

/// Everything on stage.
#[derive(Default)]
pub struct Stage {
    pub members: BTreeMap<u64, Member>,
    /// What has left and not arrived, oldest first.
    pub wire: Vec<Message>,
    /// Settings of nodes that join later.
    pub settings: Option<Config>,
    output: Vec<String>,
    silent: bool,
}

impl Stage {
    pub fn take_output(&mut self) -> Vec<String> {
        std::mem::take(&mut self.output)
    }

    pub fn say(&mut self, line: impl Into<String>) {
        if !self.silent {
            self.output.push(line.into());
        }
    }

    /// Runs `act` without a record of what happens.
    pub fn silently<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.silent, true);
        let result = act(self);
        self.silent = before;
        result
    }

    pub fn member(&mut self, id: u64) -> Result<&mut Member, String> {
        self.members.get_mut(&id).ok_or_else(|| format!("there is no node {id}"))
    }

    /// Calls a node and records what it decides.
    pub fn call(&mut self, id: u64, act: impl FnOnce(&mut Node) -> Result<(), Error>) -> Result<(), String> {
        let result = act(&mut self.member(id)?.node);
        self.decisions(id)?;
        if let Err(why) = result {
            self.say(format!("{id} refuses: {why}"));
        }
        Ok(())
    }

    fn decisions(&mut self, id: u64) -> Result<(), String> {
        for event in self.member(id)?.node.take_trace() {
            self.say(format!("{id} {}", words::event(&event)));
        }
        Ok(())
    }

    fn send(&mut self, m: Message) {
        self.say(words::message(&m));
        self.wire.push(m);
    }

    /// Delivers the messages that `pick` chooses, in the order in which they left.
    pub fn deliver(&mut self, pick: impl Fn(&Message) -> bool) -> Result<usize, String> {
        let (arriving, rest) = std::mem::take(&mut self.wire).into_iter().partition::<Vec<_>, _>(pick);
        self.wire = rest;
        let count = arriving.len();
        for m in arriving {
            self.arrive(m)?;
        }
        Ok(count)
    }

    /// A message reaches its receiver, if that is up.
    pub fn arrive(&mut self, m: Message) -> Result<(), String> {
        if self.members.contains_key(&m.to) {
            self.call(m.to, |node| node.step(m))
        } else {
            self.say(format!("lost, {} is down: {}", m.to, words::message(&m)));
            Ok(())
        }
    }

    /// Handles one ready: all of it in synchronous mode, its hand-over to the threads in asynchronous mode.
    pub fn ready(&mut self, id: u64) -> Result<(), String> {
        let member = self.member(id)?;
        let asynchronous = member.config.async_storage_writes;
        let mut ready = member.node.ready().map_err(|e| e.to_string())?;
        self.reads(id, &ready.read_states);
        for m in std::mem::take(&mut ready.messages) {
            match m.to {
                LOCAL_APPEND_THREAD => {
                    self.say(format!("{id} queues for its disk: {}", written(&m)));
                    self.member(id)?.appends.push_back(m);
                }
                LOCAL_APPLY_THREAD => {
                    self.say(format!("{id} queues to apply: {}", words::entries(&m.entries)));
                    self.member(id)?.applies.push_back(m);
                }
                _ => self.send(m),
            }
        }
        if !asynchronous {
            self.finish(id, ready)?;
        }
        Ok(())
    }

    fn finish(&mut self, id: u64, mut ready: Ready) -> Result<(), String> {
        self.write(id, ready.snapshot.as_deref(), &ready.entries, ready.hard_state)?;
        for m in std::mem::take(&mut ready.messages_after_persist) {
            self.send(m);
        }
        self.apply_entries(id, &ready.committed_entries)?;
        self.call(id, |node| node.advance(ready))
    }

    fn write(
        &mut self,
        id: u64,
        snapshot: Option<&Snapshot>,
        entries: &[Entry],
        hard_state: Option<HardState>,
    ) -> Result<(), String> {
        let mut what = Vec::new();
        if let Some(s) = snapshot {
            what.push(format!("snapshot {}/{}", s.metadata.index, s.metadata.term));
        }
        what.extend(hard_state.as_ref().map(words::hard_state));
        if !entries.is_empty() {
            what.push(words::entries(entries));
        }
        if !what.is_empty() {
            self.say(format!("{id} writes {}", what.join("; ")));
        }
        let storage = self.member(id)?.node.storage_mut();
        if let Some(s) = snapshot {
            storage.apply_snapshot(s.clone()).map_err(|e| e.to_string())?;
        }
        storage.append(entries).map_err(|e| e.to_string())?;
        if let Some(hs) = hard_state {
            storage.set_hard_state(hs);
        }
        Ok(())
    }

    fn apply_entries(&mut self, id: u64, entries: &[Entry]) -> Result<(), String> {
        if !entries.is_empty() {
            self.say(format!("{id} applies {}", words::entries(entries)));
        }
        for e in entries {
            if let Some(change) = ConfChangeV2::from_entry(e).map_err(|e| e.to_string())? {
                self.call(id, |node| node.apply_conf_change(change).map(drop))?;
            }
        }
        Ok(())
    }

    fn reads(&mut self, id: u64, reads: &[ReadState]) {
        for read in reads {
            let context = String::from_utf8_lossy(&read.context).into_owned();
            self.say(format!("{id} may read \"{context}\" at {}", read.index));
        }
    }

    /// The append thread finishes its oldest write; what it tells the own state machine may be held back.
    pub fn append(&mut self, id: u64, hold: bool) -> Result<(), String> {
        let m = self.member(id)?.appends.pop_front().ok_or("nothing is queued for the disk")?;
        let hard_state = HardState { term: m.term, vote: m.vote, commit: m.commit };
        let hard_state = Some(hard_state).filter(|hs| !hs.is_empty());
        self.write(id, m.snapshot.as_deref(), &m.entries, hard_state)?;
        let (own, others): (Vec<_>, Vec<_>) = m.responses.into_iter().partition(|m| hold && m.to == id);
        if hold {
            self.member(id)?.held.push_back(own);
        }
        self.respond(id, others)
    }

    /// The oldest confirmation that was held back arrives.
    pub fn answer(&mut self, id: u64) -> Result<(), String> {
        let held = self.member(id)?.held.pop_front().ok_or("no confirmation is held back")?;
        self.respond(id, held)
    }

    /// The apply thread finishes its oldest piece of work.
    pub fn apply(&mut self, id: u64) -> Result<(), String> {
        let m = self.member(id)?.applies.pop_front().ok_or("nothing is queued to apply")?;
        self.apply_entries(id, &m.entries)?;
        self.respond(id, m.responses)
    }

    fn respond(&mut self, id: u64, responses: Vec<Message>) -> Result<(), String> {
        for m in responses {
            if m.to == id {
                self.call(id, |node| node.step_response(m))?;
            } else {
                self.send(m);
            }
        }
        Ok(())
    }

    /// Does everything that `ids` have to do, and delivers among them, until nothing moves.
    pub fn settle(&mut self, ids: &[u64]) -> Result<(), String> {
        for _ in 0..1_000 {
            let mut moved = false;
            for &id in ids {
                while self.work(id)? {
                    moved = true;
                }
            }
            if self.deliver(|m| ids.contains(&m.to))? == 0 && !moved {
                return Ok(());
            }
        }
        Err("it does not come to rest".to_owned())
    }

    fn work(&mut self, id: u64) -> Result<bool, String> {
        let member = self.member(id)?;
        if member.node.has_ready() {
            self.ready(id)?;
        } else if !member.appends.is_empty() {
            self.append(id, false)?;
        } else if !member.applies.is_empty() {
            self.apply(id)?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// The log of a node's disk from its first entry on.
    pub fn stored(&mut self, id: u64) -> Result<Vec<Entry>, String> {
        let storage = self.member(id)?.node.storage();
        let (first, last) =
            storage.first_index().and_then(|f| Ok((f, storage.last_index()?))).map_err(|e| e.to_string())?;
        let mut entries = Vec::new();
        storage.entries(first, last + 1, u64::MAX, &mut entries).map_err(|e| e.to_string())?;
        Ok(entries)
    }
}

/// What a storage message asks to be written.
fn written(m: &Message) -> String {
    let mut what = Vec::new();
    if let Some(s) = &m.snapshot {
        what.push(format!("snapshot {}/{}", s.metadata.index, s.metadata.term));
    }
    let hs = HardState { term: m.term, vote: m.vote, commit: m.commit };
    if !hs.is_empty() {
        what.push(words::hard_state(&hs));
    }
    if !m.entries.is_empty() {
        what.push(words::entries(&m.entries));
    }
    if what.is_empty() {
        what.push("nothing, but what waits behind it".to_owned());
    }
    what.join("; ")
}
