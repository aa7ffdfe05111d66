// The judge of mixed clusters: our members and real etcd's in one cluster. Each side leads in turn, each is killed and
// comes back, leases are renewed across kinds, and at every step all members have the same history.
package main

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

func main() {
	harness.Run("mixed", func(j *harness.Judge) error {
		for _, release := range []string{"3.5", "3.6", "3.7"} {
			forms := [][]string{{release, release, harness.Ours}, {harness.Ours, harness.Ours, release}}
			if release == "3.6" {
				// Between the two whose protocols differ most; one form of it is enough.
				forms = forms[:1]
			}
			for _, releases := range forms {
				if err := judge(j, release, releases); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func judge(j *harness.Judge, release string, releases []string) error {
	c, err := newCluster(j.Temp(fmt.Sprintf("%s-%s", release, releases[0])), releases...)
	if c != nil {
		defer c.end()
	}
	j.Check(err, "%v: a cluster", releases)
	if err != nil {
		return nil
	}
	j.Check(named(c), "%v: every member knows the names and client URLs of all", releases)
	l, err := startLoad(c)
	if err != nil {
		return err
	}
	for _, m := range c.members {
		j.Check(c.lead(m), "%v: %s leads", releases, m)
		j.Check(readWhatWasWritten(c, m.name), "%v: written at any member, read at all, while %s leads", releases, m)
		j.Check(leases(c), "%v: leases at any member, while %s leads", releases, m)
	}
	for i := range c.members {
		leader, err := c.leader()
		if err != nil {
			return err
		}
		victim := c.members[i]
		victim.kill()
		other := c.members[(i+1)%len(c.members)]
		j.Check(retry(20*time.Second, func() error { return put(other, "after-kill", victim.name) }),
			"%v: writes go on after kill -9 of %s (leader was %s)", releases, victim, leader)
		if err := victim.start(c.initial(), "new"); err != nil {
			return err
		}
		j.Check(victim.awaitReady(), "%v: %s comes back", releases, victim)
	}
	for _, to := range []string{harness.Ours, release} {
		if err := replaceAll(j, c, to); err != nil {
			return err
		}
	}
	j.Check(l.end(), "%v: the watch has seen %d acknowledged writes without a gap", releases, len(l.acked))
	j.Check(l.everywhere(c), "%v: nothing acknowledged is lost", releases)
	j.Check(sameHistory(c), "%v: HashKV is the same on all", releases)
	return nil
}

func put(m *member, key, value string) error {
	return m.with(3*time.Second, func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Put(ctx, key, value)
		return err
	})
}

// named asks every member, locally, for all members.
func named(c *cluster) error {
	return retry(20*time.Second, func() error {
		for _, m := range c.members {
			err := m.with(3*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
				list, err := cl.MemberList(ctx)
				if err != nil {
					return err
				}
				for _, listed := range list.Members {
					if listed.Name == "" || len(listed.ClientURLs) != 1 {
						return fmt.Errorf("%s does not know the name of %x", m, listed.ID)
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func readWhatWasWritten(c *cluster, value string) error {
	for _, writer := range c.members {
		mark := value + "/" + writer.name
		if err := retry(10*time.Second, func() error { return put(writer, "mark", mark) }); err != nil {
			return fmt.Errorf("put at %s: %w", writer, err)
		}
		for _, reader := range c.members {
			err := reader.with(5*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
				got, err := cl.Get(ctx, "mark")
				if err == nil && (len(got.Kvs) != 1 || string(got.Kvs[0].Value) != mark) {
					err = fmt.Errorf("stale: %v", got.Kvs)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("get at %s: %w", reader, err)
			}
		}
	}
	return nil
}

// leases grants at one member and renews and looks up at the others.
func leases(c *cluster) error {
	for i, m := range c.members {
		var id clientv3.LeaseID
		err := m.with(5*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
			grant, err := cl.Grant(ctx, 600)
			if err == nil {
				id = grant.ID
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("grant at %s: %w", m, err)
		}
		for k := 1; k < len(c.members); k++ {
			other := c.members[(i+k)%len(c.members)]
			err := other.with(8*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
				renewed, err := cl.KeepAliveOnce(ctx, id)
				if err != nil {
					return err
				}
				found, err := cl.TimeToLive(ctx, id)
				if err == nil && (renewed.TTL != 600 || found.GrantedTTL != 600 || found.TTL < 590) {
					err = fmt.Errorf("renewed to %d, %d of %d left", renewed.TTL, found.TTL, found.GrantedTTL)
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("lease of %s renewed at %s: %w", m, other, err)
			}
		}
	}
	return nil
}

// sameHistory compares the hash at one revision that all members have reached.
func sameHistory(c *cluster) error {
	var revision int64
	var hash uint32
	for i, m := range c.members {
		err := m.with(10*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
			// A linearizable read brings the member to what was written before.
			got, err := cl.Get(ctx, "mark")
			if err != nil {
				return err
			}
			if i == 0 {
				revision = got.Header.Revision
			}
			answer, err := cl.HashKV(ctx, m.client, revision)
			if err != nil {
				return err
			}
			if i == 0 {
				hash = answer.Hash
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

// replaceAll replaces the members one by one, under load, by fresh ones of another kind.
func replaceAll(j *harness.Judge, c *cluster, to string) error {
	for place := range c.members {
		old := c.members[place]
		if old.release == to {
			continue
		}
		fresh, err := newMember(c.dir, fmt.Sprintf("r%d", c.joined), to)
		if err != nil {
			return err
		}
		c.joined++
		j.Check(c.replace(place, fresh), "%s takes the place of %s", fresh, old)
		j.Check(sameHistory(c), "HashKV is the same on all, with %s", fresh)
	}
	return nil
}

// replace removes a member, adds another one and starts it. A cluster takes the next change only when all members have
// been connected for a while.
func (c *cluster) replace(place int, fresh *member) error {
	old := c.members[place]
	status, err := old.status()
	if err != nil {
		return err
	}
	asked := c.members[(place+1)%len(c.members)]
	change := func(what string, call func(context.Context, *clientv3.Client) error) error {
		if err := retry(40*time.Second, func() error { return asked.with(8*time.Second, call) }); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	if err := change("remove", func(ctx context.Context, cl *clientv3.Client) error {
		list, err := cl.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range list.Members {
			if m.ID == status.Header.MemberId {
				_, err := cl.MemberRemove(ctx, m.ID)
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	select {
	case <-old.exited:
	case <-time.After(20 * time.Second):
		return fmt.Errorf("%s was removed and has not stopped", old)
	}
	if err := change("add", func(ctx context.Context, cl *clientv3.Client) error {
		list, err := cl.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range list.Members {
			if len(m.PeerURLs) == 1 && m.PeerURLs[0] == fresh.peer {
				return nil
			}
		}
		_, err = cl.MemberAdd(ctx, []string{fresh.peer})
		return err
	}); err != nil {
		return err
	}
	c.put(place, fresh)
	if err := fresh.start(c.initial(), "existing"); err != nil {
		return err
	}
	return fresh.awaitReady()
}
