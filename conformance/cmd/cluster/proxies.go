package main

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"stanchion.invalid/conformance/internal/members"
)

// proxies are wires that need no rights: a small proxy before each peer port, through which every other member has to go.
// The first request on a connection says who dials (X-Server-From), so that each direction between two members can be held
// up on its own. Connections that do not say it (questions about versions and members) follow the state of the member that
// they go to alone. A piece that is lost is one that comes a retransmission later or ends its connection, which is what TCP
// makes of it.
type proxies struct {
	// named gives the name of a member by its id, "" if nobody has that.
	named func(id uint64) string

	mu        sync.Mutex
	changed   *sync.Cond
	links     map[link]trouble
	open      map[net.Conn]struct{}
	listeners []net.Listener
	rng       *rand.Rand
}

const retransmission = 200 * time.Millisecond

func newProxies(seed uint64, named func(uint64) string) *proxies {
	n := &proxies{named: named, links: map[link]trouble{}, open: map[net.Conn]struct{}{}, rng: rand.New(rand.NewPCG(seed, 2))}
	n.changed = sync.NewCond(&n.mu)
	return n
}

func (n *proxies) what() string { return "proxies" }

func (n *proxies) delays() bool { return true }

// place lets the others be told the address of a proxy.
func (n *proxies) place(m *members.Member) error {
	l, err := n.listen(m.Name, strings.TrimPrefix(m.Listen, "http://"))
	if err == nil {
		m.Peer = "http://" + l.Addr().String()
	}
	return err
}

// end closes the proxies.
func (n *proxies) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.listeners {
		l.Close()
	}
}

func (n *proxies) set(t trouble, links ...link) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range links {
		n.links[l] = t
	}
	n.changed.Broadcast()
	return nil
}

// heal lets what was held go on its way; with `cut` the connections end instead, as after a long partition.
func (n *proxies) heal(cut bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = map[link]trouble{}
	if cut {
		for c := range n.open {
			c.Close()
		}
	}
	n.changed.Broadcast()
	return nil
}

// listen stands before a member's peer port.
func (n *proxies) listen(to, target string) (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	n.listeners = append(n.listeners, l)
	n.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go n.serve(conn, to, target)
		}
	}()
	return l, nil
}

func (n *proxies) serve(dialled net.Conn, to, target string) {
	defer dialled.Close()
	id, head, err := readHead(dialled)
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
	from := n.named(id)
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

func (n *proxies) track(conns ...net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		n.open[c] = struct{}{}
	}
}

func (n *proxies) untrack(conns ...net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range conns {
		delete(n.open, c)
	}
}

// pass waits until a piece may go on, and tells whether its connection survives it.
func (n *proxies) pass(l link) bool {
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

func (n *proxies) carry(l link, from io.Reader, to net.Conn) {
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
