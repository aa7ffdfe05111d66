package members

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

// Cluster is what was started together, and what has joined since.
type Cluster struct {
	Dir string

	mu      sync.Mutex
	members []*Member
}

// NewCluster starts one member for each release and waits until all of them serve.
func NewCluster(dir string, releases ...string) (*Cluster, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c := &Cluster{Dir: dir}
	for i, release := range releases {
		m, err := New(dir, fmt.Sprintf("m%d", i), release)
		if err != nil {
			return nil, err
		}
		c.Append(m)
	}
	return c, c.StartAll()
}

// StartAll starts the members as a new cluster and waits until all of them serve.
func (c *Cluster) StartAll() error {
	for _, m := range c.Members() {
		if err := m.Start(c.Initial(), "new"); err != nil {
			return err
		}
	}
	for _, m := range c.Members() {
		if err := m.AwaitReady(); err != nil {
			return err
		}
	}
	return nil
}

// Members are the members of this moment; the list does not change any more.
func (c *Cluster) Members() []*Member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members
}

// Append adds a member to the list.
func (c *Cluster) Append(m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = append(append([]*Member(nil), c.members...), m)
}

// Put sets the member at a place.
func (c *Cluster) Put(place int, m *Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := append([]*Member(nil), c.members...)
	members[place] = m
	c.members = members
}

// Remove takes the member at a place off the list.
func (c *Cluster) Remove(place int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := append([]*Member(nil), c.members[:place]...)
	c.members = append(members, c.members[place+1:]...)
}

// Initial is the list that every member is started with.
func (c *Cluster) Initial() string {
	var all []string
	for _, m := range c.Members() {
		all = append(all, m.Name+"="+m.Peer)
	}
	return strings.Join(all, ",")
}

// Endpoints are the client URLs of this moment.
func (c *Cluster) Endpoints() []string {
	var all []string
	for _, m := range c.Members() {
		all = append(all, m.Client)
	}
	return all
}

// End kills all.
func (c *Cluster) End() {
	for _, m := range c.Members() {
		m.Kill()
	}
}

// Leader waits until all members name the same one.
func (c *Cluster) Leader() (*Member, error) {
	var leader *Member
	err := Retry(harness.Patience, func() error {
		byID := map[uint64]*Member{}
		var named uint64
		for i, m := range c.Members() {
			status, err := m.Status()
			if err != nil {
				return err
			}
			byID[status.Header.MemberId] = m
			if i == 0 {
				named = status.Leader
			}
			if status.Leader == 0 || status.Leader != named {
				return errors.New("no agreement about the leader")
			}
		}
		leader = byID[named]
		if leader == nil {
			return fmt.Errorf("leader %x is no member", named)
		}
		return nil
	})
	return leader, err
}

// Lead hands leadership to one member.
func (c *Cluster) Lead(target *Member) error {
	return Retry(harness.Patience, func() error {
		status, err := target.Status()
		if err != nil {
			return err
		}
		leader, err := c.Leader()
		if err != nil || leader == target {
			return err
		}
		err = leader.With(10*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
			_, err := cl.MoveLeader(ctx, status.Header.MemberId)
			return err
		})
		if err != nil {
			return err
		}
		leader, err = c.Leader()
		if err == nil && leader != target {
			err = fmt.Errorf("%s leads instead of %s", leader, target)
		}
		return err
	})
}

// Change asks a member to change the membership until it does. A cluster takes the next change only when its members have
// been connected for a while.
func (c *Cluster) Change(asked *Member, what string, call func(context.Context, *clientv3.Client) error) error {
	if err := Retry(harness.Patience, func() error { return asked.With(20*time.Second, call) }); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// RemoveFrom removes the member with an id; that it is gone already is fine.
func RemoveFrom(id uint64) func(context.Context, *clientv3.Client) error {
	return func(ctx context.Context, cl *clientv3.Client) error {
		list, err := cl.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range list.Members {
			if m.ID == id {
				_, err := cl.MemberRemove(ctx, m.ID)
				return err
			}
		}
		return nil
	}
}

// AddTo adds a member, as a learner if that is asked for; that it is there already is fine. Its id goes to `id`.
func AddTo(fresh *Member, learner bool, id *uint64) func(context.Context, *clientv3.Client) error {
	return func(ctx context.Context, cl *clientv3.Client) error {
		list, err := cl.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range list.Members {
			if len(m.PeerURLs) == 1 && m.PeerURLs[0] == fresh.Peer {
				*id = m.ID
				return nil
			}
		}
		add := cl.MemberAdd
		if learner {
			add = cl.MemberAddAsLearner
		}
		added, err := add(ctx, []string{fresh.Peer})
		if err == nil {
			*id = added.Member.ID
		}
		return err
	}
}

// Promote makes a learner a voter; that it is one already is fine, since an earlier try may have got no answer.
func Promote(id *uint64) func(context.Context, *clientv3.Client) error {
	return func(ctx context.Context, cl *clientv3.Client) error {
		_, err := cl.MemberPromote(ctx, *id)
		if errors.Is(err, rpctypes.ErrMemberNotLearner) {
			return nil
		}
		return err
	}
}

// Replace removes a member, waits for its end, and adds another one and starts it. The fresh one joins as a learner first
// if that is asked for.
func (c *Cluster) Replace(place int, fresh *Member, asLearner bool) error {
	members := c.Members()
	old, asked := members[place], members[(place+1)%len(members)]
	var gone, id uint64
	err := Retry(harness.Patience, func() error {
		status, err := old.Status()
		if err == nil {
			gone = status.Header.MemberId
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.Change(asked, "remove", RemoveFrom(gone)); err != nil {
		return err
	}
	if err := old.AwaitExit(); err != nil {
		return fmt.Errorf("it was removed: %w", err)
	}
	if err := c.Change(asked, "add", AddTo(fresh, asLearner, &id)); err != nil {
		return err
	}
	c.Put(place, fresh)
	if err := fresh.Join(c.Initial()); err != nil {
		return err
	}
	if asLearner {
		if err := c.Change(asked, "promote", Promote(&id)); err != nil {
			return err
		}
	}
	return fresh.AwaitReady()
}

// SameHistory compares the hash at one revision that all members have reached.
func (c *Cluster) SameHistory() error {
	var revision int64
	var hash uint32
	for i, m := range c.Members() {
		err := m.Calmly(func(ctx context.Context, cl *clientv3.Client) error {
			// A linearizable read brings the member to what was written before.
			got, err := cl.Get(ctx, "any")
			if err != nil {
				return err
			}
			at := revision
			if i == 0 {
				at = got.Header.Revision
			}
			answer, err := cl.HashKV(ctx, m.Client, at)
			if err != nil {
				return err
			}
			if i == 0 {
				revision, hash = at, answer.Hash
			}
			if answer.Hash != hash {
				return fmt.Errorf("%s has hash %d at revision %d, others have %d", m, answer.Hash, revision, hash)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
