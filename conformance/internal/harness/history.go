package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// History writes a little of everything to a member: puts, overwrites, deletes, ranges of deletes, transactions,
// leases, and compactions. The same seed makes the same requests, but for the lease ids, which the member chooses.
type History struct {
	rng    *rand.Rand
	leases []clientv3.LeaseID
}

// NewHistory makes a history from a seed.
func NewHistory(seed uint64) *History {
	return &History{rng: rand.New(rand.NewPCG(seed, 0x5eed))}
}

func (h *History) key() string { return fmt.Sprintf("key/%03d", h.rng.IntN(200)) }

func (h *History) value() string {
	// Mostly small; now and then one that spans pages of the log and of the database.
	size := h.rng.IntN(200)
	if h.rng.IntN(40) == 0 {
		size = 2000 + h.rng.IntN(30000)
	}
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(h.rng.IntN(256))
	}
	return string(b)
}

// Write sends n requests, one after the other; it stops at the first that fails. One that nobody answers in time is sent
// again, so on a slow machine a request may have been carried out twice.
func (h *History) Write(ctx context.Context, c *clientv3.Client, n int) error {
	for i := range n {
		if err := h.one(ctx, c); err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
	}
	return nil
}

func (h *History) one(ctx context.Context, c *clientv3.Client) error {
	switch p := h.rng.IntN(100); {
	case p < 60:
		return do(ctx, c, clientv3.OpPut(h.key(), h.value()))
	case p < 72:
		return do(ctx, c, clientv3.OpDelete(h.key()))
	case p < 75:
		from := h.key()
		return do(ctx, c, clientv3.OpDelete(from, clientv3.WithRange(from+"/~"), clientv3.WithPrevKV()))
	case p < 90:
		a, b, d := h.key(), h.key(), h.key()
		for b == a {
			b = h.key()
		}
		for d == a || d == b {
			d = h.key()
		}
		return do(ctx, c, clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.Version(a), ">", 0)},
			[]clientv3.Op{clientv3.OpPut(a, h.value()), clientv3.OpDelete(b), clientv3.OpPut(d, h.value())},
			[]clientv3.Op{clientv3.OpPut(b, h.value()), clientv3.OpGet(a)}))
	case p < 95:
		return h.lease(ctx, c)
	case p < 98:
		return do(ctx, c, clientv3.OpGet(h.key()))
	default:
		return h.compact(ctx, c)
	}
}

func do(ctx context.Context, c *clientv3.Client, op clientv3.Op) error {
	return Again(ctx, func(ctx context.Context) error {
		_, err := c.Do(ctx, op)
		return err
	})
}

// lease grants a lease long enough to outlive the judge, uses one, or revokes one.
func (h *History) lease(ctx context.Context, c *clientv3.Client) error {
	if len(h.leases) < 3 || h.rng.IntN(3) == 0 {
		ttl := 36000 + int64(h.rng.IntN(1000))
		err := Again(ctx, func(ctx context.Context) error {
			granted, err := c.Lease.Grant(ctx, ttl)
			if err == nil {
				h.leases = append(h.leases, granted.ID)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	i := h.rng.IntN(len(h.leases))
	if h.rng.IntN(8) == 0 {
		id := h.leases[i]
		h.leases = append(h.leases[:i], h.leases[i+1:]...)
		return revoke(ctx, c, id)
	}
	return do(ctx, c, clientv3.OpPut(h.key(), h.value(), clientv3.WithLease(h.leases[i])))
}

// revoke ends a lease; that an earlier try has ended it, of which no answer came, is fine.
func revoke(ctx context.Context, c *clientv3.Client, id clientv3.LeaseID) error {
	tries := 0
	return Again(ctx, func(ctx context.Context) error {
		tries++
		_, err := c.Revoke(ctx, id)
		if tries > 1 && errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return nil
		}
		return err
	})
}

// compact compacts to somewhere in the newer half of what is there.
func (h *History) compact(ctx context.Context, c *clientv3.Client) error {
	share := h.rng.Float64()
	return Again(ctx, func(ctx context.Context) error {
		now, err := c.Get(ctx, "revision?")
		if err != nil {
			return err
		}
		revision := now.Header.Revision/2 + int64(share*float64(now.Header.Revision/2+1))
		_, err = c.Compact(ctx, max(revision, 1), clientv3.WithCompactPhysical())
		if errors.Is(err, rpctypes.ErrCompacted) {
			return nil
		}
		return err
	})
}
