// What it costs a cluster of three that a new member is sent a large database while writes go on. It prints figures and
// judges none.
//
//	CATCHUP_MIB      size of the database, 1024
//	CATCHUP_RATE     writes a second, 5000
//	CATCHUP_ROUNDS   how often one joins, 3
//	CATCHUP_RELEASE  whose cluster: ours, or a release of etcd such as 3.7
//	CATCHUP_LATE     folder of the new member, to give it a disk of its own; else the disk of the others
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
	// The disk has this long for what filling the database left it to do.
	settling = 5 * time.Second
	// Time of the undisturbed load.
	quiet = 15 * time.Second
	// Longest wait for the new member, and the pause between two questions whether it has caught up.
	patience, pause = 150 * time.Second, 250 * time.Millisecond
)

func main() {
	harness.Run("catchup", func(j *harness.Judge) error {
		release := harness.Ours
		if named := os.Getenv("CATCHUP_RELEASE"); named != "" {
			release = named
		}
		c, err := members.NewCluster(j.Temp("cluster"), release, release, release)
		if c != nil {
			defer c.End()
		}
		if err != nil {
			return err
		}
		if err := fill(c, number("CATCHUP_MIB", 1024)); err != nil {
			return err
		}
		leader, err := c.Leader()
		if err != nil {
			return err
		}
		l := &load{rate: number("CATCHUP_RATE", 5000)}
		if err := l.start(leader); err != nil {
			return err
		}
		defer l.stop()
		for n := range number("CATCHUP_ROUNDS", 3) {
			time.Sleep(settling)
			l.take()
			time.Sleep(quiet)
			undisturbed := l.take()
			j.Say("undisturbed:            %s; leader %s", undisturbed, memory(leader))
			j.Say("p99 by second, ms:      %s", undisturbed.bySecond())
			fresh, err := newcomer(c, release, n)
			if err != nil {
				return err
			}
			if err := join(j, c, leader, fresh, l); err != nil {
				return err
			}
		}
		return nil
	})
}

// newcomer is a member that is not started yet.
func newcomer(c *members.Cluster, release string, n int) (*members.Member, error) {
	dir := c.Dir
	if named := os.Getenv("CATCHUP_LATE"); named != "" {
		var err error
		if dir, err = os.MkdirTemp(named, "catchup"); err != nil {
			return nil, err
		}
	}
	return members.New(dir, fmt.Sprintf("late%d", n), release)
}

// join has a member join under load until it is a voter, tells what that cost, and removes it again.
func join(j *harness.Judge, c *members.Cluster, leader, fresh *members.Member, l *load) error {
	if fresh.Dir != filepath.Join(c.Dir, fresh.Name) {
		defer os.RemoveAll(filepath.Dir(fresh.Dir))
	}
	var id uint64
	if err := c.Change(leader, "add", members.AddTo(fresh, true, &id)); err != nil {
		return err
	}
	place := len(c.Members())
	c.Append(fresh)
	l.take()
	began, arrived := time.Now(), arrivals(fresh)
	if err := fresh.Start(c.Initial(), "existing"); err != nil {
		return err
	}
	err := members.Retry(patience, func() error {
		time.Sleep(pause)
		_, err := l.client.MemberPromote(context.Background(), id)
		return err
	})
	if err != nil {
		return fmt.Errorf("promotion: %w\n%s", err, fresh.LastLines())
	}
	took, joining := time.Since(began), l.take()
	size, err := os.Stat(filepath.Join(fresh.Dir, "member/snap/db"))
	if err != nil {
		return err
	}
	j.Say("while a member joins:   %s; leader %s, new member %s", joining, memory(leader), memory(fresh))
	j.Say("p99 by second, ms:      %s", joining.bySecond())
	j.Say("MiB on disk by then:    %s", arrived())
	j.Say("%d MiB were there, caught up and promoted %.1f s after its start", size.Size()>>20, took.Seconds())

	if err := c.Change(leader, "remove", members.RemoveFrom(id)); err != nil {
		return err
	}
	c.Remove(place)
	fresh.Kill()
	return nil
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

	mu  sync.Mutex
	now window
}

// window is what became of the writes of a while.
type window struct {
	since   time.Time
	length  time.Duration
	answers []answer
	failed  int
}

// answer is one write: when it was sent, counted from the window's begin, and what it took.
type answer struct{ sent, took time.Duration }

func (l *load) start(m *members.Member) error {
	client, err := m.Connect()
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(context.Background())
	l.client, l.end, l.now.since = client, end, time.Now()
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
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.now.failed++
		return
	}
	l.now.answers = append(l.now.answers, answer{began.Sub(l.now.since), took})
}

// take gives the writes that were answered since the last call.
func (l *load) take() window {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.now
	taken.length = time.Since(taken.since)
	l.now = window{since: time.Now()}
	return taken
}

func (w window) String() string {
	times := make([]time.Duration, len(w.answers))
	for i, a := range w.answers {
		times[i] = a.took
	}
	return fmt.Sprintf("%5.0f writes/s, p50 %.1f ms, p99 %.1f ms, slowest %.0f ms, %d failed",
		float64(len(times))/w.length.Seconds(), percentile(times, 50), percentile(times, 99), percentile(times, 100), w.failed)
}

// bySecond gives the 99th percentile of each second's writes, and their median: how a second usually goes, however the
// disk fared in a few of them.
func (w window) bySecond() string {
	seconds := make([][]time.Duration, int(w.length.Seconds())+1)
	for _, a := range w.answers {
		if s := int(a.sent.Seconds()); a.sent >= 0 && s < len(seconds) {
			seconds[s] = append(seconds[s], a.took)
		}
	}
	var text strings.Builder
	var found []float64
	for _, times := range seconds {
		if len(times) > 0 {
			found = append(found, percentile(times, 99))
			fmt.Fprintf(&text, "%6.0f", found[len(found)-1])
		}
	}
	sort.Float64s(found)
	if len(found) > 0 {
		fmt.Fprintf(&text, "; median %.0f", found[len(found)/2])
	}
	return text.String()
}

// percentile is in milliseconds; it sorts the times.
func percentile(times []time.Duration, percent int) float64 {
	if len(times) == 0 {
		return 0
	}
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	return float64(times[min(len(times)*percent/100, len(times)-1)].Microseconds()) / 1000
}

// arrivals notes every second how much the new member has on disk, until what it returns is called.
func arrivals(m *members.Member) func() string {
	ctx, end := context.WithCancel(context.Background())
	var text strings.Builder
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
				fmt.Fprintf(&text, "%6d", largest(filepath.Join(m.Dir, "member/snap"))>>20)
			}
		}
	}()
	return func() string {
		end()
		<-done
		return text.String()
	}
}

// largest is the length of the largest file in a folder, 0 if there is none.
func largest(dir string) int64 {
	entries, _ := os.ReadDir(dir)
	var found int64
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil {
			found = max(found, info.Size())
		}
	}
	return found
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
