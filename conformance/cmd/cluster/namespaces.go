package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

// namespaces are wires of the kernel's own: each member in a network namespace, all of them on one bridge, and rules of the
// packet filter on the bridge that drop packets between two ports. What is blocked or lost is lost as in a cable: the
// senders' TCP finds out by itself, connections outlive it or do not. The judge stands on the bridge and reaches every member.
//
// All of it lies in a namespace of the judge's own, so that the machine's network is not touched and nothing is left behind.
type namespaces struct {
	mu      sync.Mutex
	ports   map[string]string
	holders []*exec.Cmd
	links   map[link]trouble
}

// inside is set for a judge that runs in a namespace of its own.
const inside = "CLUSTER_INSIDE"

// enterNamespace runs this program again in a network namespace of its own, and ends with it. It comes back in that
// program, or with the reason why there is none.
func enterNamespace() error {
	if os.Getenv(inside) != "" {
		return harnessed("ip", "link", "set", "lo", "up")
	}
	for _, tool := range []string{"ip", "nft", "nsenter", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), inside+"=1")
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := again.Start(); err != nil {
		return err
	}
	_ = again.Wait()
	os.Exit(again.ProcessState.ExitCode())
	return nil
}

func harnessed(program string, args ...string) error {
	_, err := harness.Output(nil, program, args...)
	return err
}

func newNamespaces() (*namespaces, error) {
	for _, line := range []string{
		"link add wires type bridge",
		"addr add 10.77.0.1/16 dev wires",
		"link set wires up",
	} {
		if err := harnessed("ip", strings.Fields(line)...); err != nil {
			return nil, err
		}
	}
	n := &namespaces{ports: map[string]string{}, links: map[link]trouble{}}
	return n, n.apply()
}

func (n *namespaces) what() string { return "network namespaces" }

// delays needs a queueing discipline that not every kernel has.
func (n *namespaces) delays() bool { return false }

func (n *namespaces) place(m *members.Member) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.ports) + 1
	port, address := fmt.Sprintf("wire%d", number), fmt.Sprintf("10.77.%d.%d", 1+number/200, 1+number%200)
	// Somebody has to be in a namespace for it to be there.
	holder := exec.Command("unshare", "--net", "sleep", "infinity")
	holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		return err
	}
	n.holders = append(n.holders, holder)
	pid := fmt.Sprint(holder.Process.Pid)
	if err := apart(pid); err != nil {
		return err
	}
	enter := []string{"nsenter", "--target", pid, "--net", "--"}
	for _, line := range [][]string{
		{"ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", pid},
		{"ip", "link", "set", port, "master", "wires", "up"},
		append(enter, "ip", "addr", "add", address+"/16", "dev", "eth0"),
		append(enter, "ip", "link", "set", "eth0", "up"),
		append(enter, "ip", "link", "set", "lo", "up"),
	} {
		if err := harnessed(line[0], line[1:]...); err != nil {
			return err
		}
	}
	n.ports[m.Name] = port
	m.Wrap = enter
	m.Peer, m.Listen, m.Client = "http://"+address+":2380", "http://"+address+":2380", "http://"+address+":2379"
	return nil
}

// apart waits until a process has left our namespace.
func apart(pid string) error {
	ours, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	return members.Retry(harness.Patience, func() error {
		theirs, err := os.Readlink("/proc/" + pid + "/ns/net")
		if err == nil && theirs == ours {
			err = errors.New("there is no new namespace")
		}
		return err
	})
}

func (n *namespaces) set(t trouble, links ...link) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range links {
		n.links[l] = t
	}
	return n.apply()
}

// heal leaves connections to TCP, which goes on with what it still has.
func (n *namespaces) heal(bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links = map[link]trouble{}
	return n.apply()
}

// apply hands the kernel all rules in one step.
func (n *namespaces) apply() error {
	var rules strings.Builder
	for l, t := range n.links {
		from, to := n.ports[l.from], n.ports[l.to]
		if from == "" || to == "" {
			continue
		}
		fmt.Fprintf(&rules, "iifname %q oifname %q ", from, to)
		if !t.blocked {
			fmt.Fprintf(&rules, "numgen random mod 1000 < %d ", int(1000*t.loss))
		}
		rules.WriteString("drop\n")
	}
	script := "table bridge faults\ndelete table bridge faults\ntable bridge faults {\nchain forward {\n" +
		"type filter hook forward priority 0; policy accept;\n" + rules.String() + "}\n}\n"
	_, err := harness.Output([]byte(script), "nft", "-f", "-")
	return err
}

// end lets the namespaces and the bridge go.
func (n *namespaces) end() {
	for _, holder := range n.holders {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	}
	_ = harnessed("ip", "link", "delete", "wires")
}
