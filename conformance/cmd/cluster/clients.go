package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

const (
	prefix = "r/"
	// Registers at the same time; a new set begins with every epoch, so that no search for an order gets long.
	registers = 5
	epoch     = 4 * time.Second
	// How long a client waits for an answer before it goes to another member.
	patience = 2 * time.Second
	pause    = 15 * time.Millisecond
)

// load is the clients: writers and readers of registers, and watchers of all of them.
type load struct {
	cluster  *members.Cluster
	recorder *recorder
	ctx      context.Context
	stop     context.CancelFunc
	done     sync.WaitGroup
	watchers []*watcher
	// values are never written twice.
	mu     sync.Mutex
	values int
}

func startLoad(c *members.Cluster, seed uint64, clients, watchers int) (*load, error) {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{cluster: c, recorder: newRecorder(), ctx: ctx, stop: stop}
	for i := range clients {
		l.done.Add(1)
		go l.work(rand.New(rand.NewPCG(seed, uint64(100+i))))
	}
	for range watchers {
		w, err := startWatcher(ctx, c)
		if err != nil {
			return l, err
		}
		l.watchers = append(l.watchers, w)
	}
	return l, nil
}

func (l *load) value() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.values++
	return fmt.Sprintf("v%d", l.values)
}

// work is one client: one operation after the other, at one member until that does not answer.
func (l *load) work(rng *rand.Rand) {
	defer l.done.Done()
	number := l.recorder.client()
	for l.ctx.Err() == nil {
		all := l.cluster.Members()
		client, err := all[rng.IntN(len(all))].Connect()
		if err != nil {
			continue
		}
		// A new member now and then, also without trouble.
		for range 50 + rng.IntN(200) {
			if !l.one(client, rng, number) {
				// Its operation may still take effect: who goes on is somebody else.
				number = l.recorder.client()
				break
			}
			time.Sleep(time.Duration(rng.Int64N(int64(2 * pause))))
			if l.ctx.Err() != nil {
				break
			}
		}
		client.Close()
	}
}

// one does one operation; false if no answer came.
func (l *load) one(client *clientv3.Client, rng *rand.Rand, number int) bool {
	r := l.recorder
	in := input{key: fmt.Sprintf("%s%04d/%d", prefix, time.Duration(r.now())/epoch, rng.IntN(registers))}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if p := rng.IntN(10); p < 3 {
		in.kind = read
	} else if p < 6 {
		in.kind, in.value = write, l.value()
	} else if p < 9 {
		// What is there now, as far as anybody knows.
		got, err := client.Get(ctx, in.key, clientv3.WithSerializable())
		if err != nil {
			return false
		}
		if len(got.Kvs) == 1 {
			in.old = string(got.Kvs[0].Value)
		}
		in.kind, in.value = compareAndSwap, l.value()
	} else {
		in.kind = remove
	}
	call := r.now()
	out, revision, err := perform(ctx, client, in)
	if err != nil {
		if in.kind != read {
			r.add(number, in, call, output{unknown: true}, 0)
		}
		return false
	}
	r.add(number, in, call, out, revision)
	return true
}

// perform does an operation; the revision is that of an acknowledged write, else 0.
func perform(ctx context.Context, client *clientv3.Client, in input) (output, int64, error) {
	switch in.kind {
	case read:
		got, err := client.Get(ctx, in.key)
		if err != nil {
			return output{}, 0, err
		}
		if len(got.Kvs) == 0 {
			return output{}, 0, nil
		}
		return output{value: string(got.Kvs[0].Value)}, 0, nil
	case write:
		put, err := client.Put(ctx, in.key, in.value)
		if err != nil {
			return output{}, 0, err
		}
		return output{}, put.Header.Revision, nil
	case remove:
		deleted, err := client.Delete(ctx, in.key)
		if err != nil {
			return output{}, 0, err
		}
		return output{done: deleted.Deleted > 0}, 0, nil
	default:
		expected := clientv3.Compare(clientv3.Value(in.key), "=", in.old)
		if in.old == "" {
			expected = clientv3.Compare(clientv3.Version(in.key), "=", 0)
		}
		txn, err := client.Txn(ctx).If(expected).Then(clientv3.OpPut(in.key, in.value)).Commit()
		if err != nil {
			return output{}, 0, err
		}
		if !txn.Succeeded {
			return output{}, 0, nil
		}
		return output{done: true}, txn.Header.Revision, nil
	}
}

// finish ends the writers, and reads every register once more: what was acknowledged and is lost is found by that.
func (l *load) finish() error {
	l.stop()
	l.done.Wait()
	keys := map[string]bool{}
	for _, op := range l.recorder.history {
		keys[op.Input.(input).key] = true
	}
	number := l.recorder.client()
	client, err := members.Connect(l.cluster.Endpoints()...)
	if err != nil {
		return err
	}
	defer client.Close()
	for key := range keys {
		in := input{kind: read, key: key}
		err := harness.Again(context.Background(), func(ctx context.Context) error {
			call := l.recorder.now()
			out, _, err := perform(ctx, client, in)
			if err == nil {
				l.recorder.add(number, in, call, out, 0)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("the last read of %s: %w", key, err)
		}
	}
	return nil
}
