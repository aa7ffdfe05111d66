package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"stanchion.invalid/conformance/internal/harness"
)

// scenario is a fixed sequence for what random requests do not reach: limits, waiting, ids of the server's choice.
type scenario struct {
	name string
	flag []string
	play func(ctx context.Context, r *round) error
}

// scripted plays every scenario, each on a pair of its own.
func scripted(j *harness.Judge, only string) {
	var lock sync.Mutex
	var wait sync.WaitGroup
	slots := make(chan struct{}, *parallel)
	for _, s := range scenarios {
		if only != "" && only != s.name {
			continue
		}
		wait.Add(1)
		slots <- struct{}{}
		go func() {
			defer func() { <-slots; wait.Done() }()
			began := time.Now()
			var r *round
			_ = harness.WhileItRuns(stillness, func(try int) error {
				r = playScenario(j.Temp("scenario", fmt.Sprintf("%s-%d", s.name, try)), s)
				return errors.Join(r.found...)
			})
			var err error
			if len(r.found) > 0 {
				err = r.found[0]
				r.found = r.found[1:]
			}
			lock.Lock()
			defer lock.Unlock()
			j.Check(err, "%s: %d requests, %.1f s", s.name, r.sent, time.Since(began).Seconds())
			for _, more := range r.found {
				j.Say("also: %v", more)
			}
		}()
	}
	wait.Wait()
}

func playScenario(dir string, s scenario) *round {
	r := &round{gen: newGenerator(0), byMethod: map[string]int{}}
	p, err := startPair(dir, s.flag...)
	if err != nil {
		r.found = append(r.found, err)
		return r
	}
	defer p.stop()
	r.pair = p
	ctx, cancel := context.WithTimeout(context.Background(), 5*harness.Patience)
	defer cancel()
	err = s.play(ctx, r)
	if err == nil {
		err = p.alive()
	}
	if err != nil {
		r.found = append(r.found, err)
	}
	return r
}

var scenarios = []scenario{
	{"chosen ids", nil, chosenIDs},
	{"lock", nil, lockContention},
	{"election", nil, electionObserved},
	{"sizes", nil, sizes},
	{"transaction limits", []string{"--max-txn-ops=5"}, txnLimits},
	{"expiry", nil, expiry},
	{"membership", nil, membership},
	{"range stream", nil, rangeStreams},
	{"watch history", []string{"--watch-progress-notify-interval=200ms"}, watchHistory},
	{"watch fragments", nil, watchFragments},
	{"metadata", nil, metadata},
	{"first compactions", nil, firstCompactions},
	{"defragment and snapshot", nil, defragmentAndSnapshot},
	{"gateway", nil, gatewayRandom},
	{"gateway forms", nil, gatewayForms},
	{"gateway streams", nil, gatewayStreams},
	{"plain http", nil, plainHTTP},
	{"quota", []string{"--quota-backend-bytes=8000000"}, quota},
}
