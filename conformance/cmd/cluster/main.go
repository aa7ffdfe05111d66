// The judge of our clusters under faults: clients read and write registers and watch them while members are killed,
// stopped, cut off, slowed down, filled up, restarted and replaced at random. Then the recorded history must be
// linearizable, nothing acknowledged lost, every watch complete, and all members the same.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

const (
	clients  = 6
	watchers = 3
	// Longest search for an order of the history.
	search = 15 * time.Minute
)

func main() {
	noNamespace := enterNamespace()
	harness.Run("cluster", func(j *harness.Judge) error {
		seconds, err := number("CLUSTER_SECONDS", 180)
		if err != nil {
			return err
		}
		seed, err := number("CLUSTER_SEED", uint64(time.Now().UnixNano()))
		if err != nil {
			return err
		}
		j.Say("CLUSTER_SEED=%d CLUSTER_SECONDS=%d", seed, seconds)
		proxied := func(n *nemesis) (wires, error) { return newProxies(seed, n.named), nil }
		wired := func(*nemesis) (wires, error) { return newNamespaces() }
		if noNamespace != nil {
			j.Say("network namespaces are left out: none can be made here (%v)", noNamespace)
			wired = proxied
		}
		// Half of the time for each size.
		half := time.Duration(seconds) * time.Second / 2
		if err := judge(j, 3, half, seed, wired); err != nil {
			return err
		}
		return judge(j, 5, half, seed+1, proxied)
	})
}

func number(name string, otherwise uint64) (uint64, error) {
	text := os.Getenv(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return n, nil
}

// judge lets a cluster of one size suffer for a while, on wires that `wire` makes.
func judge(j *harness.Judge, size int, length time.Duration, seed uint64, wire func(*nemesis) (wires, error)) error {
	dir := j.Temp(fmt.Sprint(size))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	n := &nemesis{
		judge: j, cluster: &members.Cluster{Dir: dir}, ids: map[*members.Member]uint64{}, counts: map[string]int{},
	}
	var err error
	if n.wires, err = wire(n); err != nil {
		return err
	}
	defer n.wires.end()
	c := n.cluster
	for i := range size {
		m, err := n.newMember(fmt.Sprintf("m%d", i))
		if err != nil {
			return err
		}
		c.Append(m)
	}
	small := c.Members()[0]
	if err := smallDisk(small.Dir); err != nil {
		j.Say("full disks are left out: no file system can be mounted here (%v)", err)
	} else {
		n.small = small
		defer func() { _ = syscall.Unmount(small.Dir, syscall.MNT_DETACH) }()
	}
	defer func() { c.End() }()
	if err := c.StartAll(); err != nil {
		return err
	}
	if err := n.learnIDs(); err != nil {
		return err
	}
	l, err := startLoad(c, seed, clients, watchers)
	if err != nil {
		return err
	}
	// A machine that is busy answers less in that time, and so gets more of it.
	n.trouble(length, seed)
	for more := uint64(1); answered(l, length) != nil && len(n.errs) == 0 && more <= 5; more++ {
		n.trouble(length, seed+2*more)
	}
	what := fmt.Sprintf("%d members on %s", size, n.wires.what())
	j.Check(n.recovered(), "%s: all serve after %s", what, n.summary())
	j.Check(answered(l, length), "%s: enough was answered to judge by", what)
	if err := l.finish(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	answered, unknown := l.recorder.counts()
	j.Check(l.recorder.judge(search), "%s: a linearizable history of %d answers, and %d operations without one", what, answered, unknown)
	events, err := judgeWatches(c, l)
	j.Check(err, "%s: %d watchers saw all %d events once and in order; %d acknowledged writes stand where they were acknowledged",
		what, watchers, events, len(l.recorder.acked))
	j.Check(c.SameHistory(), "%s: HashKV is the same on all", what)
	j.Check(judgeClocks(c), "%s: a lease lasts as long as it was granted for while all wall clocks jump by months", what)
	return nil
}

// trouble lets both hands work for a while, and then everything heal.
func (n *nemesis) trouble(length time.Duration, seed uint64) {
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var hands sync.WaitGroup
	for i, hand := range []func(context.Context, *rand.Rand){n.troubleNetwork, n.troubleProcesses} {
		hands.Add(1)
		go func() {
			defer hands.Done()
			hand(ctx, rand.New(rand.NewPCG(seed, uint64(i))))
		}()
	}
	hands.Wait()
	n.heal(true)
}

// recovered starts what has ended, which nothing but a full disk may have done by itself, and waits for all.
func (n *nemesis) recovered() error {
	if len(n.errs) > 0 {
		return fmt.Errorf("%v", n.errs)
	}
	return n.await()
}

// await waits for all members. The one with the small disk may still be about to end for want of room.
func (n *nemesis) await() error {
	for _, m := range n.cluster.Members() {
		err := m.AwaitReady()
		for tries := 0; m == n.small && errors.Is(err, members.ErrEnded) && tries < 3; tries++ {
			n.raise()
			err = m.AwaitReady()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// answered makes sure that the history says something: a cluster that answers nothing contradicts nothing.
func answered(l *load, length time.Duration) error {
	answered, unknown := l.recorder.counts()
	if least := int(5 * length.Seconds()); answered < least || answered < 4*unknown {
		return fmt.Errorf("%d answers of %d at least, %d operations without one", answered, least, unknown)
	}
	return nil
}

func (n *nemesis) summary() string {
	var all []string
	for what, times := range n.counts {
		all = append(all, fmt.Sprintf("%d × %s", times, what))
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}
