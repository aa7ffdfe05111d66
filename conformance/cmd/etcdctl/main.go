// The judge of etcdctl: the command lines of three releases run the same commands against etcd and against our server.
// Exit codes, standard output and error output must be the same but for ids, times, sizes and addresses.
package main

import (
	"flag"
	"fmt"
	"sync"

	"stanchion.invalid/conformance/internal/harness"
)

var only = flag.String("release", "", "the one release of etcdctl to use")

func main() {
	flag.Parse()
	harness.Run("etcdctl", func(j *harness.Judge) error {
		var wait sync.WaitGroup
		var lock sync.Mutex
		report := func(err error, format string, args ...any) {
			lock.Lock()
			defer lock.Unlock()
			j.Check(err, format, args...)
		}
		for _, release := range []string{"3.4", "3.5", "3.7"} {
			if *only != "" && *only != release {
				continue
			}
			wait.Add(1)
			go func() {
				defer wait.Done()
				playRelease(j, release, report)
			}()
		}
		wait.Wait()
		serverFlags(report)
		// Their figures are of a machine that does nothing else.
		checks(j, report)
		return nil
	})
}

// session is one release of etcdctl with etcd and our server, alike from the start.
type session struct {
	release string
	dir     string
	members [2]*harness.Etcd
	// names are the ids that each side chose, by the name that commands use for them.
	names [2]map[string]string
	// leases counts the leases of a session, for their names.
	leases  int
	count   int
	differs []error
}

func playRelease(j *harness.Judge, release string, report func(error, string, ...any)) {
	s := &session{release: release, dir: j.Temp(release)}
	for side, server := range []string{"3.7", harness.Ours} {
		member, err := harness.Start(server, j.Temp(release, server), "--unsafe-no-fsync")
		if err != nil {
			report(err, "etcdctl %s: start of %s", release, server)
			return
		}
		defer member.Kill()
		s.members[side] = member
		s.names[side] = map[string]string{}
	}
	s.awaitVersions("3.7")
	if len(s.differs) > 0 {
		report(s.differs[0], "etcdctl %s: start", release)
		return
	}
	for _, part := range parts {
		before := s.count
		s.differs = nil
		part.play(s)
		var err error
		if len(s.differs) > 0 {
			err = s.differs[0]
		}
		report(err, "etcdctl %s: %s: %d commands", release, part.name, s.count-before)
		for _, more := range s.differs[min(1, len(s.differs)):] {
			report(more, "etcdctl %s: %s", release, part.name)
		}
	}
}

func (s *session) fail(format string, args ...any) {
	s.differs = append(s.differs, fmt.Errorf(format, args...))
}
