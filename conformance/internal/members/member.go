// Package members starts clusters of processes, of real releases and ours, and does to them what operators and fate do.
//
// What may not live here: what a judge expects of them.
package members

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

// Member is one process of a cluster, of a real release or ours. Its methods may be called from several goroutines;
// who starts and ends it is one at a time.
type Member struct {
	Name, Release, Dir string
	// Peer is where the others reach it, Listen where it listens; they differ where a proxy stands between.
	Peer, Listen string
	// Client is its client URL.
	Client string
	// Flags are given to the process beside those that make it a member.
	Flags []string
	// Env is added to the judge's environment.
	Env []string
	// Wrap is a command that runs the process, such as one that enters a namespace; it must become the process.
	Wrap []string

	mu     sync.Mutex
	cmd    *exec.Cmd
	exited chan struct{}
	state  string
}

// New names a member and finds ports for it; nothing is started. Ours keep the cluster's version, so that the way back to
// another release stays open.
func New(dir, name, release string) (*Member, error) {
	peer, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	client, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	url := func(port int) string { return fmt.Sprintf("http://127.0.0.1:%d", port) }
	return &Member{
		Name: name, Release: release, Dir: dir + "/" + name,
		Peer: url(peer), Listen: url(peer), Client: url(client), Flags: flags(release),
	}, nil
}

func flags(release string) []string {
	if release == harness.Ours {
		return []string{"--hold-cluster-version"}
	}
	return nil
}

// Heir is the same member as another release: with its name, directory and addresses. Nothing is started or stopped.
func (m *Member) Heir(release string) *Member {
	return &Member{
		Name: m.Name, Release: release, Dir: m.Dir, Peer: m.Peer, Listen: m.Listen, Client: m.Client,
		Flags: flags(release), Env: m.Env, Wrap: m.Wrap,
	}
}

func (m *Member) String() string { return m.Name + " (" + m.Release + ")" }

// Start starts the process; with a data directory that is there it continues.
func (m *Member) Start(initial, state string) error {
	args := append([]string{
		"--name=" + m.Name, "--data-dir=" + m.Dir, "--logger=zap",
		"--listen-client-urls=" + m.Client, "--advertise-client-urls=" + m.Client,
		"--listen-peer-urls=" + m.Listen, "--initial-advertise-peer-urls=" + m.Peer,
		"--initial-cluster=" + initial, "--initial-cluster-state=" + state, "--initial-cluster-token=members",
	}, m.Flags...)
	log, err := os.OpenFile(m.Dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	line := append(append(append([]string(nil), m.Wrap...), harness.Tool(m.Release, "etcd")), args...)
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Env = append(os.Environ(), m.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	// The member dies with the judge, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cmd, m.exited, m.state = cmd, exited, state
	return nil
}

// Restart starts the process again as it was started first: who joined a cluster must not found one of its own, should it
// have got no further than being refused.
func (m *Member) Restart(initial string) error {
	m.mu.Lock()
	state := m.state
	m.mu.Unlock()
	return m.Start(initial, state)
}

// Join starts a member that was added, and waits until it answers. Whom it asks may not have heard of that yet, and so it
// may be refused a few times, and end.
func (m *Member) Join(initial string) error {
	started := false
	err := Retry(harness.Patience, func() error {
		if !started || !m.Runs() {
			if err := m.Start(initial, "existing"); err != nil {
				return err
			}
			started = true
		}
		if err := m.listens(); err != nil {
			return err
		}
		_, err := m.Status()
		return err
	})
	if err != nil {
		return fmt.Errorf("%s cannot join: %w\n%s", m, err, m.LastLines())
	}
	return nil
}

// Exited is closed when the process that was started last has ended.
func (m *Member) Exited() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.exited
}

// Runs tells whether there is a process.
func (m *Member) Runs() bool {
	exited := m.Exited()
	if exited == nil {
		return false
	}
	select {
	case <-exited:
		return false
	default:
		return true
	}
}

// PID is the process id.
func (m *Member) PID() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.cmd.Process.Pid
}

