// The judge of whole data directories: a directory that a release of etcd wrote, with history, leases, compactions and
// kills inside, starts under our server and answers the same, and goes back; many times over.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

func main() {
	harness.Run("datadir", func(j *harness.Judge) error {
		// Mostly they wait for elections, so all releases go at the same time.
		var going sync.WaitGroup
		for i, release := range harness.Releases {
			going.Add(1)
			go func() {
				defer going.Done()
				if err := backAndForth(j, release, uint64(100+i)); err != nil {
					j.Check(err, "etcd %s", release)
				}
				if err := onwards(j, release); err != nil {
					j.Check(err, "etcd %s, versions rising", release)
				}
			}()
		}
		going.Wait()
		return nil
	})
}

// rounds is how often a directory goes to us and back.
func rounds() int {
	if n, err := strconv.Atoi(os.Getenv("DATADIR_ROUNDS")); err == nil && n > 0 {
		return n
	}
	return 10
}

// seen is everything that a client can know of a member: its state, and each event of the history that is left.
type seen struct {
	state  harness.State
	events []string
}

func look(e *harness.Etcd) (seen, error) {
	state, err := harness.ReadState(e)
	if err != nil {
		return seen{}, fmt.Errorf("its state: %w", err)
	}
	events, err := history(e, max(state.Compact, 0)+1, state.Revision)
	if err != nil {
		return seen{}, fmt.Errorf("its history: %w", err)
	}
	return seen{state, events}, nil
}

func (s seen) differs(other seen) error {
	if err := s.state.Differs(other.state); err != nil {
		return err
	}
	if len(s.events) != len(other.events) {
		return fmt.Errorf("%d events, expected %d", len(other.events), len(s.events))
	}
	for i := range s.events {
		if s.events[i] != other.events[i] {
			return fmt.Errorf("event %.200s, expected %.200s", other.events[i], s.events[i])
		}
	}
	return nil
}

// history reads all events of the revisions from..to.
func history(e *harness.Etcd, from, to int64) ([]string, error) {
	if from > to {
		return nil, nil
	}
	c, err := e.Client()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*harness.Patience)
	defer cancel()
	err = harness.Again(ctx, func(ctx context.Context) error {
		_, err := c.Put(ctx, "end of history", "")
		return err
	})
	if err != nil {
		return nil, err
	}
	var events []string
	for answer := range c.Watch(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(from), clientv3.WithPrevKV()) {
		if err := answer.Err(); err != nil {
			return nil, err
		}
		for _, ev := range answer.Events {
			if ev.Kv.ModRevision > to {
				return events, nil
			}
			events = append(events, fmt.Sprintf("%s %s prev %s", ev.Type, ev.Kv, ev.PrevKv))
		}
	}
	return nil, fmt.Errorf("the watch ended before revision %d", to)
}

// live lets a history go on on a member that is killed in the middle of it, and stopped in order at its end.
func live(release, dir string, h *harness.History, writes int, flags ...string) error {
	for _, kill := range []bool{true, false} {
		e, err := start(release, dir, flags...)
		if err != nil {
			return err
		}
		if err := write(e, h, writes/2); err != nil {
			e.Kill()
			return err
		}
		if kill {
			e.Kill()
		} else if err := e.Stop(); err != nil {
			return err
		}
	}
	return nil
}

// start starts a member that elects itself soon: a real etcd waits for its election timeout even if it is alone.
func start(release, dir string, flags ...string) (*harness.Etcd, error) {
	quick := []string{"--heartbeat-interval=20", "--election-timeout=200"}
	return harness.Start(release, dir, append(quick, flags...)...)
}

func write(e *harness.Etcd, h *harness.History, n int) error {
	c, err := e.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	return h.Write(context.Background(), c, n)
}

// showing starts a member on a copy of a directory and says what it shows: looking writes revisions of its own.
func showing(release, dir, scratch string, flags ...string) (seen, error) {
	if err := os.RemoveAll(scratch); err != nil {
		return seen{}, err
	}
	if err := harness.CopyDir(dir, scratch); err != nil {
		return seen{}, err
	}
	e, err := start(release, scratch, flags...)
	if err != nil {
		return seen{}, err
	}
	defer e.Kill()
	return look(e)
}

// compare tells in what a member on a directory differs from what is expected.
func compare(release, dir, scratch string, expected seen, flags ...string) error {
	now, err := showing(release, dir, scratch, flags...)
	if err != nil {
		return err
	}
	return expected.differs(now)
}

// hold keeps the versions that we found, so that the older release can take the directory back.
const hold = "--hold-cluster-version"

func backAndForth(j *harness.Judge, release string, seed uint64) error {
	dir, scratch := j.Temp("etcd-"+release), j.Temp("scratch-"+release)
	h := harness.NewHistory(seed)
	if err := live(release, dir, h, 300); err != nil {
		return err
	}
	for round := range rounds() {
		theirs, err := showing(release, dir, scratch)
		if err != nil {
			return err
		}
		err = compare(harness.Ours, dir, scratch, theirs, hold)
		j.Check(err, "round %d: ours shows what etcd %s left (revision %d)", round+1, release, theirs.state.Revision)
		if err != nil {
			return nil
		}
		if err := live(harness.Ours, dir, h, 60, hold); err != nil {
			return err
		}
		ours, err := showing(harness.Ours, dir, scratch, hold)
		if err != nil {
			return err
		}
		err = compare(release, dir, scratch, ours)
		j.Check(err, "round %d: etcd %s shows what ours left (revision %d)", round+1, release, ours.state.Revision)
		if err != nil {
			return nil
		}
		if err := live(release, dir, h, 60); err != nil {
			return err
		}
	}
	return nil
}

// onwards lets the versions rise under ours, after which the newest release takes the directory.
func onwards(j *harness.Judge, release string) error {
	dir, scratch := j.Temp("onwards-"+release), j.Temp("onwards-scratch-"+release)
	h := harness.NewHistory(7)
	if err := live(release, dir, h, 120); err != nil {
		return err
	}
	e, err := start(harness.Ours, dir)
	if err != nil {
		return err
	}
	err = awaitVersion(e, "3.7.0")
	j.Check(err, "under ours the versions of a directory of etcd %s rise to 3.7", release)
	if err := e.Stop(); err != nil {
		return err
	}
	ours, err := showing(harness.Ours, dir, scratch)
	if err != nil {
		return err
	}
	j.Check(compare("3.7", dir, scratch, ours), "and etcd 3.7 shows what ours left there")
	return nil
}

// awaitVersion waits until the storage version is there, which follows the cluster version.
func awaitVersion(e *harness.Etcd, version string) error {
	c, err := e.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	deadline := time.Now().Add(harness.Patience)
	for {
		var told string
		err := harness.Again(context.Background(), func(ctx context.Context) error {
			status, err := c.Status(ctx, e.Endpoint)
			if err == nil {
				told = status.StorageVersion
			}
			return err
		})
		if err != nil {
			return err
		}
		if strings.HasPrefix(told, version) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("storage version %q after %s, expected %q", told, harness.Patience, version)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
