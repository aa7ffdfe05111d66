package main

import (
	"io"
	"log"

	"go.etcd.io/raft/v3"
	pb "go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

type node37 struct {
	*raft.RawNode
	storage *raft.MemoryStorage
	conf    *pb.ConfState
	applied uint64
}

func start37(id uint64) node {
	storage := raft.NewMemoryStorage()
	conf := &pb.ConfState{Voters: ids, AutoLeave: proto.Bool(false)}
	check(storage.ApplySnapshot(&pb.Snapshot{Metadata: &pb.SnapshotMetadata{
		Index: proto.Uint64(1), Term: proto.Uint64(1), ConfState: conf}}))
	rn, err := raft.NewRawNode(&raft.Config{ID: id, ElectionTick: 10, HeartbeatTick: 1, Storage: storage, Applied: 1,
		MaxSizePerMsg: 1 << 20, MaxInflightMsgs: 16, PreVote: true, CheckQuorum: true,
		Logger: &raft.DefaultLogger{Logger: log.New(io.Discard, "", 0)}})
	check(err)
	return &node37{RawNode: rn, storage: storage, conf: conf, applied: 1}
}

func (n *node37) leader() bool { return n.BasicStatus().RaftState == raft.StateLeader }

func (n *node37) step(m message) error { return n.Step(m.raw.(*pb.Message)) }

func (n *node37) proposeLearner(id uint64) error {
	return n.ProposeConfChange(&pb.ConfChange{Type: pb.ConfChangeAddLearnerNode.Enum(), NodeId: &id, Context: []byte("learner")})
}

func (n *node37) proposeJoint(add, remove uint64) error {
	return n.ProposeConfChange(&pb.ConfChangeV2{Changes: []*pb.ConfChangeSingle{
		{Type: pb.ConfChangeAddLearnerNode.Enum(), NodeId: &add},
		{Type: pb.ConfChangeRemoveNode.Enum(), NodeId: &remove},
	}})
}

func (n *node37) compact() {
	_, err := n.storage.CreateSnapshot(n.applied, n.conf, []byte("state of the store"))
	check(err)
	check(n.storage.Compact(n.applied))
}

func (n *node37) handle() []message {
	if !n.HasReady() {
		return nil
	}
	rd := n.Ready()
	if !raft.IsEmptySnap(rd.Snapshot) {
		check(n.storage.ApplySnapshot(rd.Snapshot))
		n.applied, n.conf = rd.Snapshot.GetMetadata().GetIndex(), rd.Snapshot.GetMetadata().GetConfState()
	}
	if !raft.IsEmptyHardState(rd.HardState) {
		check(n.storage.SetHardState(rd.HardState))
	}
	check(n.storage.Append(rd.Entries))
	for _, e := range rd.CommittedEntries {
		n.applied = e.GetIndex()
		switch e.GetType() {
		case pb.EntryConfChange:
			cc := &pb.ConfChange{}
			check(proto.Unmarshal(e.Data, cc))
			n.conf = n.ApplyConfChange(cc)
		case pb.EntryConfChangeV2:
			cc := &pb.ConfChangeV2{}
			check(proto.Unmarshal(e.Data, cc))
			n.conf = n.ApplyConfChange(cc)
		}
	}
	var out []message
	for _, m := range rd.Messages {
		raw, err := proto.Marshal(m)
		check(err)
		f := fields{}
		f.number("to", m.GetTo()).number("from", m.GetFrom()).number("term", m.GetTerm()).number("log_term", m.GetLogTerm())
		f.number("index", m.GetIndex())
		for _, e := range m.Entries {
			f.entry(int(e.GetType()), e.GetTerm(), e.GetIndex(), e.Data)
		}
		f.number("commit", m.GetCommit()).number("vote", m.GetVote())
		if s := m.GetSnapshot(); s != nil {
			cs := s.GetMetadata().GetConfState()
			f.snapshot(s.GetMetadata().GetIndex(), s.GetMetadata().GetTerm(), s.Data, cs.GetVoters(), cs.GetLearners())
		}
		f.flag("reject", m.GetReject()).number("reject_hint", m.GetRejectHint()).text("context", m.Context)
		out = append(out, f.message(m.GetFrom(), m.GetTo(), m.GetType().String(), raw, m))
	}
	n.Advance(rd)
	return out
}
