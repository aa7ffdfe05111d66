//! What a script can command. Every command is one line: a word, then its arguments.
//!
//! | command | what happens |
//! |---|---|
//! | `nodes 1 2 3 learners 4 with pre-vote async` | these nodes, whose logs begin behind 1/1, their founding |
//! | `bootstrap 1 2 3` | a new cluster without anything before it |
//! | `log 2 terms 1 1 4` | node 2 starts anew with entries 1, 2, 3 of these terms on its disk |
//! | `join 5`, `stop 3`, `restart 3` | a node without anything; a crash; a start from what is on the disk |
//! | `campaign 1`, `tick 1 10`, `patience 1 12` | an election; time; after how many ticks a node campaigns |
//! | `propose 1 x y` | two proposals, made on node 1 |
//! | `change 1 v1 +4`, `change 1 auto +4 -2 ~3` | a change: add 4, remove 2, make 3 a learner; `leave` leaves |
//! | `read 1 x`, `transfer 1 2`, `forget 2` | a read; node 1 is to move leadership to 2; node 2 forgets its leader |
//! | `unreachable 1 2`, `snapshot 1 2 ok` | what node 1 is told about messages to 2, or about a snapshot to 2 |
//! | `save 1`, `compact 1 3` | node 1 makes a snapshot at its applied index; and forgets entries up to 3 |
//! | `ready 1`, `append 1`, `apply 1` | one ready; one write; one piece of applying |
//! | `append 1 later`, `answer 1` | a write whose confirmation is held back; the oldest confirmation arrives |
//! | `deliver 1->2 App`, `lose 1->2` | messages arrive, or do not; all of them, those of a type, or the `first` |
//! | `reverse 1->2` | what is under way turns round: the last comes first |
//! | `settle 1 2` | these nodes work and hear each other until nothing moves; without numbers, all do |
//! | `quietly …` | as `…`, without a record |
//! | `status`, `peers 1`, `stored 1` | who is what; what a leader knows; what is on a disk |

use stanchion_raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Config,
    Entry, HardState, MemStorage, Message, Peer, ReadOnlyOption, Storage,
};

use super::stage::{Member, Stage};
use super::words;
use crate::cluster::founded;

type Done = Result<(), String>;

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|e| format!("{word}: {e}"))
}

fn numbers(words: &[&str]) -> Result<Vec<u64>, String> {
    words.iter().map(|word| number(word)).collect()
}

impl Stage {
    /// Runs one command.
    pub fn run(&mut self, command: &str) -> Done {
        let words: Vec<&str> = command.split_whitespace().collect();
        let (&verb, args) = words.split_first().ok_or("an empty command")?;
        match verb {
            "quietly" => self.silently(|stage| stage.run(&args.join(" "))),
            "nodes" => self.nodes(args),
            "bootstrap" => self.bootstrap(args),
            "deliver" | "lose" | "reverse" => self.wire_command(verb, args),
            "settle" if args.is_empty() => self.settle(&self.all()),
            "settle" => self.settle(&numbers(args)?),
            "status" => self.status(args),
            _ => {
                let (first, rest) = args.split_first().ok_or("it needs a node")?;
                self.of_node(verb, number(first)?, rest)
            }
        }
    }

    fn all(&self) -> Vec<u64> {
        self.members.keys().copied().collect()
    }

    fn of_node(&mut self, verb: &str, id: u64, args: &[&str]) -> Done {
        let one = || args.first().copied().ok_or_else(|| format!("{verb} needs another word"));
        match verb {
            "log" => self.set_log(id, args),
            "join" => {
                let settings = self.settings.clone().ok_or("join comes after nodes")?;
                self.members.insert(id, Member::start(Config { id, ..settings }, MemStorage::new()));
                Ok(())
            }
            "stop" => self.members.remove(&id).map(drop).ok_or_else(|| format!("there is no node {id}")),
            "restart" => self.restart(id),
            "campaign" => self.call(id, stanchion_raft::RawNode::campaign),
            "tick" => {
                let times = args.first().map_or(Ok(1), |n| number(n))?;
                (0..times).try_for_each(|_| self.call(id, stanchion_raft::RawNode::tick))
            }
            "patience" => {
                let ticks = u32::try_from(number(one()?)?).map_err(|e| e.to_string())?;
                self.member(id)?.node.set_randomized_election_timeout(ticks);
                Ok(())
            }
            "propose" => args.iter().try_for_each(|text| {
                let data = text.as_bytes().to_vec();
                self.call(id, |node| node.propose(data))
            }),
            "change" => self.change(id, args),
            "read" => {
                let context = one()?.as_bytes().to_vec();
                self.call(id, |node| node.read_index(context))
            }
            "transfer" => {
                let to = number(one()?)?;
                self.call(id, |node| node.transfer_leader(to))
            }
            "forget" => self.call(id, |node| {
                node.forget_leader();
                Ok(())
            }),
            "unreachable" => {
                let peer = number(one()?)?;
                self.call(id, |node| {
                    node.report_unreachable(peer);
                    Ok(())
                })
            }
            "snapshot" => {
                let peer = number(one()?)?;
                let delivered = args.get(1) == Some(&"ok");
                self.call(id, |node| {
                    node.report_snapshot(peer, delivered);
                    Ok(())
                })
            }
            "save" => self.save(id),
            "compact" => self.compact(id, number(one()?)?),
            "ready" => self.ready(id),
            "append" => self.append(id, args == ["later"]),
            "answer" => self.answer(id),
            "apply" => self.apply(id),
            "peers" => self.peers(id),
            "stored" => {
                let entries = self.stored(id)?;
                self.say(format!("{id} has stored {}", words::entries(&entries)));
                Ok(())
            }
            _ => Err("no such command".to_owned()),
        }
    }

