// Captures raft messages of real etcd members: `capture 3.5` starts three of them whose peer addresses lead through
// proxies on loopback, makes them elect, write, read, move leadership and change their membership, and prints the
// messages that went by: channel, type and bytes in hex, separated by tabs. Of each form (channel, type, which fields are
// there, which are empty) only the first is printed.
//
// Members are real, so terms, ids and times differ from run to run; the forms do not.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const members = 3

// cluster is three members, their proxies and what was seen.
type cluster struct {
	bin     string
	dir     string
	client  []string
	peer    []string
	proxied []string
	running []*exec.Cmd
	seen    *record
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: capture 3.4|3.5|3.6|3.7")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(release string) error {
	dir, err := os.MkdirTemp("", "capture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root, err := filepath.Abs(filepath.Join(".work", "bin", "etcd-"+release))
	if err != nil {
		return err
	}
	c := &cluster{bin: root, dir: dir, seen: newRecord()}
	defer c.stop()
	if err := c.start(); err != nil {
		return err
	}
	if err := c.play(); err != nil {
		return err
	}
	fmt.Printf("# Messages between three members of etcd %s: channel, type, bytes. Made by conformance/vectors/capture.\n", release)
	for _, line := range c.seen.lines() {
		fmt.Println(line)
	}
	return nil
}

// address reserves a port of the system's choice.
func address() (net.Listener, string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	return l, "http://" + l.Addr().String(), nil
}

func (c *cluster) start() error {
	for range members {
		// The client's and the member's own peer port are free again when the member takes them.
		a, client, err := address()
		if err != nil {
			return err
		}
		b, peer, err := address()
		if err != nil {
			return err
		}
		a.Close()
		b.Close()
		l, proxied, err := address()
		if err != nil {
			return err
		}
		go func() { _ = http.Serve(l, c.seen.proxy(peer)) }()
		c.client, c.peer, c.proxied = append(c.client, client), append(c.peer, peer), append(c.proxied, proxied)
	}
	c.running = make([]*exec.Cmd, members)
	for i := range members {
		if err := c.startMember(i, "new"); err != nil {
			return err
		}
	}
	return c.await()
}

func (c *cluster) startMember(i int, state string) error {
	var initial []string
	for n, url := range c.proxied {
		initial = append(initial, fmt.Sprintf("m%d=%s", n, url))
	}
	cmd := exec.Command(filepath.Join(c.bin, "etcd"),
		fmt.Sprintf("--name=m%d", i), "--data-dir="+filepath.Join(c.dir, fmt.Sprint(i)), "--logger=zap",
		"--listen-client-urls="+c.client[i], "--advertise-client-urls="+c.client[i],
		"--listen-peer-urls="+c.peer[i], "--initial-advertise-peer-urls="+c.proxied[i],
		"--initial-cluster="+strings.Join(initial, ","), "--initial-cluster-state="+state,
		"--initial-cluster-token=capture", "--snapshot-count=20")
	log, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("%d.log", i)))
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.running[i] = cmd
	return cmd.Start()
}

func (c *cluster) kill(i int) {
	if cmd := c.running[i]; cmd != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		c.running[i] = nil
	}
}

func (c *cluster) stop() {
	for i := range c.running {
		c.kill(i)
	}
}

// ctl runs etcdctl against one member, again and again for a while: members come and go in this play.
func (c *cluster) ctl(member int, args ...string) (string, error) {
	var out []byte
	var err error
	for range 40 {
		cmd := exec.Command(filepath.Join(c.bin, "etcdctl"), append([]string{"--endpoints=" + c.client[member]}, args...)...)
		cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
		if out, err = cmd.Output(); err == nil {
			return string(out), nil
		}
		time.Sleep(250 * time.Millisecond)
	}
	return "", fmt.Errorf("etcdctl %v: %w: %s", args, err, out)
}

func (c *cluster) await() error {
	for i := range members {
		if _, err := c.ctl(i, "endpoint", "health"); err != nil {
			return err
		}
	}
	return nil
}

// status is what a member says of itself, by name.
func (c *cluster) status(member int) (map[string]string, error) {
	out, err := c.ctl(member, "endpoint", "status", "--write-out=fields")
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for _, line := range strings.Split(out, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			fields[strings.Trim(name, "\" ")] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// leader is the member that leads now.
func (c *cluster) leader() (int, error) {
	for range 40 {
		for i := range members {
			if c.running[i] == nil {
				continue
			}
			fields, err := c.status(i)
			if err != nil {
				return 0, err
			}
			if id := fields["MemberID"]; id != "" && id == fields["Leader"] {
				return i, nil
			}
		}
		time.Sleep(250 * time.Millisecond)
	}
	return 0, fmt.Errorf("no member leads")
}

// play makes the members say what they can.
func (c *cluster) play() error {
	leader, err := c.leader()
	if err != nil {
		return err
	}
	other := (leader + 1) % members
	for i := range 30 {
		// Through a follower: forwarded proposals and reads.
		if _, err := c.ctl(other, "put", fmt.Sprintf("key%d", i), strings.Repeat("v", i*7)); err != nil {
			return err
		}
	}
	if _, err := c.ctl(other, "get", "key1"); err != nil {
		return err
	}
	if _, err := c.ctl(leader, "get", "key1"); err != nil {
		return err
	}
	// A member that missed entries asks for them; one that missed many gets a snapshot of the database.
	c.kill(other)
	for i := range 10 {
		if _, err := c.ctl(leader, "put", fmt.Sprintf("missed%d", i), "x"); err != nil {
			return err
		}
	}
	if err := c.startMember(other, "existing"); err != nil {
		return err
	}
	if err := c.await(); err != nil {
		return err
	}
	// An election without a farewell.
	c.kill(leader)
	time.Sleep(4 * time.Second)
	if err := c.startMember(leader, "existing"); err != nil {
		return err
	}
	if err := c.await(); err != nil {
		return err
	}
	if leader, err = c.leader(); err != nil {
		return err
	}
	status, err := c.status((leader + 1) % members)
	if err != nil {
		return err
	}
	id, err := strconv.ParseUint(status["MemberID"], 10, 64)
	if err != nil {
		return err
	}
	if _, err := c.ctl(leader, "move-leader", strconv.FormatUint(id, 16)); err != nil {
		return err
	}
	if _, err := c.ctl(0, "member", "add", "m9", "--learner", "--peer-urls=http://127.0.0.1:9"); err != nil {
		return err
	}
	time.Sleep(time.Second)
	return nil
}
