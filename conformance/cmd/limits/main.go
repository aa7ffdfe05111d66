// The judge of limits: many connections, puts, watchers and bytes at once, and clients that read slowly or not at all.
// Nothing may end the server or make its memory grow without bound, and refusals must be etcd's.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"stanchion.invalid/conformance/internal/harness"
)

type test struct {
	name string
	// flags are the server's.
	flags []string
	// memory is what the server may ever have held, in MiB of resident memory, mapped file pages included.
	memory int
	// anonymous is what it may hold at the end beside the mapped file, in MiB.
	anonymous int
	run       func(ctx context.Context, member *harness.Etcd) (string, error)
}

var tests = []test{
	{"10,000 connections", nil, 1200, 1000, connections},
	{"10,000 concurrent puts", nil, 600, 500, concurrentPuts},
	{"100,000 watchers on 1,000 streams", nil, 1500, 1400, manyWatchers},
	{"values of 1.5 MiB and a range of 1 GiB", []string{"--quota-backend-bytes=4000000000"}, 3000, 600, largeRange},
	{"watchers that do not read", nil, 700, 600, slowWatchers},
	{"a dead client", []string{"--grpc-keepalive-interval=1s", "--grpc-keepalive-timeout=1s"}, 300, 250, deadClients},
}

func main() {
	harness.Run("limits", func(j *harness.Judge) error {
		for i, t := range tests {
			told, err := play(j, i, t)
			j.Check(err, "%s: %s", t.name, told)
		}
		return nil
	})
}

func play(j *harness.Judge, i int, t test) (string, error) {
	dir := j.Temp(fmt.Sprint(i))
	member, err := harness.Start(harness.Ours, dir, append([]string{"--unsafe-no-fsync"}, t.flags...)...)
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	defer member.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), 10*harness.Patience)
	defer cancel()
	began := time.Now()
	told, err := t.run(ctx, member)
	if err != nil {
		return told, err
	}
	if member.Exited() {
		return told, fmt.Errorf("the server has ended")
	}
	peak, anonymous, err := memory(member.PID())
	told = fmt.Sprintf("%s, %.1f s, at most %d MiB resident, %d MiB anonymous at the end", told, time.Since(began).Seconds(), peak, anonymous)
	if err == nil && peak > t.memory {
		err = fmt.Errorf("more than %d MiB resident", t.memory)
	}
	if err == nil && anonymous > t.anonymous {
		err = fmt.Errorf("more than %d MiB anonymous", t.anonymous)
	}
	return told, err
}

// memory reads the highest resident and the present anonymous memory of a process, in MiB.
func memory(pid int) (peak, anonymous int, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 2 && fields[0] == "VmHWM:":
			peak, err = strconv.Atoi(fields[1])
		case len(fields) >= 2 && fields[0] == "RssAnon:":
			anonymous, err = strconv.Atoi(fields[1])
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return peak >> 10, anonymous >> 10, lines.Err()
}
