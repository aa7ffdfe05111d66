package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

// nemesis does to a cluster what goes wrong in the world, at random. One hand works on the network, the other on
// processes and disks, each on its own.
type nemesis struct {
	judge   *harness.Judge
	cluster *members.Cluster
	wires   wires
	// steady is held by who needs the network as it should be.
	steady sync.RWMutex

	mu     sync.Mutex
	ids    map[*members.Member]uint64
	counts map[string]int
	errs   []error
	joined int
	// small is the member whose data lies on a disk of its own that can be filled.
	small *members.Member
}

func (n *nemesis) id(m *members.Member) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ids[m]
}

func (n *nemesis) setID(m *members.Member, id uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ids[m] = id
}

func (n *nemesis) did(what string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts[what]++
}

func (n *nemesis) fail(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.errs = append(n.errs, fmt.Errorf(format, args...))
}

// named is the name of the member with an id, "" if that is not known.
func (n *nemesis) named(id uint64) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	for m, known := range n.ids {
		if known == id {
			return m.Name
		}
	}
	return ""
}

// newMember is one of ours behind a wire, with a clock of its own and a short log, so that members that were away are sent
// databases too.
func (n *nemesis) newMember(name string) (*members.Member, error) {
	m, err := members.New(n.cluster.Dir, name, harness.Ours)
	if err != nil {
		return nil, err
	}
	m.Flags = []string{"--snapshot-count=500", "--snapshot-catchup-entries=200"}
	if err := withClock(m); err != nil {
		return nil, err
	}
	return m, n.wires.place(m)
}

