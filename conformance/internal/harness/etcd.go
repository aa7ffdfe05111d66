package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// Releases are the etcd releases that judge, oldest first.
var Releases = []string{"3.4", "3.5", "3.6", "3.7"}

// Ours stands where a release is named and means our own binary. It takes etcd's flags, so that a judge starts both
// the same way.
const Ours = "ours"

// Etcd is one running member, of a real etcd release or ours, alone in its cluster.
type Etcd struct {
	Release  string
	DataDir  string
	Endpoint string

	cmd    *exec.Cmd
	exited chan struct{}
	log    string
}

// Start starts a member on a data directory and waits until it answers a linearizable read.
func Start(release, dataDir string, flags ...string) (*Etcd, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	return StartAt(release, dataDir, fmt.Sprintf("127.0.0.1:%d", port), flags...)
}

// StartAt starts a member whose clients connect to a given address.
func StartAt(release, dataDir, address string, flags ...string) (*Etcd, error) {
	e, err := launchAt(release, dataDir, address, flags...)
	if err != nil {
		return nil, err
	}
	if err := e.awaitReady(Patience); err != nil {
		e.Kill()
		return nil, fmt.Errorf("etcd %s on %s: %w\n%s", release, dataDir, err, e.lastLogLines(12))
	}
	return e, nil
}

// Launch starts a member and does not wait for it.
func Launch(release, dataDir string, flags ...string) (*Etcd, error) {
	port, err := FreePort()
	if err != nil {
		return nil, err
	}
	return launchAt(release, dataDir, fmt.Sprintf("127.0.0.1:%d", port), flags...)
}

func launchAt(release, dataDir, address string, flags ...string) (*Etcd, error) {
	peer, err := FreePort()
	if err != nil {
		return nil, err
	}
	client := "http://" + address
	args := append([]string{
		"--name=judge", "--data-dir=" + dataDir, "--logger=zap",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		fmt.Sprintf("--listen-peer-urls=http://127.0.0.1:%d", peer),
		"--initial-advertise-peer-urls=" + PeerURL, "--initial-cluster=judge=" + PeerURL,
		"--initial-cluster-token=conformance",
	}, flags...)
	if err := os.MkdirAll(filepath.Dir(dataDir), 0o755); err != nil {
		return nil, err
	}
	logFile, err := os.OpenFile(dataDir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	e := &Etcd{Release: release, DataDir: dataDir, Endpoint: client, log: dataDir + ".log", exited: make(chan struct{})}
	e.cmd = exec.Command(Tool(release, "etcd"), args...)
	e.cmd.Stdout, e.cmd.Stderr = logFile, logFile
	// The member dies with the judge, however that ends.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	e.cmd.Env = environment()
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = e.cmd.Wait()
		close(e.exited)
	}()
	return e, nil
}

// PeerURL is the advertised peer address of every single member that a judge starts: it is part of the membership
// in the data directory, so it is the same at each start. Nobody connects to it.
const PeerURL = "http://127.0.0.1:23809"

// environment leaves out variables that etcd would take for flags.
func environment() []string {
	var kept []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ETCD") {
			kept = append(kept, v)
		}
	}
	return kept
}

// PID is the process id of the member.
func (e *Etcd) PID() int { return e.cmd.Process.Pid }

// Address is host and port of the client listener.
func (e *Etcd) Address() string { return strings.TrimPrefix(e.Endpoint, "http://") }

// Exited tells whether the member's process has ended.
func (e *Etcd) Exited() bool {
	select {
	case <-e.exited:
		return true
	default:
		return false
	}
}

// Client connects to the member; the caller closes it.
func (e *Etcd) Client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints: []string{e.Endpoint}, DialTimeout: 10 * time.Second, Logger: zap.NewNop(),
		MaxCallRecvMsgSize: 1 << 30, MaxCallSendMsgSize: 1 << 30,
	})
}

// Stop asks the member to end and waits for it.
func (e *Etcd) Stop() error {
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-e.exited:
		return nil
	case <-time.After(Patience):
		e.Kill()
		return fmt.Errorf("etcd %s did not end within %s of SIGTERM", e.Release, Patience)
	}
}

// Kill ends the member as a power failure of the process would: SIGKILL.
func (e *Etcd) Kill() {
	_ = e.cmd.Process.Kill()
	<-e.exited
}