    fn nodes(&mut self, args: &[&str]) -> Done {
        let mut config = Config { pre_vote: false, check_quorum: false, ..Config::new(1) };
        let (mut voters, mut learners) = (Vec::new(), Vec::new());
        let mut place = "voters";
        for &word in args {
            match (place, word) {
                (_, "learners" | "with") => place = word,
                ("with", setting) => set(&mut config, setting)?,
                ("learners", id) => learners.push(number(id)?),
                (_, id) => voters.push(number(id)?),
            }
        }
        let conf_state = ConfState::new(&voters, &learners);
        for &id in voters.iter().chain(&learners) {
            let config = Config { id, ..config.clone() };
            self.members.insert(id, Member::start(config, founded(&conf_state)));
        }
        self.settings = Some(config);
        Ok(())
    }

    fn bootstrap(&mut self, args: &[&str]) -> Done {
        let peers: Vec<Peer> =
            numbers(args)?.into_iter().map(|id| Peer { id, context: bytes::Bytes::new() }).collect();
        for peer in &peers {
            let config = Config { pre_vote: false, check_quorum: false, ..Config::new(peer.id) };
            self.settings = Some(config.clone());
            self.members.insert(peer.id, Member::start(config, MemStorage::new()));
            self.call(peer.id, |node| node.bootstrap(&peers))?;
        }
        Ok(())
    }

    fn set_log(&mut self, id: u64, args: &[&str]) -> Done {
        let terms = numbers(args.strip_prefix(&["terms"]).ok_or("log N terms T …")?)?;
        let member = self.member(id)?;
        let mut storage = member.node.storage().clone();
        let entry = |(index, &term): (u64, &u64)| Entry { index, term, ..Entry::default() };
        let entries: Vec<Entry> = (1..).zip(&terms).map(entry).skip(1).collect();
        storage.append(&entries).map_err(|e| e.to_string())?;
        let term = terms.last().copied().unwrap_or(1);
        storage.set_hard_state(HardState { term, vote: 0, commit: 1 });
        *member = Member::start(member.config.clone(), storage);
        Ok(())
    }

    fn restart(&mut self, id: u64) -> Done {
        let member = self.member(id)?;
        *member = Member::start(member.config.clone(), member.node.storage().clone());
        Ok(())
    }

    fn change(&mut self, id: u64, args: &[&str]) -> Done {
        let (&form, operations) = args.split_first().ok_or("change N form operations")?;
        let single = |word: &&str| {
            let change_type = match word.chars().next() {
                Some('+') => ConfChangeType::AddNode,
                Some('-') => ConfChangeType::RemoveNode,
                Some('~') => ConfChangeType::AddLearnerNode,
                Some('=') => ConfChangeType::UpdateNode,
                _ => return Err(format!("{word} is no operation")),
            };
            Ok(ConfChangeSingle { change_type, node_id: number(&word[1..])? })
        };
        let changes = match operations {
            ["leave"] => Vec::new(),
            _ => operations.iter().map(single).collect::<Result<Vec<_>, String>>()?,
        };
        let transition = match form {
            "v1" => {
                let [change] = changes[..] else { return Err("v1 changes one node".to_owned()) };
                let change = ConfChange::new(change.change_type, change.node_id);
                return self.call(id, |node| node.propose_conf_change(&change));
            }
            "auto" => ConfChangeTransition::Auto,
            "implicit" => ConfChangeTransition::JointImplicit,
            "explicit" => ConfChangeTransition::JointExplicit,
            _ => return Err(format!("{form} is no form of a change")),
        };
        let change = ConfChangeV2::new(transition, changes);
        self.call(id, |node| node.propose_conf_change_v2(&change))
    }

