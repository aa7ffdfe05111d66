package main

import (
	"fmt"
	"math/rand/v2"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"stanchion.invalid/conformance/internal/harness"
)

const syntheticSeeds = 40

// syntheticLogs lets etcd's wal package write logs that a single quiet member never writes: rewinds after a change of
// leader, snapshots that jump over entries, many small and some huge entries, segments cut early.
func syntheticLogs(j *harness.Judge) error {
	before := wal.SegmentSizeBytes
	wal.SegmentSizeBytes = 300_000
	defer func() { wal.SegmentSizeBytes = before }()
	for seed := range uint64(syntheticSeeds) {
		dir := j.Temp(fmt.Sprintf("synthetic-%d", seed))
		if err := writeSynthetic(dir, rand.New(rand.NewPCG(seed, 2))); err != nil {
			return fmt.Errorf("seed %d: %w", seed, err)
		}
		what := fmt.Sprintf("seed %d", seed)
		compareRecords(j, what, dir)
		compareCopies(j, what, dir, dir+"-copies")
	}
	return nil
}

func writeSynthetic(dir string, rng *rand.Rand) error {
	w, err := wal.Create(zap.NewNop(), dir, fmt.Appendf(nil, "metadata %d", rng.Uint64()))
	if err != nil {
		return err
	}
	defer w.Close()
	w.SetUnsafeNoFsync()
	term, commit, last, marked := uint64(1), uint64(0), uint64(0), uint64(0)
	terms := map[uint64]uint64{}
	for range 20 + rng.IntN(150) {
		if rng.IntN(12) == 0 {
			// A new leader may overwrite what was not committed.
			term += 1 + rng.Uint64N(3)
			last = commit + rng.Uint64N(last-commit+1)
		}
		var entries []*raftpb.Entry
		for range rng.IntN(12) {
			last++
			terms[last] = term
			entries = append(entries, randomEntry(rng, term, last))
		}
		commit += rng.Uint64N(last - commit + 1)
		state := &raftpb.HardState{Term: &term, Vote: proto.Uint64(rng.Uint64()), Commit: proto.Uint64(commit)}
		if err := w.Save(state, entries); err != nil {
			return err
		}
		if rng.IntN(10) == 0 && commit > marked {
			marked = commit
			confState := &raftpb.ConfState{Voters: []uint64{1, rng.Uint64() | 1<<63}, AutoLeave: proto.Bool(false)}
			snapshot := &walpb.Snapshot{Index: proto.Uint64(commit), Term: proto.Uint64(terms[commit]), ConfState: confState}
			if err := w.SaveSnapshot(snapshot); err != nil {
				return err
			}
		}
	}
	return w.Sync()
}

func randomEntry(rng *rand.Rand, term, index uint64) *raftpb.Entry {
	e := &raftpb.Entry{Term: proto.Uint64(term), Index: proto.Uint64(index)}
	switch p := rng.IntN(60); {
	case p < 4:
		e.Type, e.Data = membershipChange(rng)
	case p < 6:
		// A new leader's first entry.
	case p < 7:
		e.Data = randomBytes(rng, rng.IntN(200_000))
	default:
		e.Data = randomBytes(rng, rng.IntN(300))
	}
	if e.Type == nil && rng.IntN(2) == 0 {
		// Up to 3.6 the type is written even where it is zero.
		e.Type = raftpb.EntryNormal.Enum()
	}
	return e
}

// membershipChange makes a change of either kind, or the empty one that leaves a joint configuration.
func membershipChange(rng *rand.Rand) (*raftpb.EntryType, []byte) {
	node := proto.Uint64(rng.Uint64())
	switch rng.IntN(3) {
	case 0:
		return raftpb.EntryConfChange.Enum(), marshal(&raftpb.ConfChange{Id: proto.Uint64(rng.Uint64()),
			Type: raftpb.ConfChangeType(rng.IntN(4)).Enum(), NodeId: node, Context: randomBytes(rng, rng.IntN(100))})
	case 1:
		return raftpb.EntryConfChangeV2.Enum(), marshal(&raftpb.ConfChangeV2{Context: randomBytes(rng, rng.IntN(100)),
			Changes: []*raftpb.ConfChangeSingle{{Type: raftpb.ConfChangeType(rng.IntN(4)).Enum(), NodeId: node}}})
	default:
		return raftpb.EntryConfChangeV2.Enum(), nil
	}
}

func marshal(m proto.Message) []byte {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	return data
}

func randomBytes(rng *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return data
}
