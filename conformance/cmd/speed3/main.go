// Three members beside three of etcd 3.7: the same writes on the same disk, one cluster after the other. It prints figures
// and judges none. Arguments name the releases to run instead.
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
	"stanchion.invalid/conformance/internal/members"
)

var value = strings.Repeat("v", 256)

func main() {
	harness.Run("speed3", func(j *harness.Judge) error {
		scale := 1
		if n, err := strconv.Atoi(os.Getenv("SPEED_SCALE")); err == nil && n > 0 {
			scale = n
		}
		releases := []string{"3.7", harness.Ours, "3.7", harness.Ours}
		if len(os.Args) > 1 {
			releases = os.Args[1:]
		}
		for i, release := range releases {
			c, err := members.NewCluster(j.Temp(fmt.Sprintf("%d-%s", i, release)), release, release, release)
			if err == nil {
				err = run(j, c, release, 1, 1, 2000*scale)
			}
			if err == nil {
				err = run(j, c, release, 1000, 99, 50000*scale)
			}
			if c != nil {
				c.End()
			}
			if err != nil {
				return fmt.Errorf("%s: %w", release, err)
			}
		}
		return nil
	})
}

// run puts `requests` pairs with so many clients at a time, over connections that are spread evenly over the members.
func run(j *harness.Judge, c *members.Cluster, release string, clients, connections, requests int) error {
	if _, err := c.Leader(); err != nil {
		return err
	}
	var open []*clientv3.Client
	for i := range connections {
		all := c.Members()
		client, err := all[i%len(all)].Connect()
		if err != nil {
			return err
		}
		defer client.Close()
		if _, err := client.Get(context.Background(), "warm"); err != nil {
			return err
		}
		open = append(open, client)
	}
	times := make([]time.Duration, requests)
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var working sync.WaitGroup
	cpu, began := cpuSeconds(c), time.Now()
	for client := range clients {
		working.Add(1)
		go func() {
			defer working.Done()
			for {
				n := int(next.Add(1)) - 1
				if n >= requests {
					return
				}
				at := time.Now()
				key := fmt.Sprintf("key/%08d", n%100000)
				if _, err := open[client%len(open)].Put(context.Background(), key, value); err != nil {
					failed.Store(&err)
					return
				}
				times[n] = time.Since(at)
			}
		}()
	}
	working.Wait()
	took, used := time.Since(began), cpuSeconds(c)-cpu
	if err := failed.Load(); err != nil {
		return *err
	}
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	j.Say("%-5s put, %4d clients: p50 %7.2f ms, p99 %7.2f ms, %6.0f/s, CPU of all three %5.1f s per 100,000", release, clients,
		ms(times[requests/2]), ms(times[requests*99/100]), float64(requests)/took.Seconds(), used*100000/float64(requests))
	return nil
}

// cpuSeconds is what all members have used, user and system, by the kernel's count in hundredths of a second.
func cpuSeconds(c *members.Cluster) float64 {
	var sum float64
	for _, m := range c.Members() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", m.PID()))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		user, _ := strconv.ParseFloat(fields[11], 64)
		system, _ := strconv.ParseFloat(fields[12], 64)
		sum += (user + system) / 100
	}
	return sum
}
