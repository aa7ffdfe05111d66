package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"stanchion.invalid/conformance/internal/harness"
)

// shrinkTime is how long a difference is made smaller.
const shrinkTime = 2 * time.Minute

// shrink looks for a short sequence of requests that still shows the difference of a seed, and prints it: the round is
// played again with all its requests kept, and ever smaller parts of them are left out, each time on a fresh pair.
func shrink(j *harness.Judge, seed uint64) {
	r := play(j.Temp(fmt.Sprintf("%d-again", seed)), &round{
		seed: seed, gen: newGenerator(seed), byMethod: map[string]int{}, keeps: true})
	if len(r.found) == 0 {
		j.Say("seed %d: no difference the second time", seed)
		return
	}
	attempt := 0
	shows := func(part []request) bool {
		attempt++
		differs, err := replay(j.Temp(fmt.Sprintf("%d-part-%d", seed, attempt)), part)
		return err == nil && differs
	}
	kept := r.all
	if !shows(kept) {
		j.Say("seed %d: the difference does not show without the watch streams beside it", seed)
		return
	}
	deadline := time.Now().Add(shrinkTime)
	for size := len(kept) / 2; size > 0; size /= 2 {
		for from := 0; from < len(kept) && time.Now().Before(deadline); {
			without := slices.Concat(kept[:from], kept[min(from+size, len(kept)):])
			if len(without) > 0 && shows(without) {
				kept = without
			} else {
				from += size
			}
		}
	}
	j.Say("seed %d: %d of %d requests are enough:", seed, len(kept), len(r.all))
	for _, q := range kept {
		j.Say("    %.700s", q)
	}
}

// replay sends requests to a fresh pair; whether an answer differs.
func replay(dir string, requests []request) (bool, error) {
	p, err := startPair(dir)
	if err != nil {
		return false, err
	}
	defer p.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 3*harness.Patience)
	defer cancel()
	for _, q := range requests {
		if differs(q, p.both(ctx, q), p.apart()) != nil {
			return true, nil
		}
		if err := p.alive(); err != nil {
			return true, nil
		}
	}
	return false, nil
}
