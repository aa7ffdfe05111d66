package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

// Every member has a wall clock of its own that can be set while it runs: clock/wallclock.c stands between it and the
// system's. Nothing that a cluster promises may hang on that clock.

// withClock gives a member that has not been started its own wall clock.
func withClock(m *members.Member) error {
	m.Env = append(m.Env,
		"LD_PRELOAD="+filepath.Join(harness.Root(), ".work", "bin", "wallclock.so"), "WALLCLOCK="+clockFile(m))
	return setClock(m, 0)
}

func clockFile(m *members.Member) string { return m.Dir + ".clock" }

// setClock puts a member's wall clock so far ahead of the system's, or behind it.
func setClock(m *members.Member, ahead time.Duration) error {
	file, err := os.OpenFile(clockFile(m), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	// One write of eight bytes: the member sees the old value or the new one.
	_, err = file.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(ahead)), 0)
	return err
}

// clockAhead asks a member for the time, as its peers do when they probe it.
func clockAhead(m *members.Member) (time.Duration, error) {
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Get(m.Listen + "/raft/probing")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	var health struct{ Now time.Time }
	if err := json.NewDecoder(answer.Body).Decode(&health); err != nil {
		return 0, err
	}
	return time.Until(health.Now), nil
}

// judgeClocks lets all clocks jump by days under a lease of 20 seconds: it stays for as long as it was granted for, can be
// renewed, and ends when it is not.
func judgeClocks(c *members.Cluster) error {
	const ttl = 20
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, err := members.Connect(c.Endpoints()...)
	if err != nil {
		return err
	}
	defer client.Close()
	lease, err := client.Grant(ctx, ttl)
	if err != nil {
		return err
	}
	for _, ahead := range []time.Duration{30 * 24 * time.Hour, -30 * 24 * time.Hour, 0} {
		for _, m := range c.Members() {
			if err := setClock(m, ahead); err != nil {
				return err
			}
			told, err := clockAhead(m)
			if err != nil {
				return err
			}
			if off := (told - ahead).Abs(); off > time.Minute {
				return fmt.Errorf("the clock of %s was set by %s and is off by %s", m, ahead, told)
			}
		}
		// Several rounds of the search for expired leases.
		time.Sleep(2 * time.Second)
		left, err := client.TimeToLive(ctx, lease.ID)
		if err != nil {
			return err
		}
		if left.TTL < ttl/2 || left.TTL > ttl {
			return fmt.Errorf("of %d seconds, %d are left after a jump by %s", ttl, left.TTL, ahead)
		}
		if _, err := client.KeepAliveOnce(ctx, lease.ID); err != nil {
			return fmt.Errorf("after a jump by %s: %w", ahead, err)
		}
	}
	return expires(ctx, client, lease.ID)
}

// expires waits for the end of a lease that nobody renews any more, for three times as long as it should take.
func expires(ctx context.Context, client *clientv3.Client, id clientv3.LeaseID) error {
	return members.Retry(60*time.Second, func() error {
		left, err := client.TimeToLive(ctx, id)
		if err == nil && left.TTL >= 0 {
			err = fmt.Errorf("the lease has not expired, %d seconds are left", left.TTL)
		}
		return err
	})
}
