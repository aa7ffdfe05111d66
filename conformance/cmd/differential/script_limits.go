package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// sizes goes over the borders of a request's size byte by byte.
func sizes(ctx context.Context, r *round) error {
	const maxRequest = 1572864
	for n := maxRequest - 40; n <= maxRequest+8; n += 2 {
		r.call(ctx, "/etcdserverpb.KV/Put", &pb.PutRequest{Key: []byte("big"), Value: bytes.Repeat([]byte{'x'}, n)})
	}
	r.call(ctx, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("big")})
	const maxMessage = maxRequest + 512*1024
	for n := maxMessage - 14; n <= maxMessage; n++ {
		// Of the two reasons to refuse, the message's size comes first.
		r.call(ctx, "/etcdserverpb.KV/Put", &pb.PutRequest{Key: []byte("big"), Value: bytes.Repeat([]byte{'x'}, n)})
	}
	r.call(ctx, "/etcdserverpb.KV/Put", &pb.PutRequest{Value: bytes.Repeat([]byte{'x'}, maxRequest+100)})
	half := bytes.Repeat([]byte{'y'}, maxRequest/2)
	txn := &pb.TxnRequest{Success: []*pb.RequestOp{putOp("a", half), putOp("b", half)}}
	r.call(ctx, "/etcdserverpb.KV/Txn", txn)
	return nil
}

func putOp(key string, value []byte) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: []byte(key), Value: value}}}
}

// txnLimits nests transactions around a limit of five operations.
func txnLimits(ctx context.Context, r *round) error {
	for depth := 1; depth <= 7; depth++ {
		t := &pb.TxnRequest{Success: []*pb.RequestOp{putOp("deep", []byte("v"))}}
		for range depth - 1 {
			t = &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: t}}}}
		}
		r.call(ctx, "/etcdserverpb.KV/Txn", t)
	}
	for outer := range 7 {
		for inner := range 6 {
			t := &pb.TxnRequest{}
			for i := range outer {
				t.Success = append(t.Success, putOp(fmt.Sprintf("o%d", i), nil))
			}
			n := &pb.TxnRequest{}
			for i := range inner {
				n.Failure = append(n.Failure, putOp(fmt.Sprintf("i%d", i), nil))
			}
			t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: n}})
			r.call(ctx, "/etcdserverpb.KV/Txn", t)
		}
	}
	// A later sibling that deletes what an earlier one puts is not found to overlap.
	put := &pb.TxnRequest{Success: []*pb.RequestOp{putOp("s", []byte("1"))}}
	del := &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("s")}}}}}
	nested := func(ts ...*pb.TxnRequest) *pb.TxnRequest {
		t := &pb.TxnRequest{}
		for _, n := range ts {
			t.Success = append(t.Success, &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: n}})
		}
		return t
	}
	for _, t := range []*pb.TxnRequest{nested(put, del), nested(del, put), nested(put, put), nested(del, del)} {
		r.call(ctx, "/etcdserverpb.KV/Txn", t)
		r.prefix(ctx, "s")
	}
	// Deleting to the end of the key space and putting again, in one revision: both events are seen.
	w, err := r.pair.openWatch()
	if err != nil {
		return err
	}
	defer w.close()
	r.watches = append(r.watches, w)
	if err := w.create(&pb.WatchCreateRequest{Key: []byte("s"), PrevKv: true}); err != nil {
		return err
	}
	open := &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{
		RequestDeleteRange: &pb.DeleteRangeRequest{Key: []byte("s"), RangeEnd: []byte{0}, PrevKv: true}}}
	r.put(ctx, "s", "before", 0)
	r.call(ctx, "/etcdserverpb.KV/Txn", &pb.TxnRequest{Success: []*pb.RequestOp{open, putOp("s", []byte("again"))}})
	r.prefix(ctx, "s")
	r.settle(ctx)
	r.call(ctx, "/etcdserverpb.Maintenance/HashKV", &pb.HashKVRequest{})
	return nil
}

