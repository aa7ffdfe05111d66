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
	answer, err := (&http.Client{Timeout: harness.Patience}).Get(m.Listen + "/raft/probing")
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

// judgeClocks lets all clocks jump by days under a lease of half a minute: it stays for as long as it was granted for, can be
// renewed, and ends when it is not.
func judgeClocks(c *members.Cluster) error {
	const ttl = 30
	client, err := members.Connect(c.Endpoints()...)
	if err != nil {
		return err
	}
	defer client.Close()
	var lease *clientv3.LeaseGrantResponse
	renewed := time.Now()
	err = harness.Again(context.Background(), func(ctx context.Context) (err error) {
		renewed = time.Now()
		lease, err = client.Grant(ctx, ttl)
		return err
	})
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
		err := harness.Again(context.Background(), func(ctx context.Context) error {
			left, err := client.TimeToLive(ctx, lease.ID)
			if err != nil {
				return err
			}
			// What has gone by may be gone; a new leader gives a little more than was granted.
			since := int64(time.Since(renewed)/time.Second) + 2
			if left.TTL < ttl-since || left.TTL > ttl+2 {
				return fmt.Errorf("of %d seconds, %d are left after a jump by %s, and at most %d s", ttl, left.TTL, ahead, since)
			}
			began := time.Now()
			if _, err = client.KeepAliveOnce(ctx, lease.ID); err == nil {
				renewed = began
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("after a jump by %s: %w", ahead, err)
		}
	}
	return expires(client, lease.ID)
}

// expires waits for the end of a lease that nobody renews any more.
func expires(client *clientv3.Client, id clientv3.LeaseID) error {
	return members.Retry(harness.Patience, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		left, err := client.TimeToLive(ctx, id)
		if err == nil && left.TTL >= 0 {
			err = fmt.Errorf("the lease has not expired, %d seconds are left", left.TTL)
		}
		return err
	})
}
