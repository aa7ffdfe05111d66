package harness

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// kept are the names that hold this judge's ports; see FreePort.
var kept struct {
	sync.Mutex
	names []net.Listener
}

// FreePort asks the system for a port that nobody listens on and keeps it for this judge until the judge ends. A member
// takes its port some time after this, and leaves it free while it is killed; without the promise, another judge that runs
// beside this one could be given the same. What keeps the promise is a name that only one process can hold, an abstract
// socket's, which the system takes back however the judge ends.
func FreePort() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		name, err := net.Listen("unix", fmt.Sprintf("@stanchion-conformance-%d", port))
		l.Close()
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			return 0, err
		}
		kept.Lock()
		kept.names = append(kept.names, name)
		kept.Unlock()
		return port, nil
	}
	return 0, errors.New("no port is free: 100 that the system offered are kept by judges")
}
