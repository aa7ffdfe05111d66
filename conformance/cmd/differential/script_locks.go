package main

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"stanchion.invalid/conformance/internal/harness"
)

func (r *round) call(ctx context.Context, path string, m proto.Message) [2]answer {
	return r.ask(ctx, request{path: path, message: m, timeout: waiting})
}

func (r *round) put(ctx context.Context, key, value string, lease int64) {
	r.call(ctx, "/etcdserverpb.KV/Put", &pb.PutRequest{Key: []byte(key), Value: []byte(value), Lease: lease})
}

func (r *round) prefix(ctx context.Context, key string) [2]answer {
	end := []byte(key)
	end[len(end)-1]++
	return r.call(ctx, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte(key), RangeEnd: end})
}

func (r *round) grant(ctx context.Context, id, ttl int64) {
	r.call(ctx, "/etcdserverpb.Lease/LeaseGrant", &pb.LeaseGrantRequest{ID: id, TTL: ttl})
}

// quietly sends a request whose answers hold ids that nobody has named yet; the caller compares.
func (r *round) quietly(ctx context.Context, path string, m proto.Message) ([2]proto.Message, error) {
	r.sent++
	var messages [2]proto.Message
	for side, a := range r.pair.both(ctx, request{path: path, message: m, timeout: waiting}) {
		if a.status.Code() != codes.OK || len(a.messages) != 1 {
			return messages, fmt.Errorf("%s on side %d: %s", path, side, a)
		}
		messages[side] = a.messages[0]
	}
	return messages, nil
}

