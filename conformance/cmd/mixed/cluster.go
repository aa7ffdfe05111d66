package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"stanchion.invalid/conformance/internal/harness"
)

// member is one process of a cluster, of a real release or ours.
type member struct {
	name, release, dir, peer, client string

	cmd    *exec.Cmd
	exited chan struct{}
}

// cluster is what was started together, and what has joined since.
type cluster struct {
	dir     string
	members []*member
	joined  int

	mu sync.Mutex
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func newMember(dir, name, release string) (*member, error) {
	peer, err := freePort()
	if err != nil {
		return nil, err
	}
	client, err := freePort()
	if err != nil {
		return nil, err
	}
	url := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
	return &member{name: name, release: release, dir: dir + "/" + name, peer: url(peer), client: url(client)}, nil
}

// newCluster starts one member for each release and waits until all of them serve.
func newCluster(dir string, releases ...string) (*cluster, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	for i, release := range releases {
		m, err := newMember(dir, fmt.Sprintf("m%d", i), release)
		if err != nil {
			return nil, err
		}
		c.members = append(c.members, m)
	}
	for _, m := range c.members {
		if err := m.start(c.initial(), "new"); err != nil {
			return c, err
		}
	}
	for _, m := range c.members {
		if err := m.awaitReady(); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *cluster) initial() string {
	var all []string
	for _, m := range c.members {
		all = append(all, m.name+"="+m.peer)
	}
	return strings.Join(all, ",")
}

// put sets the member at a place.
func (c *cluster) put(place int, m *member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	members := append([]*member(nil), c.members...)
	members[place] = m
	c.members = members
}

// now gives the members of this moment, for whoever works beside changes.
func (c *cluster) now() []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members
}

// endpoints are the client URLs of this moment.
func (c *cluster) endpoints() []string {
	var all []string
	for _, m := range c.now() {
		all = append(all, m.client)
	}
	return all
}

func (c *cluster) end() {
	for _, m := range c.members {
		m.kill()
	}
}

func (m *member) String() string { return m.name + " (" + m.release + ")" }

func (m *member) start(initial, state string) error {
	args := []string{
		"--name=" + m.name, "--data-dir=" + m.dir, "--logger=zap",
		"--listen-client-urls=" + m.client, "--advertise-client-urls=" + m.client,
		"--listen-peer-urls=" + m.peer, "--initial-advertise-peer-urls=" + m.peer,
		"--initial-cluster=" + initial, "--initial-cluster-state=" + state, "--initial-cluster-token=mixed",
	}
	if m.release == harness.Ours {
		// The way back to the other release stays open.
		args = append(args, "--hold-cluster-version")
	}
	log, err := os.OpenFile(m.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	m.exited = make(chan struct{})
	m.cmd = exec.Command(harness.Tool(m.release, "etcd"), args...)
	m.cmd.Stdout, m.cmd.Stderr = log, log
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(m.cmd, m.exited)
	return nil
}

func (m *member) kill() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		<-m.exited
	}
}

func (m *member) stop() error {
	_ = m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.exited:
		return nil
	case <-time.After(30 * time.Second):
		m.kill()
		return fmt.Errorf("%s did not end within 30 s of SIGTERM", m)
	}
}

func (m *member) connect() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{m.client}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	})
}

// with runs one call against this member alone.
func (m *member) with(limit time.Duration, call func(context.Context, *clientv3.Client) error) error {
	c, err := m.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return call(ctx, c)
}

// retry repeats a call that may fail for a while, as during an election.
func retry(limit time.Duration, call func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := call()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (m *member) awaitReady() error {
	err := retry(60*time.Second, func() error {
		select {
		case <-m.exited:
			return errors.New("the process has ended")
		default:
		}
		return m.with(2*time.Second, func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Get(ctx, "ready?")
			return err
		})
	})
	if err != nil {
		return fmt.Errorf("%s is not ready: %w\n%s", m, err, m.lastLines())
	}
	return nil
}

func (m *member) lastLines() string {
	text, err := os.ReadFile(m.dir + ".log")
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

func (m *member) status() (*clientv3.StatusResponse, error) {
	var status *clientv3.StatusResponse
	err := m.with(5*time.Second, func(ctx context.Context, c *clientv3.Client) error {
		var err error
		status, err = c.Status(ctx, m.client)
		return err
	})
	return status, err
}

// leader waits until all members name the same one.
func (c *cluster) leader() (*member, error) {
	var leader *member
	err := retry(30*time.Second, func() error {
		byID := map[uint64]*member{}
		var named uint64
		for i, m := range c.members {
			status, err := m.status()
			if err != nil {
				return err
			}
			byID[status.Header.MemberId] = m
			if i == 0 {
				named = status.Leader
			}
			if status.Leader == 0 || status.Leader != named {
				return errors.New("no agreement about the leader")
			}
		}
		leader = byID[named]
		if leader == nil {
			return fmt.Errorf("leader %x is no member", named)
		}
		return nil
	})
	return leader, err
}

// lead hands leadership to one member.
func (c *cluster) lead(target *member) error {
	status, err := target.status()
	if err != nil {
		return err
	}
	return retry(30*time.Second, func() error {
		leader, err := c.leader()
		if err != nil || leader == target {
			return err
		}
		err = leader.with(10*time.Second, func(ctx context.Context, cl *clientv3.Client) error {
			_, err := cl.MoveLeader(ctx, status.Header.MemberId)
			return err
		})
		if err != nil {
			return err
		}
		leader, err = c.leader()
		if err == nil && leader != target {
			err = fmt.Errorf("%s leads instead of %s", leader, target)
		}
		return err
	})
}
