package main

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"stanchion.invalid/conformance/internal/harness"
)

// maxWatchers is the number of watchers on a stream before one is cancelled for each new one.
const maxWatchers = 10

// watchStep does one thing to one of the watch streams.
func (r *round) watchStep(ctx context.Context) {
	w := r.watches[r.gen.rng.IntN(len(r.watches))]
	r.sent++
	r.byMethod["/etcdserverpb.Watch/Watch"]++
	var err error
	switch n := r.gen.rng.IntN(10); {
	case n < 5 && len(w.live) < maxWatchers:
		err = r.createWatcher(w)
	case n < 8 && len(w.live) > 0:
		err = r.cancelWatcher(ctx, w)
	case n < 9:
		err = r.askProgress(ctx, w)
	default:
		err = w.send(r.gen.ignoredWatchRequest())
	}
	if err != nil {
		r.report(fmt.Errorf("watch: %w", err))
	}
}

func (r *round) createWatcher(w *watchPair) error {
	c := r.gen.watchCreate(w.live)
	r.recent = append(r.recent, fmt.Sprintf("%d watch %s", r.sent, text(c)))
	if err := w.create(c); err != nil {
		return err
	}
	switch {
	case c.StartRevision > r.gen.revision:
		w.future = true
	case c.StartRevision != 0:
		r.history = true
	}
	if id := w.lastCreated(); id != -1 {
		w.live = append(w.live, id)
	}
	return nil
}

// cancelWatcher first waits until nothing is under way: whether an event that is queued still comes is open.
func (r *round) cancelWatcher(ctx context.Context, w *watchPair) error {
	r.settle(ctx)
	i := r.gen.rng.IntN(len(w.live))
	id := w.live[i]
	w.live = append(w.live[:i], w.live[i+1:]...)
	r.recent = append(r.recent, fmt.Sprintf("%d cancel watcher %d", r.sent, id))
	err := w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
	if err != nil {
		return err
	}
	if !w.await(harness.Patience, func(s *watchSide) bool { return len(s.control[id]) > 0 }) {
		return fmt.Errorf("no answer to the cancel of watcher %d", id)
	}
	return w.same()
}

func (r *round) askProgress(ctx context.Context, w *watchPair) error {
	r.settle(ctx)
	err := w.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
	if err != nil || w.future {
		return err
	}
	told := func(s *watchSide) bool { return len(s.progress) > 0 }
	limit := harness.Patience
	if w.wasCompacted(theirs) {
		limit = 2 * time.Second
	}
	if !w.await(limit, told) {
		// Ours does not come first where etcd is silent, so it is waited for once more.
		if w.wasCompacted(theirs) && w.told(theirs) == 0 && w.sides[ours].await(time.Now().Add(harness.Patience), told) && w.told(ours) == 1 {
			count(progressBesideCompacted)
			return nil
		}
		return fmt.Errorf("progress: etcd answered %d times, ours %d", w.told(theirs), w.told(ours))
	}
	a, b := w.sides[theirs].progress, w.sides[ours].progress
	return sameList(a[:1], b[:1])
}

// wasCompacted tells whether a watcher of this side's stream was told that its history is compacted.
func (w *watchPair) wasCompacted(side int) bool {
	s := w.sides[side]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compact
}

func (w *watchPair) told(side int) int {
	s := w.sides[side]
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.progress)
}

func (w *watchPair) lastCreated() int64 {
	s := w.sides[theirs]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastID
}

func (g *generator) watchCreate(live []int64) *pb.WatchCreateRequest {
	key := g.key()
	c := &pb.WatchCreateRequest{Key: key, RangeEnd: g.rangeEnd(key), PrevKv: g.chance(2), Fragment: g.chance(4)}
	switch g.rng.IntN(6) {
	case 0:
		c.StartRevision = g.aRevision()
	case 1:
		c.StartRevision = max(g.compact, g.revision-int64(g.rng.IntN(200)))
	case 2:
		c.StartRevision = g.revision + int64(g.rng.IntN(5))
	}
	if g.chance(6) {
		c.Filters = append(c.Filters, pb.WatchCreateRequest_FilterType(g.rng.IntN(3)))
	}
	switch g.rng.IntN(6) {
	case 0:
		c.WatchId = int64(g.rng.IntN(20))
	case 1:
		if len(live) > 0 {
			c.WatchId = pick(g, live...)
		}
	case 2:
		c.WatchId = pick(g, int64(-1), -7, 1<<62)
	}
	return c
}

// ignoredWatchRequest is one that no server answers.
func (g *generator) ignoredWatchRequest() *pb.WatchRequest {
	if g.chance(2) {
		return &pb.WatchRequest{}
	}
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{
		CancelRequest: &pb.WatchCancelRequest{WatchId: 123456}}}
}
