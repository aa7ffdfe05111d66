// Start times and memory beside etcd 3.7: from the start of the process to the first linearizable read, on an empty
// directory and on a million keys, and the anonymous memory that a million keys take. It prints figures and judges none.
// Arguments name the releases to run instead, such as `ours` alone; START_KEYS sets the number of keys.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

const (
	rounds  = 5
	inTxn   = 100
	writers = 32
)

var value = strings.Repeat("v", 256)

func main() {
	harness.Run("start", func(j *harness.Judge) error {
		keys := 1_000_000
		if n, err := strconv.Atoi(os.Getenv("START_KEYS")); err == nil && n > 0 {
			keys = n
		}
		releases := []string{"3.7", harness.Ours}
		if len(os.Args) > 1 {
			releases = os.Args[1:]
		}
		for _, release := range releases {
			if err := one(j, release, keys); err != nil {
				return fmt.Errorf("%s: %w", release, err)
			}
		}
		return nil
	})
}

func one(j *harness.Judge, release string, keys int) error {
	var empty []time.Duration
	for n := range rounds {
		e, took, err := start(release, j.Temp(fmt.Sprintf("empty-%s-%d", release, n)))
		if err != nil {
			return err
		}
		empty = append(empty, took)
		if err := e.Stop(); err != nil {
			return err
		}
	}
	say(j, release, "empty directory", empty)

	dir := j.Temp("full-" + release)
	e, _, err := start(release, dir)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := fill(e, keys); err != nil {
		e.Kill()
		return err
	}
	j.Say("%-5s %d keys of %d bytes written in %.1f s: %s", release, keys, len(value), time.Since(began).Seconds(), memory(e))
	if err := e.Stop(); err != nil {
		return err
	}
	var full []time.Duration
	for range rounds {
		e, took, err := start(release, dir)
		if err != nil {
			return err
		}
		full = append(full, took)
		if len(full) == rounds {
			j.Say("%-5s %d keys after a restart: %s", release, keys, memory(e))
		}
		if err := e.Stop(); err != nil {
			return err
		}
	}
	say(j, release, fmt.Sprintf("%d keys", keys), full)
	return nil
}

func say(j *harness.Judge, release, what string, times []time.Duration) {
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	j.Say("%-5s %s: first linearizable read after %.0f ms (%.0f to %.0f)", release, what,
		ms(times[len(times)/2]), ms(times[0]), ms(times[len(times)-1]))
}

// start measures from the start of the process. The port is asked for until it is open, so that the client's own pause
// after a failed connection does not count.
func start(release, dir string) (*harness.Etcd, time.Duration, error) {
	began := time.Now()
	e, err := harness.Launch(release, dir)
	if err != nil {
		return nil, 0, err
	}
	if err := e.AwaitPort(time.Minute); err != nil {
		e.Kill()
		return nil, 0, err
	}
	c, err := e.Client()
	if err != nil {
		e.Kill()
		return nil, 0, err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if _, err = c.Get(ctx, "key/00000001"); err == nil {
			return e, time.Since(began), nil
		}
		if ctx.Err() != nil || e.Exited() {
			e.Kill()
			return nil, 0, err
		}
		time.Sleep(time.Millisecond)
	}
}

func fill(e *harness.Etcd, keys int) error {
	c, err := e.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	var working sync.WaitGroup
	failed := make(chan error, writers)
	for w := range writers {
		working.Add(1)
		go func() {
			defer working.Done()
			for from := w * inTxn; from < keys; from += writers * inTxn {
				var ops []clientv3.Op
				for n := from; n < min(from+inTxn, keys); n++ {
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("key/%08d", n), value))
				}
				if _, err := c.Txn(context.Background()).Then(ops...).Commit(); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	working.Wait()
	close(failed)
	return <-failed
}

func memory(e *harness.Etcd) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", e.PID()))
	if err != nil {
		return err.Error()
	}
	var parts []string
	for _, line := range strings.Split(string(text), "\n") {
		fields := strings.Fields(line)
		if len(fields) == 3 && (fields[0] == "RssAnon:" || fields[0] == "RssFile:") {
			kib, _ := strconv.ParseFloat(fields[1], 64)
			parts = append(parts, fmt.Sprintf("%s %.0f MiB", strings.TrimSuffix(fields[0], ":"), kib/1024))
		}
	}
	return strings.Join(parts, ", ")
}
