// Speed beside etcd 3.7: the same load on the same disk, one server after the other. It prints figures and judges none.
// Arguments name the releases to run instead, such as `ours` alone. SPEED_LOADS chooses loads by a part of their name.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

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

// echo is the least that a gRPC call can be: what is left of other calls is the server's own work.
func echo(ctx context.Context, c *clientv3.Client, _ int) error {
	_, err := healthpb.NewHealthClient(c.ActiveConnection()).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// rawSyncs writes 300 bytes and waits for them, on the disk of the servers: into a file that has been written once, as
// the servers' logs are.
func rawSyncs(j *harness.Judge, path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(make([]byte, 8<<20)); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	times := make([]time.Duration, 2000)
	for n := range times {
		began := time.Now()
		if _, err := file.WriteAt(make([]byte, 300), int64(n)*300); err != nil {
			return err
		}
		if err := syscall.Fdatasync(int(file.Fd())); err != nil {
			return err
		}
		times[n] = time.Since(began)
	}
	slices.Sort(times)
	j.Say("raw write and fdatasync of 300 bytes: p50 %.3f ms, p99 %.3f ms", ms(times[len(times)/2]), ms(times[len(times)*99/100]))
	return nil
}

func main() {
	harness.Run("speed", func(j *harness.Judge) error {
		scale := 1
		if n, err := strconv.Atoi(os.Getenv("SPEED_SCALE")); err == nil && n > 0 {
			scale = n
		}
		loads := []load{
			{"health check, 1 client", 1, 1, 4000 * scale, echo},
			{"put, 1 client", 1, 1, 2000 * scale, put},
			{"put, 1000 clients", 1000, 100, 20000 * scale, put},
			{"get, 1 client", 1, 1, 4000 * scale, get},
			{"get, 1000 clients", 1000, 100, 40000 * scale, get},
			{"serializable get, 1000 clients", 1000, 100, 40000 * scale, serializable},
		}
		loads = slices.DeleteFunc(loads, func(l load) bool { return !strings.Contains(l.name, os.Getenv("SPEED_LOADS")) })
		releases := []string{"3.7", harness.Ours}
		if len(os.Args) > 1 {
			releases = os.Args[1:]
		}
		if err := rawSyncs(j, j.Temp("raw")); err != nil {
			return err
		}
		for _, release := range releases {
			e, err := harness.Start(release, j.Temp("data-"+release))
			if err != nil {
				return err
			}
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

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

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
	slices.Sort(times)
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