// Signal sends a signal.
func (m *Member) Signal(s syscall.Signal) error { return syscall.Kill(m.PID(), s) }

// Kill ends the process as a crash would, and waits for its end.
func (m *Member) Kill() {
	if m.Runs() {
		_ = m.Signal(syscall.SIGKILL)
		<-m.Exited()
	}
}

// Stop asks the process to end and waits for it.
func (m *Member) Stop() error {
	_ = m.Signal(syscall.SIGTERM)
	err := m.AwaitExit()
	if err != nil {
		m.Kill()
	}
	return err
}

// AwaitExit waits for the end of the process.
func (m *Member) AwaitExit() error {
	return Retry(harness.Patience, func() error {
		select {
		case <-m.Exited():
			return nil
		case <-time.After(time.Second):
			return fmt.Errorf("%s did not end within %s", m, harness.Patience)
		}
	})
}

// Connect gives a client of this member alone.
func (m *Member) Connect() (*clientv3.Client, error) { return Connect(m.Client) }

// Connect gives a client of the members at these URLs.
func Connect(urls ...string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: urls, DialTimeout: 5 * time.Second, Logger: zap.NewNop(), MaxCallRecvMsgSize: 1 << 30,
	})
}

// With runs one call against this member alone.
func (m *Member) With(limit time.Duration, call func(context.Context, *clientv3.Client) error) error {
	c, err := m.Connect()
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return call(ctx, c)
}

// longestTry is what one call and the pause behind it may count for: what goes beyond it is time in which this process, and
// with it the members that it started, stood still, as when the machine is wanted for something else.
const longestTry = 25 * time.Second

// Retry repeats a call that may fail for a while, as during an election.
func Retry(limit time.Duration, call func() error) error {
	for {
		began := time.Now()
		err := call()
		if err == nil || limit <= 0 {
			return err
		}
		time.Sleep(50 * time.Millisecond)
		limit -= min(time.Since(began), longestTry)
	}
}

// ErrEnded says that there is no process to wait for.
var ErrEnded = errors.New("the process has ended")

// Calmly makes a call at this member until it gives something else than a transient error: in a busy cluster leaders change
// by themselves. The call may be carried out twice.
func (m *Member) Calmly(call func(context.Context, *clientv3.Client) error) error {
	var final error
	err := Retry(harness.Patience, func() error {
		final = nil
		err := m.With(20*time.Second, call)
		if err != nil && !harness.Transient(err) {
			final, err = err, nil
		}
		return err
	})
	return errors.Join(final, err)
}

// listens tells whether clients can connect: one that comes too early pauses longer and longer before it comes again.
func (m *Member) listens() error {
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(m.Client, "http://"), 5*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

// AwaitReady waits until the member answers a linearizable read.
func (m *Member) AwaitReady() error {
	var ended error
	err := Retry(harness.Patience, func() error {
		if !m.Runs() {
			ended = ErrEnded
			return nil
		}
		if err := m.listens(); err != nil {
			return err
		}
		return m.With(10*time.Second, func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Get(ctx, "ready?")
			return err
		})
	})
	if err = errors.Join(ended, err); err != nil {
		return fmt.Errorf("%s is not ready: %w\n%s", m, err, m.LastLines())
	}
	return nil
}

// LastLines are the newest lines of the member's log.
func (m *Member) LastLines() string {
	text, err := os.ReadFile(m.Dir + ".log")
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], "\n")
}

// Status is the member's own view.
func (m *Member) Status() (*clientv3.StatusResponse, error) {
	var status *clientv3.StatusResponse
	err := m.With(10*time.Second, func(ctx context.Context, c *clientv3.Client) error {
		var err error
		status, err = c.Status(ctx, m.Client)
		return err
	})
	return status, err
}
