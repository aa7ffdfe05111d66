package main

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// network is the wires between the members: a small proxy before each peer port, through which every other member has to
// go. The first request on a connection says who dials (X-Server-From), so that each direction between two members can be
// held up on its own. Connections that do not say it (questions about versions and members) follow the state of the member
// that they go to alone.
type network struct {
	mu      sync.Mutex
	changed *sync.Cond
	// links has what is wrong from one member to another; what is not there is fine.
	links map[link]trouble
	open  map[net.Conn]struct{}
	rng   *rand.Rand
}

// link is one direction between two members, by their ids.
type link struct{ from, to uint64 }

// trouble is what happens to the bytes of a link.
type trouble struct {
	// blocked holds all bytes until it is over.
	blocked bool
	// delay is added to every piece.
	delay time.Duration
	// loss is the share of pieces that are late by a retransmission, and now and then end their connection.
	loss float64
}

const retransmission = 200 * time.Millisecond

func newNetwork(seed uint64) *network {
	n := &network{links: map[link]trouble{}, open: map[net.Conn]struct{}{}, rng: rand.New(rand.NewPCG(seed, 2))}
	n.changed = sync.NewCond(&n.mu)
	return n
}

// set puts a trouble on links; an empty one heals them.
func (n *network) set(t trouble, links ...link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range links {
		if t == (trouble{}) {
			delete(n.links, l)
		} else {
			n.links[l] = t
		}
	}
	n.changed.Broadcast()
}

// heal ends all trouble. What was held goes on its way; with `cut` the connections end instead, as after a long partition.
func (n *network) heal(cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = map[link]trouble{}
	if cut {
		for c := range n.open {
			c.Close()
		}
	}
	n.changed.Broadcast()
}

// listen stands before a member's peer port. It returns the address that the others are told.
func (n *network) listen(id func() uint64, target string) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go n.serve(conn, id, target)
		}
	}()
	return l, nil
}

func (n *network) serve(dialled net.Conn, id func() uint64, target string) {
	defer dialled.Close()
	from, head, err := readHead(dialled)
	if err != nil {
		return
	}
	there, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer there.Close()
	n.track(dialled, there)
	defer n.untrack(dialled, there)
	to := id()
	done := make(chan struct{}, 2)
	go func() {
		n.carry(link{from, to}, io.MultiReader(bytes.NewReader(head), dialled), there)
		done <- struct{}{}
	}()
	go func() {
		n.carry(link{to, from}, there, dialled)
		done <- struct{}{}
	}()
	<-done
}

// readHead reads the head of the first request and tells who sends it, 0 if it does not say.
func readHead(conn net.Conn) (uint64, []byte, error) {
	var seen bytes.Buffer
	request, err := http.ReadRequest(bufio.NewReader(io.TeeReader(conn, &seen)))
	if err != nil {
		return 0, nil, err
	}
	from, err := strconv.ParseUint(request.Header.Get("X-Server-From"), 16, 64)
	if err != nil {
		return 0, seen.Bytes(), nil
	}
	return from, seen.Bytes(), nil
}

func (n *network) track(conns ...net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		n.open[c] = struct{}{}
	}
}

func (n *network) untrack(conns ...net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		delete(n.open, c)
	}
}

// pass waits until a piece may go on, and tells whether its connection survives it.
func (n *network) pass(l link) bool {
	n.mu.Lock()
	for n.links[l].blocked {
		n.changed.Wait()
	}
	t := n.links[l]
	wait, ends := t.delay, false
	if t.loss > 0 && n.rng.Float64() < t.loss {
		wait += retransmission
		ends = n.rng.IntN(20) == 0
	}
	n.mu.Unlock()
	time.Sleep(wait)
	return !ends
}

func (n *network) carry(l link, from io.Reader, to net.Conn) {
	buffer := make([]byte, 64<<10)
	for {
		count, err := from.Read(buffer)
		if count > 0 {
			if !n.pass(l) {
				return
			}
			if _, err := to.Write(buffer[:count]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
