// Speed beside etcd 3.7: the same load on the same disk, one server after the other. It prints figures and judges none.
// Arguments name the releases to run instead, such as `ours` alone.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

// A load is one kind of request by so many clients, which share connections as etcd's own benchmark does.
type load struct {
	name        string
	clients     int
	connections int
	requests    int
	one         func(ctx context.Context, c *clientv3.Client, n int) error
}

var value = strings.Repeat("v", 256)

func put(ctx context.Context, c *clientv3.Client, n int) error {
	_, err := c.Put(ctx, fmt.Sprintf("key/%08d", n%100000), value)
	return err
}

func get(ctx context.Context, c *clientv3.Client, n int) error {
	_, err := c.Get(ctx, fmt.Sprintf("key/%08d", n%1000))
	return err
}

func serializable(ctx context.Context, c *clientv3.Client, n int) error {
	_, err := c.Get(ctx, fmt.Sprintf("key/%08d", n%1000), clientv3.WithSerializable())
	return err
}

func main() {
	harness.Run("speed", func(j *harness.Judge) error {
		scale := 1
		if n, err := strconv.Atoi(os.Getenv("SPEED_SCALE")); err == nil && n > 0 {
			scale = n
		}
		loads := []load{
			{"put, 1 client", 1, 1, 2000 * scale, put},
			{"put, 1000 clients", 1000, 100, 20000 * scale, put},
			{"get, 1 client", 1, 1, 4000 * scale, get},
			{"get, 1000 clients", 1000, 100, 40000 * scale, get},
			{"serializable get, 1000 clients", 1000, 100, 40000 * scale, serializable},
		}
		releases := []string{"3.7", harness.Ours}
		if len(os.Args) > 1 {
			releases = os.Args[1:]
		}
		for _, release := range releases {
			began := time.Now()
			e, err := harness.Start(release, j.Temp("data-"+release))
			if err != nil {
				return err
			}
			j.Say("%s: first linearizable read %.0f ms after the start", release, ms(time.Since(began)))
			for _, l := range loads {
				if err := run(j, e, release, l); err != nil {
					e.Kill()
					return fmt.Errorf("%s: %s: %w", release, l.name, err)
				}
			}
			if err := e.Stop(); err != nil {
				return err
			}
		}
		return nil
	})
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func run(j *harness.Judge, e *harness.Etcd, release string, l load) error {
	var connections []*clientv3.Client
	for range l.connections {
		c, err := e.Client()
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Get(context.Background(), "warm"); err != nil {
			return err
		}
		connections = append(connections, c)
	}
	times := make([]time.Duration, l.requests)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var working sync.WaitGroup
	cpu, began := cpuSeconds(e.PID()), time.Now()
	for client := range l.clients {
		working.Add(1)
		go func() {
			defer working.Done()
			c := connections[client%len(connections)]
			for {
				n := int(next.Add(1)) - 1
				if n >= l.requests {
					return
				}
				at := time.Now()
				if err := l.one(context.Background(), c, n); err != nil {
					failed.Store(&err)
					return
				}
				times[n] = time.Since(at)
			}
		}()
	}
	working.Wait()
	took, used := time.Since(began), cpuSeconds(e.PID())-cpu
	if err := failed.Load(); err != nil {
		return *err
	}
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	j.Say("%-5s %-32s p50 %7.2f ms, p99 %7.2f ms, %6.0f/s, server CPU %5.1f s per 100,000", release, l.name,
		ms(times[len(times)/2]), ms(times[len(times)*99/100]), float64(l.requests)/took.Seconds(),
		used*100000/float64(l.requests))
	return nil
}

// cpuSeconds is what the process has used, user and system, by the kernel's count in hundredths of a second.
func cpuSeconds(pid int) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100
}