// expiry lets leases run out and watches their keys go.
func expiry(ctx context.Context, r *round) error {
	w, err := r.pair.openWatch()
	if err != nil {
		return err
	}
	defer w.close()
	r.watches = append(r.watches, w)
	if err := w.create(&pb.WatchCreateRequest{Key: []byte("x"), RangeEnd: []byte("y"), PrevKv: true}); err != nil {
		return err
	}
	for id, ttl := range []int64{15, -1, 0, 1, 2, 3} {
		r.grant(ctx, int64(70+id), ttl)
	}
	for _, key := range []string{"x3", "x1", "x2"} {
		r.put(ctx, key, "v", 70)
	}
	if err := r.until(ctx, "x", 0); err != nil {
		return err
	}
	r.settle(ctx)
	r.call(ctx, "/etcdserverpb.Lease/LeaseKeepAlive", &pb.LeaseKeepAliveRequest{ID: 70})
	r.call(ctx, "/etcdserverpb.Lease/LeaseTimeToLive", &pb.LeaseTimeToLiveRequest{ID: 70, Keys: true})
	r.call(ctx, "/etcdserverpb.Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: 70})
	// A lease that is kept alive outlives its time; another of the same age does not. Both last long enough for a machine
	// that stands still for a while.
	const ttl = 20
	r.grant(ctx, 80, ttl)
	r.grant(ctx, 81, ttl)
	r.put(ctx, "x/kept", "v", 80)
	r.put(ctx, "x/gone", "v", 81)
	// Longer than the lease lasts, until the other one is gone.
	for began := time.Now(); time.Since(began) < (ttl+2)*time.Second || r.holds(ctx, "x/gone") != [2]int64{}; {
		time.Sleep(500 * time.Millisecond)
		// The revision is left out: each side ends the other lease at a moment of its own.
		kept, err := r.quietly(ctx, "/etcdserverpb.Lease/LeaseKeepAlive", &pb.LeaseKeepAliveRequest{ID: 80})
		if err != nil {
			return err
		}
		for side, m := range kept {
			if told := m.(*pb.LeaseKeepAliveResponse).TTL; told != ttl {
				return fmt.Errorf("a lease of %d s is kept alive for %d s on side %d", ttl, told, side)
			}
		}
	}
	r.prefix(ctx, "x")
	r.settle(ctx)
	return nil
}

// rangeStreams compares answers in many chunks, with limits and past revisions.
func rangeStreams(ctx context.Context, r *round) error {
	for i := range 300 {
		r.put(ctx, fmt.Sprintf("r/%04d", i), string(bytes.Repeat([]byte{'z'}, i*40)), 0)
	}
	for i := range 4 {
		r.put(ctx, fmt.Sprintf("r/9%03d", i), string(bytes.Repeat([]byte{'z'}, 1_000_000)), 0)
	}
	stream := func(m *pb.RangeRequest) {
		m.Key, m.RangeEnd = []byte("r/"), []byte("r0")
		r.call(ctx, "/etcdserverpb.KV/RangeStream", m)
	}
	for _, limit := range []int64{0, 1, 9, 10, 11, 30, 31, 299, 304, 305, 1000, -3} {
		stream(&pb.RangeRequest{Limit: limit})
		stream(&pb.RangeRequest{Limit: limit, KeysOnly: true, Revision: 200})
	}
	stream(&pb.RangeRequest{CountOnly: true, Limit: 3})
	stream(&pb.RangeRequest{SortOrder: pb.RangeRequest_ASCEND, Serializable: true})
	return nil
}

// firstCompactions are those of a store that was never compacted.
func firstCompactions(ctx context.Context, r *round) error {
	r.put(ctx, "c", "1", 0)
	for _, revision := range []int64{-1, 99, 0, 0, 1, 1, 2, 3} {
		r.call(ctx, "/etcdserverpb.Maintenance/HashKV", &pb.HashKVRequest{})
		for _, at := range []int64{-2, -1, 0, 1, 2, 3} {
			r.call(ctx, "/etcdserverpb.KV/Txn", &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestRange{
				RequestRange: &pb.RangeRequest{Key: []byte("c"), Revision: at}}}}})
			r.call(ctx, "/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("c"), Revision: at})
		}
		r.call(ctx, "/etcdserverpb.KV/Compact", &pb.CompactionRequest{Revision: revision, Physical: true})
	}
	// A tombstone at the compact revision stays for watchers, and leaves the hash.
	r.put(ctx, "c", "2", 0)
	r.call(ctx, "/etcdserverpb.KV/DeleteRange", &pb.DeleteRangeRequest{Key: []byte("c")})
	r.put(ctx, "d", "2", 0)
	for revision := int64(3); revision <= 6; revision++ {
		r.call(ctx, "/etcdserverpb.KV/Compact", &pb.CompactionRequest{Revision: revision, Physical: true})
		for at := int64(3); at <= 6; at++ {
			r.call(ctx, "/etcdserverpb.Maintenance/HashKV", &pb.HashKVRequest{Revision: at})
		}
	}
	return nil
}

// quota fills a small database until both sides refuse, and makes room again. How many puts fit is each side's own.
func quota(ctx context.Context, r *round) error {
	value := bytes.Repeat([]byte{'q'}, 400_000)
	refused := [2]bool{}
	for i := 0; i < 60 && refused != [2]bool{true, true}; i++ {
		r.sent++
		for side, a := range r.pair.both(ctx, request{path: "/etcdserverpb.KV/Put", message: &pb.PutRequest{
			Key: fmt.Appendf(nil, "q/%d", i%5), Value: value}}) {
			if a.status.Code() != 0 {
				refused[side] = true
			}
		}
	}
	if refused != [2]bool{true, true} {
		return fmt.Errorf("never refused: %v", refused)
	}
	compare := func(path string, m proto.Message) {
		answers := r.pair.both(ctx, request{path: path, message: m})
		for _, a := range answers {
			for _, out := range a.messages {
				if h := headerOf(out); h != nil {
					h.Revision = 0
				}
			}
		}
		r.sent++
		if err := r.differs(request{path: path, message: m}, answers); err != nil {
			r.report(fmt.Errorf("%s: %w", path, err))
		}
	}
	putTxn := &pb.TxnRequest{Failure: []*pb.RequestOp{putOp("f", nil)}}
	compare("/etcdserverpb.KV/Put", &pb.PutRequest{Key: []byte("small")})
	compare("/etcdserverpb.KV/Txn", putTxn)
	compare("/etcdserverpb.KV/Txn", &pb.TxnRequest{Success: []*pb.RequestOp{{Request: &pb.RequestOp_RequestTxn{RequestTxn: putTxn}}}})
	compare("/etcdserverpb.Lease/LeaseGrant", &pb.LeaseGrantRequest{ID: 5, TTL: 500})
	compare("/etcdserverpb.Lease/LeaseRevoke", &pb.LeaseRevokeRequest{ID: 5})
	compare("/etcdserverpb.Maintenance/Alarm", &pb.AlarmRequest{})
	compare("/etcdserverpb.Maintenance/Status", &pb.StatusRequest{})
	compare("/etcdserverpb.KV/Range", &pb.RangeRequest{Key: []byte("q/"), RangeEnd: []byte("q0"), CountOnly: true})
	compare("/etcdserverpb.KV/DeleteRange", &pb.DeleteRangeRequest{Key: []byte("nothing")})
	return nil
}
