package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// generator draws requests from a seed and from what the reference answered so far: its revision, its compactions, the
// leases that exist. It makes valid and invalid requests, but none that is known to end etcd's process; those are
// listed in defects.go and go to ours alone.
type generator struct {
	rng      *rand.Rand
	revision int64
	compact  int64
	// everCompacted is false until the first compaction is accepted.
	everCompacted bool
	leases        []int64
	alarms        int
}

func newGenerator(seed uint64) *generator {
	return &generator{rng: rand.New(rand.NewPCG(seed, 0xd1ff)), revision: 1}
}

// chance is true once in n times.
func (g *generator) chance(n int) bool { return g.rng.IntN(n) == 0 }

func pick[T any](g *generator, of ...T) T { return of[g.rng.IntN(len(of))] }

var oddKeys = []string{"a", "ab", "abc", "b", "\x00", "\x00\x00", "\xff", "\xff\xff", "k1", "k", "\xc3\x28", "a/b"}

// key is nearly always one of a few dozen, so that requests meet.
func (g *generator) key() []byte {
	switch {
	case g.chance(60):
		return nil
	case g.chance(6):
		return []byte(pick(g, oddKeys...))
	}
	return fmt.Appendf(nil, "k%02d", g.rng.IntN(40))
}

func (g *generator) rangeEnd(key []byte) []byte {
	switch g.rng.IntN(10) {
	case 0, 1, 2, 3:
		return nil
	case 4:
		return []byte{0}
	case 5:
		if len(key) > 0 && key[len(key)-1] < 0xff {
			end := append([]byte{}, key...)
			end[len(end)-1]++
			return end
		}
		return []byte{0}
	case 6:
		return append(append([]byte{}, key...), 0)
	}
	return g.key()
}

func (g *generator) value() []byte {
	switch g.rng.IntN(12) {
	case 0:
		return nil
	case 1, 2, 3, 4:
		// Equal values, for orders and compares.
		return fmt.Appendf(nil, "v%d", g.rng.IntN(4))
	}
	b := make([]byte, g.rng.IntN(200))
	for i := range b {
		b[i] = byte(g.rng.IntN(256))
	}
	return b
}

// aRevision is around the ones that matter: none, past, compacted, current, future.
func (g *generator) aRevision() int64 {
	switch g.rng.IntN(12) {
	case 0, 1, 2, 3:
		return 0
	case 4:
		return g.compact + int64(g.rng.IntN(3)) - 1
	case 5:
		return g.revision + int64(g.rng.IntN(4)) - 1
	case 6:
		return pick(g, int64(-1), -2, 1, 2, 1<<62, -1<<63, 1<<63-1)
	}
	return g.compact + g.rng.Int64N(g.revision-g.compact+1)
}

func (g *generator) filterRevision() int64 {
	if !g.chance(10) {
		return 0
	}
	return g.aRevision()
}

func (g *generator) limit() int64 {
	return pick(g, int64(0), 0, 0, 0, 0, 1, 2, 3, 7, 100, -1, 1<<63-1)
}

func (g *generator) lease() int64 {
	switch g.rng.IntN(12) {
	case 0:
		return int64(g.rng.IntN(50)) // may exist or not
	case 1, 2:
		if len(g.leases) > 0 {
			return pick(g, g.leases...)
		}
	case 3:
		if g.chance(10) {
			return -5
		}
	}
	return 0
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	key := g.key()
	r := &pb.RangeRequest{Key: key, RangeEnd: g.rangeEnd(key), Limit: g.limit(), Revision: g.aRevision()}
	if g.chance(3) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.rng.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.rng.IntN(5))
	}
	if g.chance(80) {
		r.SortOrder = pb.RangeRequest_SortOrder(pick(g, -1, 3, 77))
	}
	if g.chance(80) {
		r.SortTarget = pb.RangeRequest_SortTarget(pick(g, -1, 5, 77))
	}
	r.Serializable = g.chance(2)
	r.KeysOnly = g.chance(5)
	r.CountOnly = g.chance(8)
	if g.chance(4) {
		r.MinModRevision, r.MaxModRevision = g.filterRevision(), g.filterRevision()
		r.MinCreateRevision, r.MaxCreateRevision = g.filterRevision(), g.filterRevision()
	}
	return r
}

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), Lease: g.lease(), PrevKv: g.chance(3)}
	if g.chance(12) {
		r.IgnoreValue = true
		if !g.chance(5) {
			r.Value = nil
		}
	}
	if g.chance(12) {
		r.IgnoreLease = true
		if !g.chance(5) {
			r.Lease = 0
		}
	}
	return r
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	key := g.key()
	r := &pb.DeleteRangeRequest{Key: key, PrevKv: g.chance(3)}
	// Wide deletes are rare, or the store would be empty all the time.
	if g.chance(4) {
		r.RangeEnd = g.rangeEnd(key)
		if string(r.RangeEnd) == "\x00" && !g.chance(6) {
			r.RangeEnd = append(append([]byte{}, key...), '5')
		}
	}
	return r
}

func (g *generator) step() request {
	switch n := g.rng.IntN(1000); {
	case n < 290:
		return request{path: "/etcdserverpb.KV/Put", message: g.put()}
	case n < 540:
		return request{path: "/etcdserverpb.KV/Range", message: g.rangeRequest()}
	case n < 590:
		return request{path: "/etcdserverpb.KV/RangeStream", message: g.rangeStream()}
	case n < 660:
		return request{path: "/etcdserverpb.KV/DeleteRange", message: g.deleteRange()}
	case n < 840:
		return request{path: "/etcdserverpb.KV/Txn", message: g.safeTxn()}
	case n < 845:
		return request{path: "/etcdserverpb.KV/Compact", message: g.compaction()}
	case n < 925:
		return g.leaseStep()
	case n < 950:
		return g.maintenance()
	case n < 965:
		return g.cluster()
	case n < 975:
		return g.auth()
	case n < 990:
		return g.concurrency()
	}
	return g.malformed()
}

// rangeStream leaves out what DEF-4 is about: an order by another target, in which etcd loses keys between chunks.
func (g *generator) rangeStream() *pb.RangeRequest {
	r := g.rangeRequest()
	if r.SortOrder == pb.RangeRequest_NONE && r.SortTarget > 0 && r.SortTarget < 5 {
		r.SortTarget = pb.RangeRequest_KEY
	}
	if !g.chance(4) {
		r.SortOrder, r.SortTarget = 0, 0
		r.MinModRevision, r.MaxModRevision, r.MinCreateRevision, r.MaxCreateRevision = 0, 0, 0, 0
	}
	return r
}

func (g *generator) compaction() *pb.CompactionRequest {
	r := &pb.CompactionRequest{Revision: g.aRevision(), Physical: !g.chance(4)}
	if g.chance(2) && g.revision > g.compact {
		r.Revision = g.compact + (g.revision-g.compact)*3/4
	}
	return r
}

// forget keeps the leases that are known to exist apart from those that are not.
func (g *generator) forget(id int64) {
	for i, known := range g.leases {
		if known == id {
			g.leases = append(g.leases[:i], g.leases[i+1:]...)
			return
		}
	}
}

// longTTL is one that does not run out while a round lasts.
func (g *generator) longTTL() int64 { return 1000 + int64(g.rng.IntN(100000)) }

// health checks and other calls must not take long; a call that waits is given up after this time.
const waiting = 2 * time.Minute