// AwaitPort waits until the member takes connections: a client that comes earlier pauses for a second before it comes
// again.
func (e *Etcd) AwaitPort(limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		conn, err := net.Dial("tcp", e.Address())
		if err == nil {
			return conn.Close()
		}
		select {
		case <-e.exited:
			return fmt.Errorf("ended at start")
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not open after %s: %w", limit, err)
		}
	}
}

func (e *Etcd) awaitReady(limit time.Duration) error {
	if err := e.AwaitPort(limit); err != nil {
		return err
	}
	c, err := e.Client()
	if err != nil {
		return err
	}
	defer c.Close()
	deadline := time.Now().Add(limit)
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err = c.Get(ctx, "ready?")
		cancel()
		if err == nil {
			return nil
		}
		select {
		case <-e.exited:
			return fmt.Errorf("ended at start")
		case <-time.After(50 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %s: %w", limit, err)
		}
	}
}

func (e *Etcd) lastLogLines(n int) string {
	text, err := os.ReadFile(e.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "    " + strings.Join(lines[max(0, len(lines)-n):], "\n    ")
}

// State is everything a client can see of a member: each pair with its revisions and lease, and the store's hash.
type State struct {
	Revision int64
	Compact  int64
	Hash     uint32
	Pairs    []string
	Leases   []string
}

// StartAndRead starts a release on a directory, asks it for its State and stops it. The directory changes by that.
func StartAndRead(release, dir string) (State, error) {
	member, err := Start(release, dir, "--snapshot-count=100000")
	if err != nil {
		return State{}, err
	}
	state, err := ReadState(member)
	if stopErr := member.Stop(); err == nil {
		err = stopErr
	}
	return state, err
}

// ReadState asks the member for its State.
func ReadState(e *Etcd) (State, error) {
	c, err := e.Client()
	if err != nil {
		return State{}, err
	}
	defer c.Close()
	var s State
	err = Again(context.Background(), func(ctx context.Context) (err error) {
		s, err = readState(ctx, c, e.Endpoint)
		return err
	})
	return s, err
}

func readState(ctx context.Context, c *clientv3.Client, endpoint string) (State, error) {
	all, err := c.Get(ctx, "\x00", clientv3.WithFromKey())
	if err != nil {
		return State{}, err
	}
	hash, err := c.HashKV(ctx, endpoint, 0)
	if err != nil {
		return State{}, err
	}
	if hash.CompactRevision > 0 {
		// A member that has just started may still be at a compaction of its log, and before 3.7 the hash depends on how
		// far it is. Who asks for a compaction that is done is refused, but not before the work is.
		_, err := c.Compact(ctx, hash.CompactRevision, clientv3.WithCompactPhysical())
		if !errors.Is(err, rpctypes.ErrCompacted) {
			return State{}, fmt.Errorf("a second compaction at %d: %w", hash.CompactRevision, err)
		}
		if hash, err = c.HashKV(ctx, endpoint, 0); err != nil {
			return State{}, err
		}
	}
	s := State{Revision: all.Header.Revision, Compact: hash.CompactRevision, Hash: hash.Hash}
	for _, kv := range all.Kvs {
		s.Pairs = append(s.Pairs, fmt.Sprintf("%q=%q create %d mod %d version %d lease %x",
			kv.Key, kv.Value, kv.CreateRevision, kv.ModRevision, kv.Version, kv.Lease))
	}
	leases, err := c.Leases(ctx)
	if err != nil {
		return State{}, err
	}
	for _, l := range leases.Leases {
		s.Leases = append(s.Leases, fmt.Sprintf("%x", int64(l.ID)))
	}
	sort.Strings(s.Leases)
	return s, nil
}

// Differs names the first thing in which two states differ.
func (s State) Differs(other State) error {
	switch {
	case s.Revision != other.Revision:
		return fmt.Errorf("revision %d, expected %d", other.Revision, s.Revision)
	case s.Compact != other.Compact:
		return fmt.Errorf("compact revision %d, expected %d", other.Compact, s.Compact)
	case len(s.Pairs) != len(other.Pairs):
		return fmt.Errorf("%d keys, expected %d", len(other.Pairs), len(s.Pairs))
	case strings.Join(s.Leases, " ") != strings.Join(other.Leases, " "):
		return fmt.Errorf("leases %v, expected %v", other.Leases, s.Leases)
	}
	for i := range s.Pairs {
		if s.Pairs[i] != other.Pairs[i] {
			return fmt.Errorf("%.200s, expected %.200s", other.Pairs[i], s.Pairs[i])
		}
	}
	if s.Hash != other.Hash {
		return fmt.Errorf("hash %d, expected %d", other.Hash, s.Hash)
	}
	return nil
}
