package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

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

// Write sends n requests, one after the other; it stops at the first that fails.
func (h *History) Write(ctx context.Context, c *clientv3.Client, n int) error {
	for i := range n {
		if err := h.one(ctx, c); err != nil {
			return fmt.Errorf("request %d: %w", i, err)
		}
	}
	return nil
}

func (h *History) one(ctx context.Context, c *clientv3.Client) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	switch p := h.rng.IntN(100); {
	case p < 60:
		_, err := c.Put(ctx, h.key(), h.value())
		return err
	case p < 72:
		_, err := c.Delete(ctx, h.key())
		return err
	case p < 75:
		from := h.key()
		_, err := c.Delete(ctx, from, clientv3.WithRange(from+"/~"), clientv3.WithPrevKV())
		return err
	case p < 90:
		a, b, d := h.key(), h.key(), h.key()
		for b == a {
			b = h.key()
		}
		for d == a || d == b {
			d = h.key()
		}
		_, err := c.Txn(ctx).If(clientv3.Compare(clientv3.Version(a), ">", 0)).
			Then(clientv3.OpPut(a, h.value()), clientv3.OpDelete(b), clientv3.OpPut(d, h.value())).
			Else(clientv3.OpPut(b, h.value()), clientv3.OpGet(a)).Commit()
		return err
	case p < 95:
		return h.lease(ctx, c)
	case p < 98:
		_, err := c.Get(ctx, h.key())
		return err
	default:
		return h.compact(ctx, c)
	}
}

// lease grants a lease long enough to outlive the judge, uses one, or revokes one.
func (h *History) lease(ctx context.Context, c *clientv3.Client) error {
	if len(h.leases) < 3 || h.rng.IntN(3) == 0 {
		granted, err := c.Lease.Grant(ctx, 36000+int64(h.rng.IntN(1000)))
		if err != nil {
			return err
		}
		h.leases = append(h.leases, granted.ID)
	}
	i := h.rng.IntN(len(h.leases))
	if h.rng.IntN(8) == 0 {
		_, err := c.Revoke(ctx, h.leases[i])
		h.leases = append(h.leases[:i], h.leases[i+1:]...)
		return err
	}
	_, err := c.Put(ctx, h.key(), h.value(), clientv3.WithLease(h.leases[i]))
	return err
}

// compact compacts to somewhere in the newer half of what is there.
func (h *History) compact(ctx context.Context, c *clientv3.Client) error {
	now, err := c.Get(ctx, "revision?")
	if err != nil {
		return err
	}
	revision := now.Header.Revision/2 + h.rng.Int64N(now.Header.Revision/2+1)
	_, err = c.Compact(ctx, max(revision, 1), clientv3.WithCompactPhysical())
	if err != nil && err.Error() == "etcdserver: mvcc: required revision has been compacted" {
		return nil
	}
	return err
}
