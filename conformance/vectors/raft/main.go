// Prints raft messages as Go's raft libraries put them on the wire: `raft 3.5` (always all fields) or `raft 3.7` (only
// fields that were set). The crates' tests compare their own bytes with these.
//
// Three nodes talk; every message that has a form of its own (its type, and which fields are not zero) is printed
// once: type, fields and bytes in hex, separated by tabs. An entry is type/term/index/data, a snapshot
// term/index/data/voters/learners; data and contexts are hex.
//
// Both libraries in one process need GOLANG_PROTOBUF_REGISTRATION_CONFLICT=ignore: they name their messages alike.
package main

import (
	"fmt"
	"os"
)

// One id is as large as real member ids are.
var ids = []uint64{1, 0x8e9e05c52164694d, 3}

// message is one message of either library.
type message struct {
	from, to uint64
	kind     string
	// shape says which fields are not zero.
	shape  string
	fields string
	bytes  []byte
	raw    any
}

// node is a member of either library.
type node interface {
	Campaign() error
	Propose(data []byte) error
	ReadIndex(context []byte)
	Tick()
	TransferLeader(id uint64)

	// proposeLearner adds a learner by the old kind of conf change, proposeJoint by one that enters a joint one.
	proposeLearner(id uint64) error
	proposeJoint(add, remove uint64) error
	compact()
	// handle does what the library asks for and gives its messages.
	handle() []message
	step(message) error
	leader() bool
}

type cluster struct {
	nodes map[uint64]node
	cut   map[uint64]bool
	seen  map[string]bool
}

func main() {
	starts := map[string]func(uint64) node{"3.5": start35, "3.7": start37}
	if len(os.Args) != 2 || starts[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: raft 3.5|3.7")
		os.Exit(2)
	}
	c := &cluster{nodes: map[uint64]node{}, cut: map[uint64]bool{}, seen: map[string]bool{}}
	for _, id := range ids {
		c.nodes[id] = starts[os.Args[1]](id)
	}
	fmt.Printf("# Messages of Go's raft library of etcd %s: type, fields, bytes. Made by conformance/vectors/raft.\n", os.Args[1])
	c.converse()
}

// converse makes the nodes say everything that goes over the wire.
func (c *cluster) converse() {
	one, two, three := c.nodes[ids[0]], c.nodes[ids[1]], c.nodes[ids[2]]

	// Pre-vote, vote, the leader's first entry; proposals and reads, also by way of a follower.
	check(one.Campaign())
	c.settle()
	check(one.Propose([]byte("first")))
	check(two.Propose([]byte("by way of a follower")))
	check(one.Propose(nil))
	c.settle()
	one.ReadIndex([]byte("read at the leader"))
	two.ReadIndex([]byte("read at a follower"))
	c.settle()
	c.tick(2)

	// A follower that was away: entries in bulk, then entries that the leader has no more.
	c.cut[ids[2]] = true
	for i := range 5 {
		check(one.Propose(fmt.Appendf(nil, "while one is away %d", i)))
	}
	c.settle()
	c.cut[ids[2]] = false
	c.tick(3)
	c.cut[ids[2]] = true
	check(one.Propose(make([]byte, 300)))
	c.settle()
	one.compact()
	c.cut[ids[2]] = false
	c.tick(3)

	// Membership, in both forms.
	check(one.proposeLearner(4))
	c.settle()
	check(one.proposeJoint(5, 4))
	c.settle()
	c.tick(2)

	// The leader changes hands, asked by a follower.
	two.TransferLeader(ids[1])
	c.settle()
	check(two.Propose([]byte("new leader")))
	c.settle()

	// A leader that is cut off gathers entries that nobody will have; another one is elected meanwhile.
	c.cut[ids[1]] = true
	check(two.Propose([]byte("lost")))
	check(two.Propose([]byte("lost too")))
	c.settle()
	c.elect(ids[0], ids[2])
	check(one.Propose([]byte("kept")))
	c.settle()
	c.cut[ids[1]] = false
	c.tick(4)

	// A candidate whose log is behind is refused, once nobody hears from the leader.
	c.cut[ids[2]] = true
	check(one.Propose([]byte("not seen by the candidate")))
	c.settle()
	c.cut[ids[2]], c.cut[ids[0]] = false, true
	for range 10 {
		two.Tick()
	}
	check(three.Campaign())
	c.settle()
	c.cut[ids[0]] = false
	c.tick(12)
}

// elect lets two nodes forget a leader that is cut off, until the first of them is it. Timeouts are random, so it may
// be the other one's turn first, which then hands over.
func (c *cluster) elect(candidate, voter uint64) {
	for !c.nodes[candidate].leader() {
		c.nodes[candidate].Tick()
		c.nodes[voter].Tick()
		c.settle()
		if c.nodes[voter].leader() {
			c.nodes[voter].TransferLeader(candidate)
			c.settle()
		}
	}
}

func (c *cluster) tick(n int) {
	for range n {
		for _, id := range ids {
			c.nodes[id].Tick()
		}
		c.settle()
	}
}

// settle delivers messages until nobody has anything to say.
func (c *cluster) settle() {
	for busy := true; busy; {
		busy = false
		for _, id := range ids {
			for _, m := range c.nodes[id].handle() {
				busy = true
				c.print(m)
				if to := c.nodes[m.to]; to != nil && !c.cut[id] && !c.cut[m.to] {
					// A refused proposal is an answer too.
					_ = to.step(m)
				}
			}
		}
	}
}

func (c *cluster) print(m message) {
	if key := m.kind + " " + m.shape; !c.seen[key] {
		c.seen[key] = true
		fmt.Printf("%s\t%s\t%x\n", m.kind, m.fields, m.bytes)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
