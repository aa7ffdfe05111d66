// The judge of mixed clusters: our members and real etcd's in one cluster. Each side leads in turn, each is killed and
// comes back, leases are renewed across kinds, and at every step all members have the same history. Arguments name the
// releases to meet instead of all.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

func main() {
	harness.Run("mixed", func(j *harness.Judge) error {
		releases := []string{"3.5", "3.6", "3.7"}
		if len(os.Args) > 1 {
			releases = os.Args[1:]
		}
		for _, release := range releases {
			forms := [][]string{{release, release, harness.Ours}, {harness.Ours, harness.Ours, release}}
			if release == "3.6" {
				// Between the two whose protocols differ most; one form of it is enough.
				forms = forms[:1]
			}
			for _, form := range forms {
				if err := judge(j, release, form); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func judge(j *harness.Judge, release string, releases []string) error {
	c, err := members.NewCluster(j.Temp(fmt.Sprintf("%s-%s", release, releases[0])), releases...)
	if c != nil {
		defer c.End()
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
	for _, m := range c.Members() {
		j.Check(c.Lead(m), "%v: %s leads", releases, m)
		j.Check(readWhatWasWritten(c, m.Name), "%v: written at any member, read at all, while %s leads", releases, m)
		j.Check(leases(c), "%v: leases at any member, while %s leads", releases, m)
	}
	for i := range c.Members() {
		leader, err := c.Leader()
		if err != nil {
			return err
		}
		victim := c.Members()[i]
		victim.Kill()
		other := c.Members()[(i+1)%len(c.Members())]
		_, err = put(other, "after-kill", victim.Name)
		j.Check(err,
			"%v: writes go on after kill -9 of %s (leader was %s)", releases, victim, leader)
		if err := victim.Start(c.Initial(), "new"); err != nil {
			return err
		}
		j.Check(victim.AwaitReady(), "%v: %s comes back", releases, victim)
	}
	if releases[0] == release {
		for _, to := range []string{harness.Ours, release} {
			if err := takeOverAll(j, c, to); err != nil {
				return err
			}
		}
	}
	for _, to := range []string{harness.Ours, release} {
		if err := replaceAll(j, c, to); err != nil {
			return err
		}
	}
	j.Check(l.end(), "%v: the watch has seen %d acknowledged writes without a gap", releases, len(l.acked))
	j.Check(l.everywhere(c), "%v: nothing acknowledged is lost", releases)
	j.Check(c.SameHistory(), "%v: HashKV is the same on all", releases)
	return nil
}

// put writes, as often as it takes, and gives the revision of the put that was answered.
func put(m *members.Member, key, value string) (revision int64, err error) {
	err = m.Calmly(func(ctx context.Context, c *clientv3.Client) error {
		done, err := c.Put(ctx, key, value)
		if err == nil {
			revision = done.Header.Revision
		}
		return err
	})
	return revision, err
}

// named asks every member, locally, for all members.
func named(c *members.Cluster) error {
	return members.Retry(harness.Patience, func() error {
		for _, m := range c.Members() {
			err := m.With(10*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
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

// readWhatWasWritten puts at every member and reads at all: what was acknowledged is there, or something newer, since a put
// that got no answer may have been tried again and still come through.
func readWhatWasWritten(c *members.Cluster, value string) error {
	for _, writer := range c.Members() {
		mark := value + "/" + writer.Name
		revision, err := put(writer, "mark", mark)
		if err != nil {
			return fmt.Errorf("put at %s: %w", writer, err)
		}
		for _, reader := range c.Members() {
			err := reader.Calmly(func(ctx context.Context, cl *clientv3.Client) error {
				got, err := cl.Get(ctx, "mark")
				if err != nil {
					return err
				}
				if len(got.Kvs) != 1 || got.Kvs[0].ModRevision < revision ||
					got.Kvs[0].ModRevision == revision && string(got.Kvs[0].Value) != mark {
					return fmt.Errorf("%s was acknowledged at revision %d, and this is read: %v", mark, revision, got.Kvs)
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("get at %s: %w", reader, err)
			}
		}
	}
	return nil
}

// leases grants at one member and renews and looks up at the others.
func leases(c *members.Cluster) error {
	for i, m := range c.Members() {
		var id clientv3.LeaseID
		err := m.Calmly(func(ctx context.Context, cl *clientv3.Client) error {
			grant, err := cl.Grant(ctx, 600)
			if err == nil {
				id = grant.ID
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("grant at %s: %w", m, err)
		}
		for k := 1; k < len(c.Members()); k++ {
			other := c.Members()[(i+k)%len(c.Members())]
			// Whoever leads renews; it may be behind the member that granted in applying the grant (etcd's may be, too).
			renew := func(ctx context.Context, cl *clientv3.Client) error {
				renewed, err := cl.KeepAliveOnce(ctx, id)
				if err != nil {
					return err
				}
				found, err := cl.TimeToLive(ctx, id)
				// A renewal that a stall of the machine delays is asked for again.
				if err == nil && (renewed.TTL != 600 || found.GrantedTTL != 600 || found.TTL < 590) {
					err = fmt.Errorf("renewed to %d, %d of %d left", renewed.TTL, found.TTL, found.GrantedTTL)
				}
				return err
			}
			err := members.Retry(harness.Patience, func() error { return other.With(20*time.Second, renew) })
			if err != nil {
				return fmt.Errorf("lease of %s renewed at %s: %w", m, other, err)
			}
		}
	}
	return nil
}

// takeOverAll stops the members one by one, under load, and goes on with another kind on the same directories.
func takeOverAll(j *harness.Judge, c *members.Cluster, to string) error {
	for place := range c.Members() {
		old := c.Members()[place]
		if old.Release == to {
			continue
		}
		if err := old.Stop(); err != nil {
			return err
		}
		heir := old.Heir(to)
		c.Put(place, heir)
		if err := heir.Start(c.Initial(), "new"); err != nil {
			return err
		}
		j.Check(heir.AwaitReady(), "%s goes on where %s stopped", heir, old)
		j.Check(c.SameHistory(), "HashKV is the same on all, with %s on the directory of %s", heir, old)
	}
	return nil
}

// replaceAll replaces the members one by one, under load, by fresh ones of another kind.
func replaceAll(j *harness.Judge, c *members.Cluster, to string) error {
	for place := range c.Members() {
		old := c.Members()[place]
		if old.Release == to {
			continue
		}
		fresh, err := members.New(c.Dir, fmt.Sprintf("%s%d", to, place), to)
		if err != nil {
			return err
		}
		// The last of each kind joins as a learner and is promoted.
		asLearner := place == len(c.Members())-1
		how := map[bool]string{true: " as a learner that is promoted", false: ""}[asLearner]
		j.Check(c.Replace(place, fresh, asLearner), "%s takes the place of %s%s", fresh, old, how)
		j.Check(c.SameHistory(), "HashKV is the same on all, with %s", fresh)
	}
	return nil
}
