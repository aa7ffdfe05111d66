// The differential judge: real etcd and our server get the same requests, generated from a seed over the whole surface
// of the API, and every field of every answer must be the same but for times, sizes and ids that each chose for itself.
// What may differ otherwise stands with its reason in allowed.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"stanchion.invalid/conformance/internal/harness"
)

var (
	seed     = flag.Uint64("seed", 1, "seed of the first round; each round takes the next one")
	rounds   = flag.Int("rounds", 32, "rounds, each on a fresh pair of members")
	requests = flag.Int("requests", 6600, "requests in a round")
	// After a difference the two stores have often parted.
	maxFound = flag.Int("differences", 3, "differences after which a round ends")
	only     = flag.String("scenario", "", "the one scenario to play, or none")
	parallel = flag.Int("parallel", 8, "rounds at the same time")
)

func main() {
	flag.Parse()
	harness.Run("differential", func(j *harness.Judge) error {
		if *rounds > 0 {
			generated(j)
		}
		if *only != "none" {
			scripted(j, *only)
		}
		if *only == "" {
			return checkDefects(j)
		}
		return nil
	})
}

// generated runs the rounds of random requests.
func generated(j *harness.Judge) {
	began := time.Now()
	queue := make(chan uint64)
	var lock sync.Mutex
	var wait sync.WaitGroup
	total, byMethod := 0, map[string]int{}
	for range *parallel {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for s := range queue {
				r := playRound(j, s)
				lock.Lock()
				total += r.sent
				for m, n := range r.byMethod {
					byMethod[m] += n
				}
				var err error
				if len(r.found) > 0 {
					err = r.found[0]
				}
				j.Check(err, "seed %d: %d requests", s, r.sent)
				if err != nil {
					shrink(j, s)
				}
				for _, more := range r.found[min(1, len(r.found)):] {
					j.Say("also: %v", more)
				}
				lock.Unlock()
			}
		}()
	}
	for i := range *rounds {
		queue <- *seed + uint64(i)
	}
	close(queue)
	wait.Wait()
	took := time.Since(began)
	j.Say("%d requests in %.1f s (%.0f/s)", total, took.Seconds(), float64(total)/took.Seconds())
	for _, m := range slices.Sorted(maps.Keys(byMethod)) {
		j.Say("  %7d %s", byMethod[m], m)
	}
	for _, d := range allowedDifferences {
		j.Say("  allowed %d times: %s: %s", allowedCount[d.name], d.name, d.reason)
	}
}

// stillness is how long the machine may stand still before what was found says nothing: etcd gives up a request after
// seven seconds.
const stillness = 3 * time.Second

func playRound(j *harness.Judge, s uint64) (r *round) {
	_ = harness.WhileItRuns(stillness, func(try int) error {
		r = play(j.Temp(fmt.Sprintf("%d-%d", s, try)), &round{seed: s, gen: newGenerator(s), byMethod: map[string]int{}})
		return errors.Join(r.found...)
	})
	return r
}

func play(dir string, r *round) *round {
	p, err := startPair(dir)
	if err != nil {
		r.report(err)
		return r
	}
	defer p.stop()
	r.pair = p
	ctx, cancel := context.WithTimeout(context.Background(), 20*harness.Patience)
	defer cancel()
	r.run(ctx, *requests)
	return r
}
