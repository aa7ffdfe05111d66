package main

import (
	"io"
	"log"

	"go.etcd.io/etcd/raft/v3"
	pb "go.etcd.io/etcd/raft/v3/raftpb"
)

type node35 struct {
	*raft.RawNode
	storage *raft.MemoryStorage
	conf    *pb.ConfState
	applied uint64
}

func start35(id uint64) node {
	storage := raft.NewMemoryStorage()
	conf := pb.ConfState{Voters: ids}
	check(storage.ApplySnapshot(pb.Snapshot{Metadata: pb.SnapshotMetadata{Index: 1, Term: 1, ConfState: conf}}))
	rn, err := raft.NewRawNode(&raft.Config{ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, Applied: 1,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 16, PreVote: true, CheckQuorum: true,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	check(err)
	return &node35{RawNode: rn, storage: storage, conf: &conf, applied: 1}
}

func (n *node35) leader() bool { return n.BasicStatus().RaftState == raft.StateLeader }

func (n *node35) step(m message) error { return n.Step(m.raw.(pb.Message)) }

func (n *node35) proposeLearner(id uint64) error {
	return n.ProposeConfChange(pb.ConfChange{Type: pb.ConfChangeAddLearnerNode, NodeID: id, Context: []byte("learner")})
}

func (n *node35) proposeJoint(add, remove uint64) error {
	return n.ProposeConfChange(pb.ConfChangeV2{Changes: []pb.ConfChangeSingle{
		{Type: pb.ConfChangeAddLearnerNode, NodeID: add},
		{Type: pb.ConfChangeRemoveNode, NodeID: remove},
	}})
}

func (n *node35) compact() {
	_, err := n.storage.CreateSnapshot(n.applied, n.conf, []byte("state of the store"))
	check(err)
	check(n.storage.Compact(n.applied))
}

func (n *node35) handle() []message {
	if !n.HasReady() {
		return nil
	}
	rd := n.Ready()
	if !raft.IsEmptySnap(rd.Snapshot) {
		check(n.storage.ApplySnapshot(rd.Snapshot))
		n.applied, n.conf = rd.Snapshot.Metadata.Index, &rd.Snapshot.Metadata.ConfState
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		check(n.storage.SetHardState(rd.HardState))
	}
	check(n.storage.Append(rd.Entries))
	for _, e := range rd.CommittedEntries {
		n.applied = e.Index
		switch e.Type {
		case pb.EntryConfChange:
			cc := pb.ConfChange{}
			check(cc.Unmarshal(e.Data))
			n.conf = n.ApplyConfChange(cc)
		case pb.EntryConfChangeV2:
			cc := pb.ConfChangeV2{}
			check(cc.Unmarshal(e.Data))
			n.conf = n.ApplyConfChange(cc)
		}
	}
	var out []message
	for _, m := range rd.Messages {
		raw, err := m.Marshal()
		check(err)
		f := fields{}
		f.number("to", m.To).number("from", m.From).number("term", m.Term).number("log_term", m.LogTerm)
		f.number("index", m.Index)
		for _, e := range m.Entries {
			f.entry(int(e.Type), e.Term, e.Index, e.Data)
		}
		f.number("commit", m.Commit)
		if s := m.Snapshot; !raft.IsEmptySnap(s) {
			f.snapshot(s.Metadata.Index, s.Metadata.Term, s.Data, s.Metadata.ConfState.Voters, s.Metadata.ConfState.Learners)
		}
		f.flag("reject", m.Reject).number("reject_hint", m.RejectHint).text("context", m.Context)
		out = append(out, f.message(m.From, m.To, m.Type.String(), raw, m))
	}
	n.Advance(rd)
	return out
}
