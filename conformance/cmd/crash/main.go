// The judge of crashes: our server is killed at random under load, again and again. Afterwards every acknowledged write
// is there under the revision that was acknowledged, no revision is missing, and a watcher that resumed each time has
// seen each event once.
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

const (
	writers = 8
	// The time does not end a run before so many kills: on a slow machine it takes longer to say something.
	least = 50
)

func main() {
	harness.Run("crash", func(j *harness.Judge) error {
		kills := number("CRASH_KILLS", 200)
		seed := uint64(number("CRASH_SEED", int(time.Now().UnixNano()&0xffff)))
		j.Say("%d kills, seed %d", kills, seed)
		run := &run{
			rng:      rand.New(rand.NewPCG(seed, 1)),
			dir:      j.Temp("data"),
			deadline: time.Now().Add(time.Duration(number("CRASH_SECONDS", 150)) * time.Second),
			acked:    map[string]ack{},
			next:     1,
		}
		done, err := run.kill(kills)
		if err != nil {
			return fmt.Errorf("after %d kills (seed %d): %w", done, seed, err)
		}
		j.Check(nil, "killed %d times under load", done)
		return run.judge(j)
	})
}

func number(variable string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(variable)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

// ack is what a writer was told of a key: it was written at this revision.
type ack struct {
	revision int64
	value    string
}

type run struct {
	rng      *rand.Rand
	dir      string
	deadline time.Time

	mutex sync.Mutex
	acked map[string]ack
	count int

	// The watcher's: what it saw, and the revision that must come next.
	events []string
	next   int64
}

// kill starts, loads and kills the member up to n times.
func (r *run) kill(n int) (int, error) {
	for done := range n {
		if done >= least && time.Now().After(r.deadline) {
			return done, nil
		}
		// A small count, so that logs are released and snapshots made in between.
		e, err := harness.Start(harness.Ours, r.dir, "--snapshot-count=500")
		if err != nil {
			return done, err
		}
		if err := r.load(e, done); err != nil {
			return done, err
		}
	}
	return n, nil
}

// load writes and watches until the member is killed, after 20 to 300 ms.
func (r *run) load(e *harness.Etcd, cycle int) error {
	c, err := e.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := context.WithCancel(context.Background())
	var working sync.WaitGroup
	for w := range writers {
		working.Add(1)
		go func() {
			defer working.Done()
			r.write(ctx, c, cycle, w)
		}()
	}
	watched := make(chan error, 1)
	go func() { watched <- r.watch(ctx, c) }()
	time.Sleep(time.Duration(20+r.rng.IntN(280)) * time.Millisecond)
	e.Kill()
	stop()
	working.Wait()
	return <-watched
}

func (r *run) write(ctx context.Context, c *clientv3.Client, cycle, writer int) {
	for n := 0; ctx.Err() == nil; n++ {
		key := fmt.Sprintf("%d/%d", writer, n%50)
		value := fmt.Sprintf("cycle %d, write %d", cycle, n)
		answer, err := c.Put(ctx, key, value)
		if err != nil {
			return
		}
		r.mutex.Lock()
		r.acked[key] = ack{answer.Header.Revision, value}
		r.count++
		r.mutex.Unlock()
	}
}

// watch goes on where the last watcher was ended. Each write is a revision of its own here, so each event must be of
// the revision after the one before.
func (r *run) watch(ctx context.Context, c *clientv3.Client) error {
	if r.next == 1 {
		r.next = 2
	}
	for answer := range c.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(r.next)) {
		if answer.Canceled {
			return nil
		}
		for _, ev := range answer.Events {
			if ev.Kv.ModRevision != r.next {
				return fmt.Errorf("the watcher got revision %d, expected %d", ev.Kv.ModRevision, r.next)
			}
			r.events = append(r.events, text(ev))
			r.next++
		}
	}
	return nil
}

func text(ev *clientv3.Event) string {
	return fmt.Sprintf("%s %s", ev.Type, ev.Kv)
}

func (r *run) judge(j *harness.Judge) error {
	e, err := harness.Start(harness.Ours, r.dir)
	if err != nil {
		return err
	}
	defer e.Kill()
	c, err := e.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), harness.Patience)
	defer cancel()
	all, err := c.Get(ctx, "\x00", clientv3.WithFromKey())
	if err != nil {
		return err
	}
	j.Check(r.kept(all), "%d acknowledged writes, the newest of %d keys where it was promised", r.count, len(r.acked))
	history, err := read(ctx, c, all.Header.Revision)
	j.Check(err, "revisions 2 to %d without a gap", all.Header.Revision)
	if err != nil {
		return nil
	}
	j.Check(r.saw(history), "the watcher saw %d events, each once, as they stand in the history", len(r.events))
	return nil
}

// kept: what was acknowledged last of each key is there, or something newer.
func (r *run) kept(all *clientv3.GetResponse) error {
	found := map[string]ack{}
	for _, kv := range all.Kvs {
		found[string(kv.Key)] = ack{kv.ModRevision, string(kv.Value)}
	}
	for key, promised := range r.acked {
		now, there := found[key]
		switch {
		case !there:
			return fmt.Errorf("%s is lost, acknowledged at revision %d", key, promised.revision)
		case now.revision < promised.revision:
			return fmt.Errorf("%s is of revision %d, acknowledged at %d", key, now.revision, promised.revision)
		case now.revision == promised.revision && now.value != promised.value:
			return fmt.Errorf("%s is %q, acknowledged %q", key, now.value, promised.value)
		}
	}
	return nil
}

// read reads the whole history, in which each revision must follow the one before.
func read(ctx context.Context, c *clientv3.Client, to int64) ([]string, error) {
	var events []string
	next := int64(2)
	for answer := range c.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(2)) {
		if err := answer.Err(); err != nil {
			return nil, err
		}
		for _, ev := range answer.Events {
			if ev.Kv.ModRevision != next {
				return nil, fmt.Errorf("revision %d follows %d", ev.Kv.ModRevision, next-1)
			}
			events = append(events, text(ev))
			next++
		}
		if next > to {
			return events, nil
		}
	}
	return nil, fmt.Errorf("the watch ended at revision %d of %d", next-1, to)
}

// saw: an event that a watcher was shown is committed, so it stands in the history for good.
func (r *run) saw(history []string) error {
	if len(r.events) > len(history) {
		return fmt.Errorf("%d events seen, %d in the history", len(r.events), len(history))
	}
	for i, event := range r.events {
		if event != history[i] {
			return fmt.Errorf("seen %.200s, in the history %.200s", event, history[i])
		}
	}
	return nil
}
