package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/client/v3/leasing"
	"go.etcd.io/etcd/client/v3/mirror"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/client/v3/ordering"

	"stanchion.invalid/conformance/internal/harness"
)

// mutexes lets ten sessions count under one lock; the count must be exact, and never two inside.
func mutexes(ctx context.Context, b *bench) error {
	var wait sync.WaitGroup
	failures := make(chan error, 10)
	inside := make(chan struct{}, 1)
	for range 10 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			session, err := concurrency.NewSession(b.client, concurrency.WithTTL(120))
			if err != nil {
				failures <- err
				return
			}
			defer session.Close()
			mutex := concurrency.NewMutex(session, "mutex")
			for range 10 {
				if err := mutex.Lock(ctx); err != nil {
					failures <- err
					return
				}
				select {
				case inside <- struct{}{}:
				default:
					failures <- fmt.Errorf("two hold the lock")
				}
				got, err := b.client.Get(ctx, "mutex-count")
				if err != nil {
					failures <- err
					return
				}
				n := 0
				if len(got.Kvs) > 0 {
					n, _ = strconv.Atoi(string(got.Kvs[0].Value))
				}
				// The write is fenced by the lock's own key.
				_, err = b.client.Txn(ctx).If(mutex.IsOwner()).Then(clientv3.OpPut("mutex-count", strconv.Itoa(n+1))).Commit()
				<-inside
				if err = errors.Join(err, mutex.Unlock(ctx)); err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	wait.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	got, err := b.client.Get(ctx, "mutex-count")
	if err != nil || string(got.Kvs[0].Value) != "100" {
		return fmt.Errorf("counted %v %v", got, err)
	}
	one, err := concurrency.NewSession(b.client)
	if err != nil {
		return err
	}
	defer one.Close()
	two, err := concurrency.NewSession(b.client)
	if err != nil {
		return err
	}
	defer two.Close()
	first, second := concurrency.NewMutex(one, "try"), concurrency.NewMutex(two, "try")
	if err := first.TryLock(ctx); err != nil {
		return err
	}
	if err := second.TryLock(ctx); !errors.Is(err, concurrency.ErrLocked) {
		return fmt.Errorf("a second TryLock: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := second.Lock(short); !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("a lock that is held: %v", err)
	}
	return first.Unlock(ctx)
}

// sessionEnds loses a session's lease: the waiter gets the lock, and the session says that it is over.
func sessionEnds(ctx context.Context, b *bench) error {
	holder, err := concurrency.NewSession(b.client, concurrency.WithTTL(60))
	if err != nil {
		return err
	}
	waiter, err := concurrency.NewSession(b.client, concurrency.WithTTL(60))
	if err != nil {
		return err
	}
	defer waiter.Close()
	if err := concurrency.NewMutex(holder, "ends").Lock(ctx); err != nil {
		return err
	}
	got := make(chan error, 1)
	go func() { got <- concurrency.NewMutex(waiter, "ends").Lock(ctx) }()
	if _, err := b.client.Revoke(ctx, holder.Lease()); err != nil {
		return err
	}
	if err := <-got; err != nil {
		return err
	}
	select {
	case <-holder.Done():
		return nil
	case <-time.After(harness.Patience):
		return fmt.Errorf("the session does not notice that its lease is gone")
	}
}

func elections(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var candidates []*concurrency.Election
	for range 3 {
		session, err := concurrency.NewSession(b.client)
		if err != nil {
			return err
		}
		defer session.Close()
		candidates = append(candidates, concurrency.NewElection(session, "election"))
	}
	watcher, err := concurrency.NewSession(b.client)
	if err != nil {
		return err
	}
	defer watcher.Close()
	observed := concurrency.NewElection(watcher, "election").Observe(ctx)
	for i, c := range candidates {
		if err := c.Campaign(ctx, fmt.Sprintf("candidate %d", i)); err != nil {
			return err
		}
		if r := <-observed; len(r.Kvs) != 1 || string(r.Kvs[0].Value) != fmt.Sprintf("candidate %d", i) {
			return fmt.Errorf("observed %v", r)
		}
		if err := c.Proclaim(ctx, "changed"); err != nil {
			return err
		}
		if r := <-observed; len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "changed" {
			return fmt.Errorf("observed %v", r)
		}
		leader, err := c.Leader(ctx)
		if err != nil || string(leader.Kvs[0].Value) != "changed" {
			return fmt.Errorf("leader %v %v", leader, err)
		}
		if err := c.Resign(ctx); err != nil {
			return err
		}
	}
	_, err = candidates[0].Leader(ctx)
	return expect(errors.Is(err, concurrency.ErrElectionNoLeader), "leader of nothing: %v", err)
}

// softwareTransactions moves money between ten accounts from eight sides; the sum stays.
func softwareTransactions(ctx context.Context, b *bench) error {
	for i := range 10 {
		if _, err := b.client.Put(ctx, fmt.Sprintf("account/%d", i), "100"); err != nil {
			return err
		}
	}
	levels := []concurrency.Isolation{concurrency.SerializableSnapshot, concurrency.Serializable, concurrency.RepeatableReads}
	failures := make(chan error, 8)
	var wait sync.WaitGroup
	for side := range 8 {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for n := range 25 {
				from, to := fmt.Sprintf("account/%d", (side+n)%10), fmt.Sprintf("account/%d", (side*3+n*7+1)%10)
				_, err := concurrency.NewSTM(b.client, func(s concurrency.STM) error {
					x, _ := strconv.Atoi(s.Get(from))
					y, _ := strconv.Atoi(s.Get(to))
					if from != to {
						s.Put(from, strconv.Itoa(x-1))
						s.Put(to, strconv.Itoa(y+1))
					}
					return nil
				}, concurrency.WithIsolation(levels[side%3]), concurrency.WithAbortContext(ctx))
				if err != nil {
					failures <- err
					return
				}
			}
		}()
	}
	wait.Wait()
	select {
	case err := <-failures:
		return err
	default:
	}
	got, err := b.client.Get(ctx, "account/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	sum := 0
	for _, kv := range got.Kvs {
		n, err := strconv.Atoi(string(kv.Value))
		if err != nil {
			return err
		}
		sum += n
	}
	return expect(sum == 1000, "the accounts hold %d", sum)
}

// leasingCache lets two caching clients change the same keys: each sees the other's writes.
func leasingCache(ctx context.Context, b *bench) error {
	other, err := b.another()
	if err != nil {
		return err
	}
	defer other.Close()
	one, closeOne, err := leasing.NewKV(b.client, "leasing/")
	if err != nil {
		return err
	}
	defer closeOne()
	two, closeTwo, err := leasing.NewKV(other, "leasing/")
	if err != nil {
		return err
	}
	defer closeTwo()
	for i := range 20 {
		writer, reader := one, two
		if i%2 == 1 {
			writer, reader = two, one
		}
		want := fmt.Sprint(i)
		if _, err := writer.Put(ctx, "cached", want); err != nil {
			return err
		}
		for _, kv := range []clientv3.KV{reader, writer, reader} {
			got, err := kv.Get(ctx, "cached")
			if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != want {
				return fmt.Errorf("round %d: %v %v", i, got, err)
			}
		}
		txn, err := reader.Txn(ctx).If(clientv3.Compare(clientv3.Value("cached"), "=", want)).Then(clientv3.OpDelete("cached")).Commit()
		if err != nil || !txn.Succeeded {
			return fmt.Errorf("round %d: transaction %v %v", i, txn, err)
		}
		if got, err := writer.Get(ctx, "cached"); err != nil || len(got.Kvs) != 0 {
			return fmt.Errorf("round %d: after the delete %v %v", i, got, err)
		}
	}
	return nil
}

func mirrors(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range 2500 {
		if _, err := b.client.Put(ctx, fmt.Sprintf("mirror/%04d", i), "base"); err != nil {
			return err
		}
	}
	syncer := mirror.NewSyncer(b.client, "mirror/", 0)
	pages, failures := syncer.SyncBase(ctx)
	keys := map[string]string{}
	for page := range pages {
		for _, kv := range page.Kvs {
			keys[string(kv.Key)] = string(kv.Value)
		}
	}
	if err := <-failures; err != nil {
		return err
	}
	if len(keys) != 2500 {
		return fmt.Errorf("%d keys at the base", len(keys))
	}
	updates := syncer.SyncUpdates(ctx)
	for i := range 50 {
		if _, err := b.client.Put(ctx, fmt.Sprintf("mirror/%04d", i), "new"); err != nil {
			return err
		}
	}
	for seen := 0; seen < 50; {
		r, ok := <-updates
		if !ok || r.Err() != nil {
			return fmt.Errorf("updates ended after %d: %w", seen, r.Err())
		}
		seen += len(r.Events)
	}
	return nil
}

func namespaces(ctx context.Context, b *bench) error {
	kv := namespace.NewKV(b.client, "ns/")
	watcher := namespace.NewWatcher(b.client.Watcher, "ns/")
	defer watcher.Close()
	lease := namespace.NewLease(b.client, "ns/")
	events := watcher.Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-events
	granted, err := lease.Grant(ctx, 100)
	if err != nil {
		return err
	}
	if _, err := kv.Put(ctx, "a", "1", clientv3.WithLease(granted.ID)); err != nil {
		return err
	}
	if r := <-events; len(r.Events) != 1 || string(r.Events[0].Kv.Key) != "a" {
		return fmt.Errorf("watched %v", r)
	}
	left, err := lease.TimeToLive(ctx, granted.ID, clientv3.WithAttachedKeys())
	if err != nil || len(left.Keys) != 1 || string(left.Keys[0]) != "a" {
		return fmt.Errorf("keys of the lease %v %v", left, err)
	}
	txn, err := kv.Txn(ctx).If(clientv3.Compare(clientv3.Version("a"), "=", 1)).Then(clientv3.OpGet("", clientv3.WithFromKey())).Commit()
	if err != nil || !txn.Succeeded || len(txn.Responses[0].GetResponseRange().Kvs) != 1 {
		return fmt.Errorf("transaction %v %v", txn, err)
	}
	plain, err := b.client.Get(ctx, "ns/a")
	return expect(err == nil && plain.Count == 1, "without namespace: %v %v", plain, err)
}

func orderings(ctx context.Context, b *bench) error {
	kv := ordering.NewKV(b.client.KV, func(clientv3.Op, clientv3.OpResponse, int64) error {
		return fmt.Errorf("an answer went back in time")
	})
	for i := range 100 {
		if _, err := kv.Put(ctx, "ordered", fmt.Sprint(i)); err != nil {
			return err
		}
		got, err := kv.Get(ctx, "ordered", clientv3.WithSerializable())
		if err != nil || string(got.Kvs[0].Value) != fmt.Sprint(i) {
			return fmt.Errorf("%d: %v %v", i, got, err)
		}
	}
	return nil
}
