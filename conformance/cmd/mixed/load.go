package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

// load writes all the while, to any member, and remembers what was acknowledged. A watch goes along, at whatever member is there.
type load struct {
	stop  context.CancelFunc
	done  sync.WaitGroup
	mu    sync.Mutex
	acked map[string]int64

	watched map[int64]bool
	gap     error
}

const prefix = "load/"

func startLoad(c *members.Cluster) (*load, error) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel, acked: map[string]int64{}, watched: map[int64]bool{}}
	for w := range 2 {
		l.done.Add(1)
		go func() {
			defer l.done.Done()
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%s%d/%06d", prefix, w, n)
				all := c.Members()
				m := all[(n+w)%len(all)]
				_ = m.With(5*time.Second, func(call context.Context, cl *clientv3.Client) error {
					put, err := cl.Put(call, key, key)
					if err == nil {
						l.mu.Lock()
						l.acked[key] = put.Header.Revision
						l.mu.Unlock()
					}
					return err
				})
			}
		}()
	}
	client, err := members.Connect(c.Endpoints()...)
	if err != nil {
		return nil, err
	}
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		for ctx.Err() == nil {
			client.SetEndpoints(c.Endpoints()...)
			time.Sleep(100 * time.Millisecond)
		}
	}()
	l.done.Add(1)
	go func() {
		defer l.done.Done()
		defer client.Close()
		var last int64
		// The client takes the watch up again by itself when the member is away.
		for response := range client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(1)) {
			for _, event := range response.Events {
				l.mu.Lock()
				if event.Kv.ModRevision <= last {
					l.gap = fmt.Errorf("revision %d came after %d", event.Kv.ModRevision, last)
				}
				last = event.Kv.ModRevision
				l.watched[last] = true
				l.mu.Unlock()
			}
		}
	}()
	return l, nil
}

// end stops the writers, and waits until the watch has shown everything that was acknowledged.
func (l *load) end() error {
	missing := members.Retry(harness.Patience, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		for key, revision := range l.acked {
			// The newest ones may be on their way.
			if !l.watched[revision] {
				return fmt.Errorf("the watch has not shown %s at revision %d", key, revision)
			}
		}
		return nil
	})
	l.stop()
	l.done.Wait()
	if l.gap != nil {
		return l.gap
	}
	return missing
}

// everywhere checks that each member has what was acknowledged.
func (l *load) everywhere(c *members.Cluster) error {
	for _, m := range c.Members() {
		found := map[string]bool{}
		err := m.Calmly(func(ctx context.Context, cl *clientv3.Client) error {
			all, err := cl.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
			if err == nil {
				for _, kv := range all.Kvs {
					found[string(kv.Key)] = true
				}
			}
			return err
		})
		if err != nil {
			return err
		}
		for key := range l.acked {
			if !found[key] {
				return fmt.Errorf("%s has lost %s, which was acknowledged", m, key)
			}
		}
	}
	return nil
}
