package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"stanchion.invalid/conformance/internal/harness"
)

// watchHistory replays more revisions than one batch holds, meets compactions, and asks for progress.
func watchHistory(ctx context.Context, r *round) error {
	for i := range 2500 {
		r.put(ctx, fmt.Sprintf("h/%d", i%7), fmt.Sprint(i), 0)
	}
	w, err := r.pair.openWatch()
	if err != nil {
		return err
	}
	defer w.close()
	r.watches = append(r.watches, w)
	all := func(c *pb.WatchCreateRequest) error {
		c.Key, c.RangeEnd = []byte("h/"), []byte("h0")
		r.history = true
		return w.create(c)
	}
	for _, start := range []int64{1, 2, 1500, 2501} {
		if err := all(&pb.WatchCreateRequest{StartRevision: start, PrevKv: start == 1500}); err != nil {
			return err
		}
	}
	r.settle(ctx)
	r.call(ctx, "/etcdserverpb.KV/Compact", &pb.CompactionRequest{Revision: 2000, Physical: true})
	for _, start := range []int64{-5, 1, 1999, 2000, 2001} {
		if err := all(&pb.WatchCreateRequest{StartRevision: start, PrevKv: true}); err != nil {
			return err
		}
	}
	r.settle(ctx)
	// Periodic progress: each side must tell it for the one watcher that asked, with the current revision.
	if err := all(&pb.WatchCreateRequest{ProgressNotify: true, WatchId: 77}); err != nil {
		return err
	}
	r.settle(ctx)
	if !w.await(harness.Patience, func(s *watchSide) bool { return len(s.progress) >= 2 }) {
		return fmt.Errorf("periodic progress: etcd %d times, ours %d", w.told(theirs), w.told(ours))
	}
	return sameList(w.sides[theirs].progress[:2], w.sides[ours].progress[:2])
}

// watchFragments compares how a revision of several large events is cut.
func watchFragments(ctx context.Context, r *round) error {
	var shapes [2][]string
	var streams [2]pb.Watch_WatchClient
	for side, conn := range r.pair.conns {
		stream, err := pb.NewWatchClient(conn).Watch(ctx, grpc.ForceCodecV2(rawCodec{}))
		if err != nil {
			return err
		}
		streams[side] = stream
		for _, fragment := range []bool{true, false} {
			c := &pb.WatchCreateRequest{Key: []byte("f"), RangeEnd: []byte("g"), Fragment: fragment}
			if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}); err != nil {
				return err
			}
			if _, err := stream.Recv(); err != nil {
				return err
			}
		}
	}
	// Deleting with prev_kv does not make events large, so each round puts large values and reads what comes.
	r.call(ctx, "/etcdserverpb.KV/Put", &pb.PutRequest{Key: []byte("f0"), Value: bytes.Repeat([]byte{'f'}, 1_400_000)})
	t := &pb.TxnRequest{}
	for i := range 100 {
		t.Success = append(t.Success, putOp(fmt.Sprintf("f%03d", i), bytes.Repeat([]byte{'f'}, 14_000)))
	}
	r.call(ctx, "/etcdserverpb.KV/Txn", t)
	for side, stream := range streams {
		events := 0
		for events < 2*101 {
			m, err := stream.Recv()
			if err != nil {
				return fmt.Errorf("side %d after %d events: %w", side, events, err)
			}
			events += len(m.Events)
			shapes[side] = append(shapes[side], fmt.Sprintf("%d:%d@%d fragment %t", m.WatchId, len(m.Events), m.Header.Revision, m.Fragment))
		}
	}
	if a, b := fmt.Sprint(sorted(shapes[theirs])), fmt.Sprint(sorted(shapes[ours])); a != b {
		return fmt.Errorf("shapes: etcd %s, ours %s", a, b)
	}
	return fragmentsOfHistory(ctx, r)
}

// fragmentsOfHistory reads 3 MB of history in one go: a batch above the limit is cut for those who asked for it.
func fragmentsOfHistory(ctx context.Context, r *round) error {
	for i := range 5 {
		r.call(ctx, "/etcdserverpb.KV/Put", &pb.PutRequest{Key: []byte("hf"), Value: bytes.Repeat([]byte{byte(i)}, 1_000_000)})
	}
	var shapes [2]string
	for side, conn := range r.pair.conns {
		stream, err := pb.NewWatchClient(conn).Watch(ctx, grpc.ForceCodecV2(rawCodec{}))
		if err != nil {
			return err
		}
		c := &pb.WatchCreateRequest{Key: []byte("hf"), StartRevision: 1, Fragment: true}
		if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}); err != nil {
			return err
		}
		for events := 0; events < 5; {
			m, err := stream.Recv()
			if err != nil {
				return err
			}
			events += len(m.Events)
			shapes[side] += fmt.Sprintf("%d@%d fragment %t; ", len(m.Events), m.Header.Revision, m.Fragment)
		}
	}
	if shapes[theirs] != shapes[ours] {
		return fmt.Errorf("history: etcd %s, ours %s", shapes[theirs], shapes[ours])
	}
	return nil
}

// defragmentAndSnapshot checks the framing of a snapshot on each side, and that a defragmentation changes no answer.
func defragmentAndSnapshot(ctx context.Context, r *round) error {
	for i := range 400 {
		r.put(ctx, fmt.Sprintf("s/%d", i%90), string(bytes.Repeat([]byte{'s'}, 900)), 0)
	}
	r.call(ctx, "/etcdserverpb.KV/Compact", &pb.CompactionRequest{Revision: 350, Physical: true})
	r.call(ctx, "/etcdserverpb.Maintenance/Defragment", &pb.DefragmentRequest{})
	r.prefix(ctx, "s/")
	r.call(ctx, "/etcdserverpb.Maintenance/HashKV", &pb.HashKVRequest{})
	for side, conn := range r.pair.conns {
		if err := snapshotFraming(ctx, conn); err != nil {
			r.report(fmt.Errorf("snapshot of side %d: %w", side, err))
		}
	}
	return nil
}

func snapshotFraming(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := pb.NewMaintenanceClient(conn).Snapshot(ctx, &pb.SnapshotRequest{})
	if err != nil {
		return err
	}
	hash := sha256.New()
	var previous *pb.SnapshotResponse
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if m.Header != nil || m.Version != "3.7.0" {
			return fmt.Errorf("header %v, version %q", m.Header, m.Version)
		}
		if previous != nil {
			hash.Write(previous.Blob)
			last := m.RemainingBytes == 0 && previous.RemainingBytes == 0
			if !last && (len(previous.Blob) != 32768 || previous.RemainingBytes != m.RemainingBytes+uint64(len(m.Blob))) {
				return fmt.Errorf("%d bytes with %d remaining, then %d with %d", len(previous.Blob), previous.RemainingBytes, len(m.Blob), m.RemainingBytes)
			}
		}
		previous = m
	}
	if previous == nil || !bytes.Equal(previous.Blob, hash.Sum(nil)) {
		return fmt.Errorf("the last message is not the SHA-256 of the others")
	}
	return nil
}
