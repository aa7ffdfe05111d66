package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"stanchion.invalid/conformance/internal/harness"
)

// sentinelKey is watched by every stream; its event tells that what came before it has arrived.
const sentinelKey = "sentinel"

// sentinelID is the id of that watcher.
const sentinelID = int64(1) << 40

// watchPair is one watch stream on each side, with the same watchers.
type watchPair struct {
	sides [2]*watchSide
	// live are ids of watchers that have not been cancelled by us.
	live []int64
	// future is true once some watcher waits for a revision that may never come: no progress is told then.
	future bool
	// creates counts the watchers asked for.
	creates int
}

// watchSide is what one side's stream has said so far, watcher by watcher.
type watchSide struct {
	stream pb.Watch_WatchClient
	cancel context.CancelFunc

	mu       sync.Mutex
	changed  *sync.Cond
	events   map[int64][]*mvccpb.Event
	control  map[int64][]*pb.WatchResponse
	created  int
	lastID   int64 // the id of the last created answer
	progress []*pb.WatchResponse
	highest  map[int64]int64 // the last revision whose events a watcher got
	ended    error
	compact  bool  // some watcher was told that its history is compacted
	broken   error // what the stream must never do
}

func (p *pair) openWatch() (*watchPair, error) {
	w := &watchPair{}
	for side, conn := range p.conns {
		ctx, cancel := context.WithCancel(context.Background())
		stream, err := pb.NewWatchClient(conn).Watch(ctx, grpc.ForceCodecV2(rawCodec{}))
		if err != nil {
			cancel()
			return nil, err
		}
		s := &watchSide{stream: stream, cancel: cancel, events: map[int64][]*mvccpb.Event{},
			control: map[int64][]*pb.WatchResponse{}, highest: map[int64]int64{}}
		s.changed = sync.NewCond(&s.mu)
		w.sides[side] = s
		go s.receive(&p.names, side)
	}
	return w, w.create(&pb.WatchCreateRequest{Key: []byte(sentinelKey), WatchId: sentinelID})
}

func (w *watchPair) close() {
	for _, s := range w.sides {
		if s != nil {
			s.cancel()
		}
	}
}

func (s *watchSide) receive(names *autoNames, side int) {
	for {
		r, err := s.stream.Recv()
		s.mu.Lock()
		if err != nil {
			s.ended = err
			s.changed.Broadcast()
			s.mu.Unlock()
			return
		}
		names.read(side, r)
		s.take(r)
		s.changed.Broadcast()
		s.mu.Unlock()
	}
}

// take files a response, and checks what holds for each side alone: events of a watcher come in order, and those of one
// revision in one response.
func (s *watchSide) take(r *pb.WatchResponse) {
	if len(r.Events) > 0 {
		for _, e := range r.Events {
			if e.Kv.ModRevision < s.highest[r.WatchId] {
				s.broken = fmt.Errorf("watcher %d went back to revision %d", r.WatchId, e.Kv.ModRevision)
			}
		}
		if first := r.Events[0].Kv.ModRevision; first == s.highest[r.WatchId] {
			s.broken = fmt.Errorf("watcher %d got revision %d in two responses", r.WatchId, first)
		}
		last := r.Events[len(r.Events)-1].Kv.ModRevision
		s.highest[r.WatchId] = last
		if r.Header.Revision < last {
			s.broken = fmt.Errorf("watcher %d: header %d below its events' %d", r.WatchId, r.Header.Revision, last)
		}
		s.events[r.WatchId] = append(s.events[r.WatchId], r.Events...)
	}
	switch {
	case r.Created || r.Canceled:
		s.control[r.WatchId] = append(s.control[r.WatchId], r)
		s.compact = s.compact || r.CompactRevision != 0
		if r.Created {
			s.created++
			s.lastID = r.WatchId
			delete(s.highest, r.WatchId)
		}
	case len(r.Events) == 0:
		s.progress = append(s.progress, r)
	}
}

// await waits until a condition on both sides holds; it gives false after the limit.
func (w *watchPair) await(limit time.Duration, holds func(s *watchSide) bool) bool {
	deadline := time.Now().Add(limit)
	return w.sides[theirs].await(deadline, holds) && w.sides[ours].await(deadline, holds)
}

// await waits until a condition holds, or the stream has ended; it gives false after the deadline.
func (s *watchSide) await(deadline time.Time, holds func(s *watchSide) bool) bool {
	wake := time.AfterFunc(time.Until(deadline), func() {
		s.mu.Lock()
		s.changed.Broadcast()
		s.mu.Unlock()
	})
	defer wake.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !holds(s) && s.ended == nil && time.Now().Before(deadline) {
		s.changed.Wait()
	}
	return holds(s)
}

func (w *watchPair) send(r *pb.WatchRequest) error {
	for _, s := range w.sides {
		if err := s.stream.Send(proto.Clone(r).(*pb.WatchRequest)); err != nil {
			return err
		}
	}
	return nil
}

// create asks for a watcher and waits for both answers.
func (w *watchPair) create(c *pb.WatchCreateRequest) error {
	w.creates++
	err := w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}})
	if err != nil {
		return err
	}
	if !w.await(harness.Patience, func(s *watchSide) bool { return s.created >= w.creates }) {
		return fmt.Errorf("no answer to %s", text(c))
	}
	return nil
}

// same compares all that both sides have said, watcher by watcher, and forgets it if it is the same. Both at once: what
// comes to one side in between would be missed there.
func (w *watchPair) same() error {
	a, b := w.sides[theirs], w.sides[ours]
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range []*watchSide{a, b} {
		if s.broken != nil || s.ended != nil {
			return fmt.Errorf("side %d: %v %v", i, s.broken, s.ended)
		}
	}
	ids := map[int64]bool{}
	for _, s := range w.sides {
		for id := range s.events {
			ids[id] = true
		}
		for id := range s.control {
			ids[id] = true
		}
	}
	for id := range ids {
		if err := sameList(a.control[id], b.control[id]); err != nil {
			return fmt.Errorf("watcher %d: answers: %w", id, err)
		}
		if err := sameList(a.events[id], b.events[id]); err != nil {
			return fmt.Errorf("watcher %d: events: %w", id, err)
		}
	}
	a.forget()
	b.forget()
	return nil
}

// forget drops what was said so far; the caller holds the lock.
func (s *watchSide) forget() {
	s.events, s.control, s.progress = map[int64][]*mvccpb.Event{}, map[int64][]*pb.WatchResponse{}, nil
}

func sameList[T proto.Message](a, b []T) error {
	for i := range min(len(a), len(b)) {
		if !proto.Equal(a[i], b[i]) {
			return fmt.Errorf("number %d:\n      etcd %.1000s\n      ours %.1000s", i, text(a[i]), text(b[i]))
		}
	}
	if len(a) != len(b) {
		var rest strings.Builder
		for _, m := range a[min(len(a), len(b)):] {
			fmt.Fprintf(&rest, " etcd {%.300s}", text(m))
		}
		for _, m := range b[min(len(a), len(b)):] {
			fmt.Fprintf(&rest, " ours {%.300s}", text(m))
		}
		return fmt.Errorf("etcd has %d, ours %d:%.2000s", len(a), len(b), rest.String())
	}
	return nil
}

// forgetDifferent drops what differs, which was reported once.
func (w *watchPair) forgetDifferent() {
	for _, s := range w.sides {
		s.mu.Lock()
		s.forget()
		s.mu.Unlock()
	}
}