// chosenIDs lets the servers choose lease ids, directly and through Lock and Campaign.
func chosenIDs(ctx context.Context, r *round) error {
	for i := range 3 {
		granted, err := r.quietly(ctx, "/etcdserverpb.Lease/LeaseGrant", &pb.LeaseGrantRequest{TTL: 500})
		if err != nil {
			return err
		}
		var ids [2]int64
		for side, m := range granted {
			ids[side] = m.(*pb.LeaseGrantResponse).ID
			if ids[side] <= 0 {
				return fmt.Errorf("side %d chose lease %d", side, ids[side])
			}
		}
		id := r.pair.names.add(ids)
		r.put(ctx, fmt.Sprintf("with/%d", i), "v", id)
		r.call(ctx, "/etcdserverpb.Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
		r.call(ctx, "/etcdserverpb.Lease/LeaseKeepAlive", &pb.LeaseKeepAliveRequest{ID: id})
		r.call(ctx, "/v3lockpb.Lock/Lock", &v3lockpb.LockRequest{Name: fmt.Appendf(nil, "l/%d", i), Lease: id})
	}
	locked, err := r.quietly(ctx, "/v3lockpb.Lock/Lock", &v3lockpb.LockRequest{Name: []byte("session")})
	if err != nil {
		return err
	}
	var ids [2]int64
	for side, m := range locked {
		_, id, _ := bytes.Cut(m.(*v3lockpb.LockResponse).Key, []byte("/"))
		n, err := strconv.ParseUint(string(id), 16, 64)
		if err != nil {
			return fmt.Errorf("key of the lock: %w", err)
		}
		ids[side] = int64(n)
	}
	id := r.pair.names.add(ids)
	r.prefix(ctx, "session")
	r.call(ctx, "/etcdserverpb.Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	r.call(ctx, "/etcdserverpb.Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: id})
	r.prefix(ctx, "session")

	won, err := r.quietly(ctx, "/v3electionpb.Election/Campaign", &v3electionpb.CampaignRequest{Name: []byte("e"), Value: []byte("v")})
	if err != nil {
		return err
	}
	for side, m := range won {
		ids[side] = m.(*v3electionpb.CampaignResponse).Leader.Lease
	}
	id = r.pair.names.add(ids)
	r.call(ctx, "/v3electionpb.Election/Leader", &v3electionpb.LeaderRequest{Name: []byte("e")})
	r.call(ctx, "/etcdserverpb.Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
	r.call(ctx, "/etcdserverpb.Lease/LeaseLeases", &pb.LeaseLeasesRequest{})
	return nil
}

// lockContention lets one lease wait for another: until the caller's patience ends, until the lock is given back, until
// the holder's lease goes, and until the waiter's own lease goes.
func lockContention(ctx context.Context, r *round) error {
	for id := range int64(4) {
		r.grant(ctx, 11+id, 1000)
	}
	lock := func(lease int64) *v3lockpb.LockRequest { return &v3lockpb.LockRequest{Name: []byte("m"), Lease: lease} }
	first := r.call(ctx, "/v3lockpb.Lock/Lock", lock(11))
	r.ask(ctx, request{path: "/v3lockpb.Lock/Lock", message: lock(12), timeout: 2 * time.Second})
	// The key of a caller that went away is removed behind its back.
	if err := r.until(ctx, "m", 1); err != nil {
		return err
	}
	waits := func(lease int64) chan [2]answer {
		done := make(chan [2]answer, 1)
		go func() { done <- r.pair.both(ctx, request{path: "/v3lockpb.Lock/Lock", message: lock(lease)}) }()
		return done
	}
	second := waits(12)
	if err := r.until(ctx, "m", 2); err != nil {
		return err
	}
	third := waits(13)
	if err := r.until(ctx, "m", 3); err != nil {
		return err
	}
	r.call(ctx, "/v3lockpb.Lock/Unlock", &v3lockpb.UnlockRequest{Key: first[theirs].messages[0].(*v3lockpb.LockResponse).Key})
	if err := r.differs(request{message: lock(12)}, <-second); err != nil {
		r.report(fmt.Errorf("after unlock: %w", err))
	}
	fourth := waits(14)
	if err := r.until(ctx, "m", 3); err != nil {
		return err
	}
	// A waiter whose own key goes, then the holder's lease.
	r.call(ctx, "/etcdserverpb.Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: 14})
	r.call(ctx, "/etcdserverpb.Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: 12})
	if err := r.differs(request{message: lock(13)}, <-third); err != nil {
		r.report(fmt.Errorf("after the holder's lease: %w", err))
	}
	r.call(ctx, "/v3lockpb.Lock/Unlock", &v3lockpb.UnlockRequest{Key: []byte("m/d")})
	if err := r.differs(request{message: lock(14)}, <-fourth); err != nil {
		r.report(fmt.Errorf("waiter without lease: %w", err))
	}
	r.prefix(ctx, "m")
	return nil
}

// until waits until both sides hold so many keys under a prefix; it does not count as a comparison.
func (r *round) until(ctx context.Context, key string, keys int64) error {
	for deadline := time.Now().Add(harness.Patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if r.holds(ctx, key) == [2]int64{keys, keys} {
			return nil
		}
	}
	return fmt.Errorf("there were never %d keys under %s: %v", keys, key, r.holds(ctx, key))
}

// holds is how many keys each side has under a prefix, -1 if it does not say.
func (r *round) holds(ctx context.Context, key string) [2]int64 {
	end := []byte(key)
	end[len(end)-1]++
	counts := [2]int64{-1, -1}
	for side, a := range r.pair.both(ctx, request{path: "/etcdserverpb.KV/Range",
		message: &pb.RangeRequest{Key: []byte(key), RangeEnd: end, CountOnly: true}}) {
		if len(a.messages) == 1 {
			counts[side] = a.messages[0].(*pb.RangeResponse).Count
		}
	}
	return counts
}

// electionObserved compares what an observer sees of three leaders.
func electionObserved(ctx context.Context, r *round) error {
	var seen [2]chan *v3electionpb.LeaderResponse
	for side, conn := range r.pair.conns {
		seen[side] = make(chan *v3electionpb.LeaderResponse, 100)
		stream, err := v3electionpb.NewElectionClient(conn).Observe(ctx, &v3electionpb.LeaderRequest{Name: []byte("e")}, grpc.ForceCodecV2(rawCodec{}))
		if err != nil {
			return err
		}
		go func() {
			for m, err := stream.Recv(); err == nil; m, err = stream.Recv() {
				seen[side] <- m
			}
		}()
	}
	// What is proclaimed faster than an observer reads may be skipped, so each value is awaited.
	step := func() {
		var got [2]*v3electionpb.LeaderResponse
		for side := range seen {
			select {
			case got[side] = <-seen[side]:
			case <-time.After(harness.Patience):
			}
		}
		if got[theirs] == nil || !proto.Equal(got[theirs], got[ours]) {
			r.report(fmt.Errorf("observed: etcd %v, ours %v", got[theirs], got[ours]))
		}
	}
	for lease := int64(21); lease < 24; lease++ {
		r.grant(ctx, lease, 1000)
		won := r.call(ctx, "/v3electionpb.Election/Campaign", &v3electionpb.CampaignRequest{Name: []byte("e"), Lease: lease, Value: []byte("first")})
		step()
		leader := won[theirs].messages[0].(*v3electionpb.CampaignResponse).Leader
		for i := range 3 {
			r.call(ctx, "/v3electionpb.Election/Proclaim", &v3electionpb.ProclaimRequest{Leader: leader, Value: fmt.Appendf(nil, "again %d", i)})
			step()
		}
		r.call(ctx, "/v3electionpb.Election/Resign", &v3electionpb.ResignRequest{Leader: leader})
	}
	r.call(ctx, "/v3electionpb.Election/Leader", &v3electionpb.LeaderRequest{Name: []byte("e")})
	return nil
}