// learnIDs asks all members who they are.
func (n *nemesis) learnIDs() error {
	for _, m := range n.cluster.Members() {
		err := members.Retry(harness.Patience, func() error {
			status, err := m.Status()
			if err == nil {
				n.setID(m, status.Header.MemberId)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// leader is who leads as far as somebody knows, or anybody.
func (n *nemesis) leader(rng *rand.Rand) *members.Member {
	all := n.cluster.Members()
	for _, m := range all {
		var leader uint64
		_ = m.With(time.Second, func(ctx context.Context, c *clientv3.Client) error {
			status, err := c.Status(ctx, m.Client)
			if err == nil {
				leader = status.Leader
			}
			return err
		})
		for _, other := range all {
			if leader != 0 && n.id(other) == leader {
				return other
			}
		}
	}
	return all[rng.IntN(len(all))]
}

// victim is the leader every second time.
func (n *nemesis) victim(rng *rand.Rand) *members.Member {
	if rng.IntN(2) == 0 {
		return n.leader(rng)
	}
	all := n.cluster.Members()
	return all[rng.IntN(len(all))]
}

func between(rng *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rng.Int64N(int64(most-least)))
}

// both gives both directions between each of some members and each of others.
func (n *nemesis) both(some, others []*members.Member) []link {
	return append(n.oneWay(some, others), n.oneWay(others, some)...)
}

func (n *nemesis) oneWay(from, to []*members.Member) []link {
	var links []link
	for _, a := range from {
		for _, b := range to {
			if a != b {
				links = append(links, link{a.Name, b.Name})
			}
		}
	}
	return links
}

func shuffled(rng *rand.Rand, all []*members.Member) []*members.Member {
	all = append([]*members.Member(nil), all...)
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// troubleNetwork lets the network fail and heal until the context ends.
func (n *nemesis) troubleNetwork(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(between(rng, time.Second, 5*time.Second))
		n.steady.RLock()
		n.oneTrouble(rng)
		time.Sleep(between(rng, 500*time.Millisecond, 4*time.Second))
		n.heal(rng.IntN(2) == 0)
		n.steady.RUnlock()
	}
}

// heal lets the network be as it should.
func (n *nemesis) heal(cut bool) {
	if err := n.wires.heal(cut); err != nil {
		n.fail("the network does not heal: %w", err)
	}
}

// strain puts a trouble on links, and counts it under its name.
func (n *nemesis) strain(what string, t trouble, links []link) {
	n.did(what)
	if err := n.wires.set(t, links...); err != nil {
		n.fail("%s: %w", what, err)
	}
}

func (n *nemesis) oneTrouble(rng *rand.Rand) {
	all := shuffled(rng, n.cluster.Members())
	victim := []*members.Member{n.victim(rng)}
	half := len(all) / 2
	blocked := trouble{blocked: true}
	switch rng.IntN(7) {
	case 0:
		n.strain("isolated member", blocked, n.both(victim, all))
	case 1:
		n.strain("partition", blocked, n.both(all[:half], all[half:]))
	case 2:
		n.strain("member that is not heard", blocked, n.oneWay(victim, all))
	case 3:
		n.strain("member that hears nothing", blocked, n.oneWay(all, victim))
	case 4:
		// Two sides that only one member in the middle still reaches.
		n.strain("bridge", blocked, n.both(all[:half], all[half+1:]))
	case 5:
		if n.wires.delays() {
			delay := between(rng, 10*time.Millisecond, 300*time.Millisecond)
			n.strain("delay", trouble{delay: delay}, n.both(all, all))
			return
		}
		fallthrough
	default:
		n.strain("loss", trouble{loss: 0.02 + 0.2*rng.Float64()}, n.both(all, all))
	}
}

// troubleProcesses lets processes and disks fail and come back until the context ends.
func (n *nemesis) troubleProcesses(ctx context.Context, rng *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(between(rng, 200*time.Millisecond, 3*time.Second))
		n.oneFault(rng)
	}
}

func (n *nemesis) oneFault(rng *rand.Rand) {
	n.raise()
	switch rng.IntN(14) {
	case 0, 1, 2:
		n.did("kill -9")
		n.killAndRestart(rng, n.victim(rng))
	case 3:
		n.did("kill -9 of all")
		n.killAndRestart(rng, n.cluster.Members()...)
	case 4, 5:
		n.did("SIGSTOP")
		n.stopAndContinue(rng)
	case 6, 7:
		n.did("hanging disk")
		n.hang(n.victim(rng), 1, between(rng, time.Second, 5*time.Second), 0)
	case 8:
		n.did("slow disk")
		n.hang(n.victim(rng), 20, between(rng, 20*time.Millisecond, 200*time.Millisecond), 10*time.Millisecond)
	case 9:
		n.fillDisk(rng)
	case 10:
		n.did("rolling restart")
		n.restartAll()
	case 11, 12:
		n.jump(rng)
	default:
		n.replace(rng)
	}
}

func (n *nemesis) restart(m *members.Member) {
	if err := m.Restart(n.cluster.Initial()); err != nil {
		n.fail("%s does not start: %w", m, err)
	}
}

func (n *nemesis) killAndRestart(rng *rand.Rand, victims ...*members.Member) {
	for _, m := range victims {
		m.Kill()
	}
	time.Sleep(between(rng, 0, 3*time.Second))
	for _, m := range victims {
		n.restart(m)
	}
}

func (n *nemesis) stopAndContinue(rng *rand.Rand) {
	m := n.victim(rng)
	if !m.Runs() {
		return
	}
	_ = m.Signal(syscall.SIGSTOP)
	time.Sleep(between(rng, 200*time.Millisecond, 5*time.Second))
	_ = m.Signal(syscall.SIGCONT)
}

func (n *nemesis) hang(m *members.Member, times int, stopped, running time.Duration) {
	if !m.Runs() {
		return
	}
	if err := hang(m.PID(), times, stopped, running); err != nil && !n.isEnding(m) {
		n.fail("%s: %w", m, err)
	}
}

// isEnding tells whether a member stops for want of room, while which its threads come to an end one by one.
func (n *nemesis) isEnding(m *members.Member) bool {
	if m != n.small {
		return false
	}
	select {
	case <-m.Exited():
		return true
	case <-time.After(5 * time.Second):
		return false
	}
}

// jump sets the wall clock of a member, by seconds or by hours.
func (n *nemesis) jump(rng *rand.Rand) {
	n.did("clock jump")
	furthest := []time.Duration{10 * time.Second, 10 * time.Hour}[rng.IntN(2)]
	m := n.victim(rng)
	if err := setClock(m, between(rng, -furthest, furthest)); err != nil {
		n.fail("the clock of %s: %w", m, err)
	}
}

// fillDisk leaves no room on the small disk for a while. The member may stop for that, and is started again.
func (n *nemesis) fillDisk(rng *rand.Rand) {
	if n.small == nil {
		return
	}
	n.did("full disk")
	giveBack, err := fill(n.small.Dir)
	if err != nil {
		n.fail("the disk of %s cannot be filled: %w", n.small, err)
		return
	}
	time.Sleep(between(rng, 500*time.Millisecond, 4*time.Second))
	giveBack()
	n.raise()
}

// raise starts the member with the small disk again if that has ended it, which may take it a moment.
func (n *nemesis) raise() {
	if n.small != nil && !n.small.Runs() {
		n.did("stopped by a full disk")
		n.restart(n.small)
	}
}

func (n *nemesis) restartAll() {
	for _, m := range n.cluster.Members() {
		n.raise()
		if err := m.Stop(); err != nil {
			n.fail("rolling restart: %w", err)
		}
		n.restart(m)
		// Not longer than an operator would: the next one may go while this one is not back.
		_ = members.Retry(5*time.Second, func() error { _, err := m.Status(); return err })
	}
}

// replace puts a fresh member in the place of another, with a network that works: a cluster in trouble refuses it.
func (n *nemesis) replace(rng *rand.Rand) {
	all := n.cluster.Members()
	place := rng.IntN(len(all))
	if all[place] == n.small {
		place = (place + 1) % len(all)
	}
	n.steady.Lock()
	defer n.steady.Unlock()
	n.heal(true)
	if err := n.await(); err != nil {
		n.fail("before a replacement: %w", err)
		return
	}
	n.mu.Lock()
	n.joined++
	name := fmt.Sprintf("j%d", n.joined)
	n.mu.Unlock()
	fresh, err := n.newMember(name)
	if err != nil {
		n.fail("%w", err)
		return
	}
	asLearner := rng.IntN(2) == 0
	n.did(map[bool]string{true: "replacement by a learner", false: "replacement"}[asLearner])
	if err := n.cluster.Replace(place, fresh, asLearner); err != nil {
		n.fail("%s by %s: %w", all[place], fresh, err)
		return
	}
	if status, err := fresh.Status(); err == nil {
		n.setID(fresh, status.Header.MemberId)
	}
}
