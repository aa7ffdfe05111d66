package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// step is one request: to a server (run, which gives the revision after it) and to mvcc-ops (text).
type step struct {
	text string
	run  func(context.Context, *clientv3.Client) (int64, error)
	// Of a compaction: how many revisions it keeps.
	back int64
}

// compaction is the text of a step that compacts; its revision is not known before the steps run.
const compaction = "compact"

// scriptOf makes n requests from a seed: puts, deletes, ranges of deletes, transactions (nested ones for the server,
// flat ones for the store, which knows only their result), leases and compactions.
type scriptOf struct {
	rng    *rand.Rand
	leases []int64
	nextID int64
	steps  []step
}

func newScript(seed uint64, n int) []step {
	s := &scriptOf{rng: rand.New(rand.NewPCG(seed, 0xc0de)), nextID: 0x1000}
	for range n {
		s.add()
	}
	return s.steps
}

func (s *scriptOf) key() string { return fmt.Sprintf("key/%03d", s.rng.IntN(150)) }

func (s *scriptOf) value() string {
	size := s.rng.IntN(200)
	if s.rng.IntN(40) == 0 {
		size = 2000 + s.rng.IntN(30000)
	}
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(s.rng.IntN(256))
	}
	return string(b)
}

func word(text string) string {
	if text == "" {
		return "-"
	}
	return hex.EncodeToString([]byte(text))
}

func (s *scriptOf) add() {
	switch p := s.rng.IntN(100); {
	case p < 55:
		s.change(s.put())
	case p < 68:
		s.change(s.delete(s.key()))
	case p < 72:
		from := s.key()
		s.change(s.deleteRange(from, from+"/~"))
	case p < 73:
		s.change(s.deleteRange("key/14", "\x00"))
	case p < 90:
		s.transaction()
	case p < 97:
		s.lease()
	default:
		s.compact()
	}
}

// change is one operation in both languages.
type change struct {
	op   clientv3.Op
	text string
}

func (s *scriptOf) put() change {
	key, value, lease := s.key(), s.value(), int64(0)
	if len(s.leases) > 0 && s.rng.IntN(5) == 0 {
		lease = s.leases[s.rng.IntN(len(s.leases))]
	}
	return change{clientv3.OpPut(key, value, clientv3.WithLease(clientv3.LeaseID(lease))),
		fmt.Sprintf("put %s %s %d", word(key), word(value), lease)}
}

func (s *scriptOf) delete(key string) change {
	return change{clientv3.OpDelete(key), "delete " + word(key)}
}

func (s *scriptOf) deleteRange(from, end string) change {
	return change{clientv3.OpDelete(from, clientv3.WithRange(end)),
		fmt.Sprintf("delete %s %s", word(from), word(end))}
}

func (s *scriptOf) change(c change) {
	s.steps = append(s.steps, step{text: c.text, run: func(ctx context.Context, client *clientv3.Client) (int64, error) {
		answer, err := client.Do(ctx, c.op)
		if err != nil {
			return 0, err
		}
		switch {
		case answer.Put() != nil:
			return answer.Put().Header.Revision, nil
		case answer.Del() != nil:
			return answer.Del().Header.Revision, nil
		default:
			return answer.Txn().Header.Revision, nil
		}
	}})
}

// transaction puts and deletes different keys: a server refuses a transaction that changes a key twice.
func (s *scriptOf) transaction() {
	seen := map[string]bool{}
	var ops []clientv3.Op
	text := []string{"begin"}
	for range 2 + s.rng.IntN(6) {
		c := s.put()
		key := string(c.op.KeyBytes())
		if s.rng.IntN(3) == 0 {
			c = s.delete(key)
		}
		if seen[key] {
			continue
		}
		seen[key] = true
		text = append(text, c.text)
		if s.rng.IntN(3) == 0 {
			c.op = clientv3.OpTxn(nil, []clientv3.Op{c.op}, nil)
		}
		ops = append(ops, c.op)
	}
	half := len(ops) / 2
	nested := append(ops[:half:half], clientv3.OpTxn(nil, ops[half:], nil))
	s.change(change{clientv3.OpTxn(nil, nested, nil), strings.Join(append(text, "end"), "\n")})
}

// lease grants one long enough to outlive the judge, or revokes one.
func (s *scriptOf) lease() {
	if len(s.leases) > 3 && s.rng.IntN(2) == 0 {
		i := s.rng.IntN(len(s.leases))
		id := s.leases[i]
		s.leases = append(s.leases[:i], s.leases[i+1:]...)
		s.steps = append(s.steps, step{text: fmt.Sprintf("revoke %d", id),
			run: func(ctx context.Context, client *clientv3.Client) (int64, error) {
				answer, err := client.Revoke(ctx, clientv3.LeaseID(id))
				if err != nil {
					return 0, err
				}
				return answer.Header.Revision, nil
			}})
		return
	}
	s.nextID++
	id := s.nextID
	s.leases = append(s.leases, id)
	s.steps = append(s.steps, step{text: fmt.Sprintf("lease %d 36000", id),
		run: func(ctx context.Context, client *clientv3.Client) (int64, error) {
			answer, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseGrant(ctx,
				&pb.LeaseGrantRequest{ID: id, TTL: 36000})
			if err != nil {
				return 0, err
			}
			return answer.Header.Revision, nil
		}})
}

// compact forgets up to eleven revisions ago: which revision that is, whoever runs the steps knows.
func (s *scriptOf) compact() {
	s.steps = append(s.steps, step{text: compaction, back: int64(s.rng.IntN(12))})
}
