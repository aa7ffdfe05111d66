package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

// seen is one event as a watcher saw it.
type seen struct {
	revision   int64
	kind       string
	key, value string
}

// watcher follows all registers from the beginning, at whatever member is there.
type watcher struct {
	stop context.CancelFunc
	done chan struct{}

	mu     sync.Mutex
	events []seen
	err    error
}

func startWatcher(ctx context.Context, c *members.Cluster) (*watcher, error) {
	client, err := members.Connect(c.Endpoints()...)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &watcher{stop: stop, done: make(chan struct{})}
	go func() {
		// Members come and go.
		for ctx.Err() == nil {
			client.SetEndpoints(c.Endpoints()...)
			time.Sleep(200 * time.Millisecond)
		}
		client.Close()
	}()
	go func() {
		defer close(w.done)
		w.follow(ctx, client)
	}()
	return w, nil
}

func (w *watcher) follow(ctx context.Context, client *clientv3.Client) {
	for response := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		w.take(response)
	}
}

func (w *watcher) take(response clientv3.WatchResponse) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := response.Err(); err != nil {
		w.err = err
	}
	for _, e := range response.Events {
		w.events = append(w.events, seen{e.Kv.ModRevision, e.Type.String(), string(e.Kv.Key), string(e.Kv.Value)})
	}
}

func (w *watcher) last() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.events) == 0 {
		return 0
	}
	return w.events[len(w.events)-1].revision
}

// upTo waits until the watcher has seen a revision, and ends it.
func (w *watcher) upTo(revision int64) error {
	err := members.Retry(harness.Patience, func() error {
		if last := w.last(); last < revision {
			return fmt.Errorf("a watcher has stopped at revision %d of %d", last, revision)
		}
		return nil
	})
	w.stop()
	<-w.done
	if w.err != nil {
		return w.err
	}
	return err
}

// judgeWatches compares what the watchers saw with history as it is at rest: the same events in the same order, no one
// missing and no one twice; and every acknowledged write is in it at the revision that its client was told.
func judgeWatches(c *members.Cluster, l *load) (int, error) {
	client, err := members.Connect(c.Endpoints()...)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	// The revision of a write that comes after all that was acknowledged.
	end, err := mark(client)
	if err != nil {
		return 0, err
	}
	for i, w := range l.watchers {
		if err := w.upTo(end); err != nil {
			return 0, fmt.Errorf("watcher %d: %w", i, err)
		}
		end = max(end, w.last())
	}
	history, err := atRest(client, end)
	if err != nil {
		return 0, err
	}
	for i, w := range l.watchers {
		// A write that nobody waits for any more may have come through after this watcher was ended.
		expected := history[:sort.Search(len(history), func(at int) bool { return history[at].revision > w.last() })]
		for at, event := range expected {
			if at >= len(w.events) || w.events[at] != event {
				return 0, fmt.Errorf("watcher %d, event %d: %+v, expected %+v", i, at, w.events[min(at, len(w.events)):min(at+1, len(w.events))], event)
			}
		}
		if len(w.events) != len(expected) {
			return 0, fmt.Errorf("watcher %d saw %d events, there are %d", i, len(w.events), len(expected))
		}
	}
	written := map[string]int64{}
	for _, event := range history {
		written[event.key+"\x00"+event.value] = event.revision
	}
	for what, revision := range l.recorder.acked {
		if written[what] != revision {
			key, value, _ := strings.Cut(what, "\x00")
			return 0, fmt.Errorf("%s = %s was acknowledged at revision %d and stands at %d", key, value, revision, written[what])
		}
	}
	return len(history), nil
}

// mark writes, and gives the revision of that.
func mark(client *clientv3.Client) (revision int64, err error) {
	err = harness.Again(context.Background(), func(ctx context.Context) error {
		put, err := client.Put(ctx, prefix+"end", "")
		if err == nil {
			revision = put.Header.Revision
		}
		return err
	})
	return revision, err
}

// atRest reads the whole history once more, up to a revision, when nobody writes.
func atRest(client *clientv3.Client, end int64) ([]seen, error) {
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	w := &watcher{}
	for response := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
		w.take(response)
		if w.last() >= end {
			return w.events, nil
		}
	}
	return nil, fmt.Errorf("history could not be read up to revision %d: %w", end, errors.Join(w.err, ctx.Err()))
}
