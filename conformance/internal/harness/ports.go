package harness

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
)

// kept are the names that hold this judge's ports; see FreePort.
var kept struct {
	sync.Mutex
	names []net.Listener
}

// FreePort finds a port that nobody listens on and keeps it for this judge until the judge ends. A member takes its port
// some time after this, and leaves it free while it is killed, so nobody else may be given it meanwhile:
//
//   - Another judge that runs beside this one is kept off by a name that only one process can hold, an abstract socket's,
//     which the system takes back however the judge ends.
//   - The system gives ports of its own choice to whoever connects somewhere or listens on port 0. It takes them from a
//     range (ip_local_port_range), so ours lie below that unless it leaves hardly any there.
func FreePort() (int, error) {
	const lowest = 10_000
	end, err := ephemeralPorts()
	if err != nil {
		return 0, err
	}
	if end < lowest+1000 {
		end = 1 << 16
	}
	for range 1000 {
		port := lowest + rand.IntN(end-lowest)
		free, err := keep(port)
		if free || err != nil {
			return port, err
		}
	}
	return 0, errors.New("no port is free: 1000 that were tried are taken")
}

// keep takes the name of a port; false if that is held already, or if somebody listens on the port.
func keep(port int) (bool, error) {
	name, err := net.Listen("unix", fmt.Sprintf("@stanchion-conformance-%d", port))
	if errors.Is(err, syscall.EADDRINUSE) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false, name.Close()
	}
	kept.Lock()
	defer kept.Unlock()
	kept.names = append(kept.names, name)
	return true, l.Close()
}

// ephemeralPorts is the first port of those that the system gives out by itself.
func ephemeralPorts() (int, error) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, err
	}
	var first, last int
	if _, err := fmt.Sscan(string(text), &first, &last); err != nil {
		return 0, fmt.Errorf("ip_local_port_range %q: %w", text, err)
	}
	return first, nil
}