    /// Makes a snapshot at the applied index unless there is one.
    fn save(&mut self, id: u64) -> Done {
        let node = &mut self.member(id)?.node;
        let (applied, conf_state) = (node.status().applied, node.conf_state());
        let storage = node.storage_mut();
        if storage.snapshot().map_err(|e| e.to_string())?.metadata.index < applied {
            storage.create_snapshot(applied, conf_state, &b"state"[..]).map_err(|e| e.to_string())?;
            self.say(format!("{id} has a snapshot at {applied}"));
        }
        Ok(())
    }

    fn compact(&mut self, id: u64, to: u64) -> Done {
        self.save(id)?;
        self.member(id)?.node.storage_mut().compact(to).map_err(|e| e.to_string())?;
        self.say(format!("{id} forgets its entries up to {to}"));
        Ok(())
    }

    fn wire_command(&mut self, verb: &str, args: &[&str]) -> Done {
        let mut pick = Pick::default();
        for word in args {
            match word.split_once("->") {
                Some((from, to)) => {
                    let some = |id: &str| if id.is_empty() { Ok(None) } else { number(id).map(Some) };
                    (pick.from, pick.to) = (some(from)?, some(to)?);
                }
                None if *word == "first" => pick.first = true,
                None => pick.what = Some((*word).to_owned()),
            }
        }
        let mut picked = self.take_wire(&pick);
        if picked.is_empty() {
            return Err(format!("there is nothing to {verb}"));
        }
        match verb {
            "deliver" => picked.into_iter().try_for_each(|m| self.arrive(m)),
            "lose" => {
                for m in &picked {
                    self.say(format!("lost: {}", words::message(m)));
                }
                Ok(())
            }
            _ => {
                picked.reverse();
                self.wire.append(&mut picked);
                Ok(())
            }
        }
    }

    fn take_wire(&mut self, pick: &Pick) -> Vec<Message> {
        let mut taken = Vec::new();
        let all = std::mem::take(&mut self.wire);
        for m in all {
            let full = pick.first && !taken.is_empty();
            if pick.takes(&m) && !full { taken.push(m) } else { self.wire.push(m) }
        }
        taken
    }

    fn status(&mut self, args: &[&str]) -> Done {
        let ids = if args.is_empty() { self.all() } else { numbers(args)? };
        for id in ids {
            let node = &self.member(id)?.node;
            let (s, members) = (node.status(), words::configuration(&node.conf_state()));
            let (hard, soft) = (s.hard_state, s.soft_state);
            let leader = match soft.leader {
                0 => "no leader".to_owned(),
                leader if leader == id => "leads".to_owned(),
                leader => format!("leader {leader}"),
            };
            let (role, term, commit) = (words::role(soft.role), hard.term, hard.commit);
            let log = format!("applied {}, commit {commit}, last {}", s.applied, s.last_index);
            self.say(format!("{id}: {role} in term {term}, {leader}; {log}; {members}"));
        }
        Ok(())
    }

    fn peers(&mut self, id: u64) -> Done {
        let peers: Vec<String> = self.member(id)?.node.peers().map(|p| words::peer(&p)).collect();
        peers.into_iter().for_each(|line| self.say(line));
        Ok(())
    }
}

/// Which messages a command is about.
#[derive(Default)]
struct Pick {
    from: Option<u64>,
    to: Option<u64>,
    what: Option<String>,
    first: bool,
}

impl Pick {
    fn takes(&self, m: &Message) -> bool {
        self.from.is_none_or(|id| id == m.from)
            && self.to.is_none_or(|id| id == m.to)
            && self.what.as_deref().is_none_or(|what| what == words::name(m.msg_type))
    }
}

fn set(config: &mut Config, setting: &str) -> Done {
    let (name, value) = setting.split_once('=').unwrap_or((setting, "0"));
    let value = number(value)?;
    match name {
        "pre-vote" => config.pre_vote = true,
        "check-quorum" => config.check_quorum = true,
        "async" => config.async_storage_writes = true,
        "step-down" => config.step_down_on_removal = true,
        "no-validation" => config.disable_conf_change_validation = true,
        "no-forwarding" => config.disable_proposal_forwarding = true,
        "lease-reads" => config.read_only = ReadOnlyOption::LeaseBased,
        "inflight" => config.max_inflight_msgs = value as usize,
        "inflight-bytes" => config.max_inflight_bytes = value,
        "message-bytes" => config.max_bytes_per_msg = value,
        "ready-bytes" => config.max_committed_bytes_per_ready = value,
        "uncommitted-bytes" => config.max_uncommitted_bytes = value,
        "election" => config.election_ticks = value as u32,
        _ => return Err(format!("no setting {name}")),
    }
    Ok(())
}
