package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

// expect makes an error of a condition that does not hold.
func expect(holds bool, format string, args ...any) error {
	if holds {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func keyValue(ctx context.Context, b *bench) error {
	c := b.client
	if _, err := c.Put(ctx, "kv/a", "1"); err != nil {
		return err
	}
	put, err := c.Put(ctx, "kv/a", "2", clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	if put.PrevKv == nil || string(put.PrevKv.Value) != "1" || put.PrevKv.Version != 1 {
		return fmt.Errorf("previous pair %v", put.PrevKv)
	}
	for i := range 10 {
		if _, err := c.Put(ctx, fmt.Sprintf("kv/n/%d", i), strings.Repeat("x", 9-i)); err != nil {
			return err
		}
	}
	got, err := c.Get(ctx, "kv/n/", clientv3.WithPrefix(), clientv3.WithLimit(3),
		clientv3.WithSort(clientv3.SortByValue, clientv3.SortAscend))
	if err != nil {
		return err
	}
	if len(got.Kvs) != 3 || !got.More || got.Count != 10 || string(got.Kvs[0].Key) != "kv/n/9" {
		return fmt.Errorf("sorted range %v", got)
	}
	got, err = c.Get(ctx, "kv/n/5", clientv3.WithFromKey(), clientv3.WithKeysOnly(), clientv3.WithSerializable())
	if err != nil {
		return err
	}
	if len(got.Kvs) < 5 || len(got.Kvs[0].Value) != 0 {
		return fmt.Errorf("keys only %v", got)
	}
	_, err = c.Put(ctx, "", "v")
	if !errors.Is(err, rpctypes.ErrEmptyKey) {
		return fmt.Errorf("empty key: %v", err)
	}
	_, err = c.Put(ctx, "kv/none", "", clientv3.WithIgnoreValue())
	if !errors.Is(err, rpctypes.ErrKeyNotFound) {
		return fmt.Errorf("ignore value: %v", err)
	}
	_, err = c.Put(ctx, "kv/big", strings.Repeat("x", 1_600_000))
	if !errors.Is(err, rpctypes.ErrRequestTooLarge) {
		return fmt.Errorf("large value: %v", err)
	}
	deleted, err := c.Delete(ctx, "kv/n/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	if err != nil {
		return err
	}
	return expect(deleted.Deleted == 10 && len(deleted.PrevKvs) == 10, "deleted %v", deleted)
}

func transactions(ctx context.Context, b *bench) error {
	c := b.client
	txn, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version("txn/a"), "=", 0)).
		Then(clientv3.OpPut("txn/a", "1"), clientv3.OpTxn(
			[]clientv3.Cmp{clientv3.Compare(clientv3.Value("txn/a"), "=", "1")},
			[]clientv3.Op{clientv3.OpPut("txn/then", "")}, []clientv3.Op{clientv3.OpPut("txn/else", "")})).
		Else(clientv3.OpGet("txn/a")).Commit()
	if err != nil {
		return err
	}
	if !txn.Succeeded || len(txn.Responses) != 2 {
		return fmt.Errorf("answer %v", txn)
	}
	// Compares are decided before anything is written, so the nested branch is the other one.
	got, err := c.Get(ctx, "txn/else")
	if err != nil || got.Count != 1 {
		return fmt.Errorf("nested branch: %v %v", got, err)
	}
	_, err = c.Txn(ctx).Then(clientv3.OpPut("txn/x", "1"), clientv3.OpPut("txn/x", "2")).Commit()
	if !errors.Is(err, rpctypes.ErrDuplicateKey) {
		return fmt.Errorf("duplicate key: %v", err)
	}
	var many []clientv3.Op
	for i := range 129 {
		many = append(many, clientv3.OpPut(fmt.Sprintf("txn/%d", i), ""))
	}
	_, err = c.Txn(ctx).Then(many...).Commit()
	return expect(errors.Is(err, rpctypes.ErrTooManyOps), "129 operations: %v", err)
}

func history(ctx context.Context, b *bench) error {
	c := b.client
	var revisions []int64
	for i := range 5 {
		put, err := c.Put(ctx, "past", fmt.Sprint(i))
		if err != nil {
			return err
		}
		revisions = append(revisions, put.Header.Revision)
	}
	for i, r := range revisions {
		got, err := c.Get(ctx, "past", clientv3.WithRev(r))
		if err != nil || string(got.Kvs[0].Value) != fmt.Sprint(i) {
			return fmt.Errorf("at %d: %v %v", r, got, err)
		}
	}
	if _, err := c.Compact(ctx, revisions[2], clientv3.WithCompactPhysical()); err != nil {
		return err
	}
	if _, err := c.Get(ctx, "past", clientv3.WithRev(revisions[1])); !errors.Is(err, rpctypes.ErrCompacted) {
		return fmt.Errorf("below the compaction: %v", err)
	}
	if _, err := c.Get(ctx, "past", clientv3.WithRev(revisions[4]+100)); !errors.Is(err, rpctypes.ErrFutureRev) {
		return fmt.Errorf("in the future: %v", err)
	}
	got, err := c.Get(ctx, "past", clientv3.WithRev(revisions[2]))
	return expect(err == nil && string(got.Kvs[0].Value) == "2", "at the compaction: %v %v", got, err)
}

func rangeStream(ctx context.Context, b *bench) error {
	c := b.client
	for i := range 120 {
		if _, err := c.Put(ctx, fmt.Sprintf("stream/%03d", i), strings.Repeat("s", 100)); err != nil {
			return err
		}
	}
	stream, err := c.GetStream(ctx, "stream/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	keys, chunks := 0, 0
	for chunk := range stream {
		if chunk.Err() != nil {
			return chunk.Err()
		}
		chunks++
		for _, kv := range chunk.RangeResponse.Kvs {
			if want := fmt.Sprintf("stream/%03d", keys); string(kv.Key) != want {
				return fmt.Errorf("%s where %s belongs", kv.Key, want)
			}
			keys++
		}
	}
	return expect(keys == 120 && chunks > 1, "%d keys in %d chunks", keys, chunks)
}

func watch(ctx context.Context, b *bench) error {
	c := b.client
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	from, err := c.Put(ctx, "watch/a", "0")
	if err != nil {
		return err
	}
	past := c.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithRev(from.Header.Revision), clientv3.WithPrevKV())
	deletes := c.Watch(ctx, "watch/", clientv3.WithPrefix(), clientv3.WithFilterPut(), clientv3.WithCreatedNotify())
	if created := <-deletes; !created.Created {
		return fmt.Errorf("no created answer: %v", created)
	}
	for i := range 100 {
		if i%3 == 2 {
			_, err = c.Delete(ctx, "watch/a")
		} else {
			_, err = c.Put(ctx, "watch/a", fmt.Sprint(i))
		}
		if err != nil {
			return err
		}
	}
	events, last := 0, int64(0)
	for events < 101 {
		r, ok := <-past
		if !ok || r.Err() != nil {
			return fmt.Errorf("after %d events: %w", events, r.Err())
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision != from.Header.Revision+int64(events) || e.Kv.ModRevision <= last {
				return fmt.Errorf("event %d has revision %d", events, e.Kv.ModRevision)
			}
			if events > 1 && e.Type == mvccpb.DELETE && e.PrevKv == nil {
				return fmt.Errorf("event %d lacks its previous pair", events)
			}
			last = e.Kv.ModRevision
			events++
		}
	}
	for seen := 0; seen < 33; {
		r := <-deletes
		if r.Err() != nil {
			return r.Err()
		}
		for _, e := range r.Events {
			if e.Type != mvccpb.DELETE {
				return fmt.Errorf("a put came through the filter")
			}
			seen++
		}
	}
	return nil
}

func watchCompacted(ctx context.Context, b *bench) error {
	c := b.client
	var put *clientv3.PutResponse
	var err error
	for range 5 {
		if put, err = c.Put(ctx, "wc", "v"); err != nil {
			return err
		}
	}
	if _, err := c.Compact(ctx, put.Header.Revision); err != nil {
		return err
	}
	for r := range c.Watch(ctx, "wc", clientv3.WithRev(put.Header.Revision-3)) {
		if err := r.Err(); err != nil {
			return expect(errors.Is(err, rpctypes.ErrCompacted) && r.CompactRevision == put.Header.Revision, "told %v, compact revision %d", err, r.CompactRevision)
		}
	}
	return fmt.Errorf("the watch ended without a reason")
}

func watchProgress(ctx context.Context, b *bench) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := b.client
	periodic := c.Watch(ctx, "progress/periodic", clientv3.WithProgressNotify())
	select {
	case r := <-periodic:
		if !r.IsProgressNotify() {
			return fmt.Errorf("%v is no progress", r)
		}
	case <-time.After(harness.Patience):
		return fmt.Errorf("no periodic progress")
	}
	large := c.Watch(ctx, "progress/large", clientv3.WithPrefix(), clientv3.WithFragment(), clientv3.WithCreatedNotify())
	<-large
	put, err := c.Put(ctx, "progress/large", strings.Repeat("l", 1_000_000))
	if err != nil {
		return err
	}
	if r := <-large; len(r.Events) != 1 {
		return fmt.Errorf("large event: %v", r.Err())
	}
	for {
		if err := c.RequestProgress(ctx); err != nil {
			return err
		}
		select {
		case r := <-large:
			return expect(r.IsProgressNotify() && r.Header.Revision >= put.Header.Revision, "asked progress: %v", r)
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func leases(ctx context.Context, b *bench) error {
	c := b.client
	granted := time.Now()
	lease, err := c.Grant(ctx, 100)
	if err != nil {
		return err
	}
	if _, err := c.Put(ctx, "lease/a", "v", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	left, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	// What has gone by may be gone.
	least := 98 - int64(time.Since(granted)/time.Second)
	if err != nil || left.GrantedTTL != 100 || left.TTL < least || len(left.Keys) != 1 {
		return fmt.Errorf("time to live %v %v", left, err)
	}
	renewed, err := c.KeepAliveOnce(ctx, lease.ID)
	if err != nil || renewed.TTL != 100 {
		return fmt.Errorf("renewed %v %v", renewed, err)
	}
	all, err := c.Leases(ctx)
	if err != nil || len(all.Leases) == 0 {
		return fmt.Errorf("leases %v %v", all, err)
	}
	if _, err := c.Revoke(ctx, lease.ID); err != nil {
		return err
	}
	if got, err := c.Get(ctx, "lease/a"); err != nil || got.Count != 0 {
		return fmt.Errorf("key of a revoked lease: %v %v", got, err)
	}
	if _, err := c.KeepAliveOnce(ctx, lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("renewal of a revoked lease: %v", err)
	}
	_, err = c.Put(ctx, "lease/a", "v", clientv3.WithLease(lease.ID))
	return expect(errors.Is(err, rpctypes.ErrLeaseNotFound), "put with a revoked lease: %v", err)
}

// keepAlives keeps 200 leases through the client's one stream for longer than they would last, and lets a last one go. They
// last long enough to outlive a machine that stands still for a while.
func keepAlives(ctx context.Context, b *bench) error {
	const ttl = 30
	return harness.WhileItRuns(ttl/3*time.Second, func(int) error { return keepAlivesFor(ctx, b.client, ttl) })
}

func keepAlivesFor(ctx context.Context, c *clientv3.Client, ttl int64) error {
	kept, cancel := context.WithCancel(ctx)
	defer cancel()
	var ids []clientv3.LeaseID
	for range 200 {
		lease, err := c.Grant(ctx, ttl)
		if err != nil {
			return err
		}
		ids = append(ids, lease.ID)
		channel, err := c.KeepAlive(kept, lease.ID)
		if err != nil {
			return err
		}
		go func() {
			for range channel {
			}
		}()
	}
	lost, err := c.Grant(ctx, ttl)
	if err != nil {
		return err
	}
	for expired := false; !expired; {
		time.Sleep(200 * time.Millisecond)
		left, err := c.TimeToLive(ctx, lost.ID)
		if err != nil {
			return fmt.Errorf("a lease that nobody keeps: %w", err)
		}
		expired = left.TTL == -1
	}
	for _, id := range ids {
		if left, err := c.TimeToLive(ctx, id); err != nil || left.TTL < 0 {
			return fmt.Errorf("lease %x: %v %v", id, left, err)
		}
	}
	return nil
}

func maintenance(ctx context.Context, b *bench) error {
	c, endpoint := b.client, b.member.Endpoint
	members, err := c.MemberList(ctx)
	if err != nil || len(members.Members) != 1 {
		return fmt.Errorf("members %v %v", members, err)
	}
	status, err := c.Status(ctx, endpoint)
	if err != nil || status.Leader != members.Members[0].ID || status.StorageVersion != "3.7.0" || status.DbSize == 0 {
		return fmt.Errorf("status %v %v", status, err)
	}
	if alarms, err := c.AlarmList(ctx); err != nil || len(alarms.Alarms) != 0 {
		return fmt.Errorf("alarms %v %v", alarms, err)
	}
	hash, err := c.HashKV(ctx, endpoint, 0)
	if err != nil || hash.Hash == 0 {
		return fmt.Errorf("hash %v %v", hash, err)
	}
	if _, err := c.MoveLeader(ctx, members.Members[0].ID); err != nil {
		return fmt.Errorf("move leader to itself: %w", err)
	}
	if _, err := c.Defragment(ctx, endpoint); err != nil {
		return fmt.Errorf("defragment: %w", err)
	}
	again, err := c.HashKV(ctx, endpoint, hash.HashRevision)
	if err != nil || again.Hash != hash.Hash {
		return fmt.Errorf("hash after defragmentation %v, before %v: %w", again, hash, err)
	}
	snapshot, err := c.SnapshotWithVersion(ctx)
	if err != nil {
		return err
	}
	defer snapshot.Snapshot.Close()
	bytes, err := io.Copy(io.Discard, snapshot.Snapshot)
	return expect(err == nil && bytes%512 == 32 && snapshot.Version == "3.7.0", "snapshot of %d bytes, version %s: %v", bytes, snapshot.Version, err)
}

// restart ends the server while a client watches, keeps a lease and holds a connection, and starts it again at the same
// address: the client goes on without help.
func restart(ctx context.Context, b *bench) error {
	c := b.client
	lease, err := c.Grant(ctx, 30)
	if err != nil {
		return err
	}
	if _, err := c.Put(ctx, "restart/leased", "v", clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	watching := c.Watch(ctx, "restart/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-watching
	before, err := c.Put(ctx, "restart/a", "before")
	if err != nil {
		return err
	}
	// A watch that saw nothing yet would be resumed at the revision of its creation, one before its first event.
	if r := <-watching; len(r.Events) != 1 || r.Events[0].Kv.ModRevision != before.Header.Revision {
		return fmt.Errorf("watched %v", r)
	}
	b.member.Kill()
	member, err := harness.StartAt(harness.Ours, b.member.DataDir, b.member.Address(), "--watch-progress-notify-interval=200ms")
	if err != nil {
		return err
	}
	b.member = member
	if _, err := c.Put(ctx, "restart/a", "after"); err != nil {
		return fmt.Errorf("put after the restart: %w", err)
	}
	for revision := before.Header.Revision + 1; revision < before.Header.Revision+2; {
		r, ok := <-watching
		if !ok || r.Err() != nil {
			return fmt.Errorf("the watch ended: %w", r.Err())
		}
		for _, e := range r.Events {
			if e.Kv.ModRevision != revision {
				return fmt.Errorf("event of revision %d, expected %d", e.Kv.ModRevision, revision)
			}
			revision++
		}
	}
	left, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
	return expect(err == nil && left.TTL > 0 && len(left.Keys) == 1, "lease after the restart: %v %v", left, err)
}
