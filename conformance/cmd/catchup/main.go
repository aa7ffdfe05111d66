// What it costs a cluster of three that a new member is sent a large database while writes go on. It prints figures and
// judges none.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

const (
	// Bytes of one value of the database that is sent.
	large = 64 << 10
	// Size of the values that are written meanwhile.
	small = 128
	// Time of the undisturbed load.
	quiet = 15 * time.Second
	// Longest wait for the new member.
	patience = 150 * time.Second
)

func main() {
	harness.Run("catchup", func(j *harness.Judge) error {
		mebibytes, rate := number("CATCHUP_MIB", 1024), number("CATCHUP_RATE", 5000)
		c, err := members.NewCluster(j.Temp("cluster"), harness.Ours, harness.Ours, harness.Ours)
		if c != nil {
			defer c.End()
		}
		if err != nil {
			return err
		}
		if err := fill(c, mebibytes); err != nil {
			return err
		}
		leader, err := c.Leader()
		if err != nil {
			return err
		}
		l := &load{rate: rate}
		if err := l.start(leader); err != nil {
			return err
		}
		defer l.stop()
		time.Sleep(quiet)
		j.Say("undisturbed:            %s; leader %s", l.take(), memory(leader))

		fresh, err := members.New(c.Dir, "late", harness.Ours)
		if err != nil {
			return err
		}
		var id uint64
		if err := c.Change(leader, 40*time.Second, "add", members.AddTo(fresh, true, &id)); err != nil {
			return err
		}
		c.Append(fresh)
		l.take()
		began := time.Now()
		if err := fresh.Start(c.Initial(), "existing"); err != nil {
			return err
		}
		err = members.Retry(patience, func() error {
			return leader.With(8*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
				_, err := cl.MemberPromote(ctx, id)
				return err
			})
		})
		if err != nil {
			return fmt.Errorf("promotion: %w\n%s", err, fresh.LastLines())
		}
		took := time.Since(began)
		j.Say("while a member joins:   %s; leader %s, new member %s", l.take(), memory(leader), memory(fresh))
		size, _ := os.Stat(filepath.Join(fresh.Dir, "member/snap/db"))
		j.Say("%d MiB were there, caught up and promoted %.1f s after its start", size.Size()>>20, took.Seconds())
		return nil
	})
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// fill writes so many mebibytes of keys that are never written again.
func fill(c *members.Cluster, mebibytes int) error {
	client, err := members.Connect(c.Endpoints()...)
	if err != nil {
		return err
	}
	defer client.Close()
	value := strings.Repeat("x", large)
	work := make(chan int)
	errs := make(chan error, 8)
	var writers sync.WaitGroup
	for range 8 {
		writers.Add(1)
		go func() {
			defer writers.Done()
			for n := range work {
				if _, err := client.Put(context.Background(), fmt.Sprintf("large/%08d", n), value); err != nil {
					errs <- err
					for range work {
					}
					return
				}
			}
		}()
	}
	for n := range mebibytes << 20 / large {
		work <- n
	}
	close(work)
	writers.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// load writes at a fixed rate, whatever the answers take.
type load struct {
	rate   int
	client *clientv3.Client
	end    context.CancelFunc

	mu     sync.Mutex
	times  []time.Duration
	failed int
	since  time.Time
}

func (l *load) start(m *members.Member) error {
	client, err := m.Connect()
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	l.client, l.end, l.since = client, end, time.Now()
	value := strings.Repeat("y", small)
	go func() {
		began, sent := time.Now(), 0
		for ctx.Err() == nil {
			for due := int(time.Since(began).Seconds() * float64(l.rate)); sent < due; sent++ {
				go l.one(ctx, fmt.Sprintf("small/%05d", sent%10000), value)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	return nil
}

func (l *load) one(ctx context.Context, key, value string) {
	began := time.Now()
	_, err := l.client.Put(ctx, key, value)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failed++
		return
	}
	l.times = append(l.times, time.Since(began))
}

// take tells of the writes since the last call.
func (l *load) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	times, failed, length := l.times, l.failed, time.Since(l.since)
	l.times, l.failed, l.since = nil, 0, time.Now()
	if len(times) == 0 {
		return "no writes"
	}
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return fmt.Sprintf("%5.0f writes/s, p50 %.1f ms, p99 %.1f ms, %d failed", float64(len(times))/length.Seconds(),
		ms(times[len(times)/2]), ms(times[len(times)*99/100]), failed)
}

func (l *load) stop() {
	l.end()
	l.client.Close()
}

// memory is what the process holds of its own; pages of the mapped database are the kernel's to take back.
func memory(m *members.Member) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", m.PID()))
	if err != nil {
		return "is gone"
	}
	for _, line := range strings.Split(string(text), "\n") {
		if kib, found := strings.CutPrefix(line, "RssAnon:"); found {
			n, _ := strconv.Atoi(strings.Fields(kib)[0])
			return fmt.Sprintf("holds %d MiB", n>>10)
		}
	}
	return "says nothing"
}
