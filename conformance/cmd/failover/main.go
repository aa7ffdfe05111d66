// How long a cluster of three takes no writes when its leader goes: killed, and asked to end. It prints figures and judges
// none. Arguments name the releases to run instead of ours, such as `3.7`.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

const (
	// Time between two writes; each is on its way on its own, so that one which is lost does not hold up the next.
	every = 2 * time.Millisecond
	// Longest wait of one write.
	patience = 5 * time.Second
	// How long writes are looked at before and after the leader goes.
	before, after = 300 * time.Millisecond, 4 * time.Second
)

func main() {
	harness.Run("failover", func(j *harness.Judge) error {
		kills, terms := rounds("FAILOVER_KILLS", 50), rounds("FAILOVER_TERMS", 20)
		releases := []string{harness.Ours}
		if len(os.Args) > 1 {
			releases = os.Args[1:]
		}
		for _, release := range releases {
			if err := measure(j, release, kills, terms); err != nil {
				return fmt.Errorf("%s: %w", release, err)
			}
		}
		return nil
	})
}

func rounds(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func measure(j *harness.Judge, release string, kills, terms int) error {
	c, err := members.NewCluster(j.Temp(release), release, release, release)
	if c != nil {
		defer c.End()
	}
	if err != nil {
		return err
	}
	for _, way := range []struct {
		name   string
		rounds int
		end    func(*members.Member) error
	}{
		{"kill -9", kills, func(m *members.Member) error { m.Kill(); return nil }},
		{"SIGTERM", terms, (*members.Member).Stop},
	} {
		var pauses []time.Duration
		for range way.rounds {
			pause, err := round(c, way.end)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			pauses = append(pauses, pause)
		}
		if len(pauses) == 0 {
			continue
		}
		sort.Slice(pauses, func(a, b int) bool { return pauses[a] < pauses[b] })
		j.Say("%-5s %s of the leader: longest pause between two acknowledged writes: median %4d ms, best %4d ms, worst %4d ms (%d rounds)",
			release, way.name, pauses[len(pauses)/2].Milliseconds(), pauses[0].Milliseconds(),
			pauses[len(pauses)-1].Milliseconds(), len(pauses))
	}
	return nil
}

// round ends the leader under a stream of writes at another member, and starts it again. It gives the longest time without
// an acknowledged write.
func round(c *members.Cluster, end func(*members.Member) error) (time.Duration, error) {
	leader, err := c.Leader()
	if err != nil {
		return 0, err
	}
	// A member that has just come back is not one to hand over to.
	time.Sleep(500 * time.Millisecond)
	all := c.Members()
	writer := all[0]
	if writer == leader {
		writer = all[1]
	}
	client, err := writer.Connect()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	if _, err := client.Put(context.Background(), "failover", ""); err != nil {
		return 0, err
	}
	acknowledged := stream(client, func() error {
		time.Sleep(before)
		return end(leader)
	})
	if err := leader.Start(c.Initial(), "new"); err != nil {
		return 0, err
	}
	if err := leader.AwaitReady(); err != nil {
		return 0, err
	}
	if len(acknowledged) < 2 {
		return 0, fmt.Errorf("%d writes were acknowledged", len(acknowledged))
	}
	sort.Slice(acknowledged, func(a, b int) bool { return acknowledged[a].Before(acknowledged[b]) })
	var longest time.Duration
	for i := 1; i < len(acknowledged); i++ {
		longest = max(longest, acknowledged[i].Sub(acknowledged[i-1]))
	}
	return longest, nil
}

// stream writes all the while, and gives the times at which writes were acknowledged.
func stream(client *clientv3.Client, fate func() error) []time.Time {
	var mu sync.Mutex
	var times []time.Time
	// A write that began after the leader's end was acknowledged.
	var resumed atomic.Bool
	var writes sync.WaitGroup
	ended := make(chan struct{})
	go func() {
		_ = fate()
		close(ended)
	}()
	deadline := time.Now().Add(before + after)
	for time.Now().Before(deadline) {
		writes.Add(1)
		go func() {
			defer writes.Done()
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			isAfter := false
			select {
			case <-ended:
				isAfter = true
			default:
			}
			if _, err := client.Put(ctx, "failover", "x"); err == nil {
				if isAfter {
					resumed.Store(true)
				}
				mu.Lock()
				times = append(times, time.Now())
				mu.Unlock()
			}
		}()
		time.Sleep(every)
		// Half a second after somebody leads again there is nothing more to see.
		if resumed.Load() && time.Until(deadline) > 500*time.Millisecond {
			deadline = time.Now().Add(500 * time.Millisecond)
		}
	}
	writes.Wait()
	return times
}
