package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"stanchion.invalid/conformance/internal/harness"
)

// parts are played in this order on one pair, so that revisions stay the same on both sides.
var parts = []struct {
	name string
	play func(s *session)
}{
	{"put, get, del", keyValue},
	{"txn", transactions},
	{"lease", leases},
	{"watch", watches},
	{"compaction", compactions},
	{"member, endpoint, alarm", cluster},
	{"lock, elect", locks},
	{"snapshot, defrag", maintenance},
	{"make-mirror", mirror},
	{"move-leader, downgrade", leadership},
	{"auth", auth},
}

func keyValue(s *session) {
	s.every("put", "a", "1")
	s.every("put", "--prev-kv", "a", "2")
	s.with("from standard input\n", "put", "b")
	s.do("put", "--ignore-value", "a")
	s.do("put", "--ignore-value", "missing")
	s.do("put", "--ignore-lease", "a", "3")
	s.do("put", "--lease=abc", "a", "3")
	s.do("put", "--lease=zz", "a", "3")
	s.do("put", "--", "-dash", "-value")
	s.do("put", "")
	s.do("put")
	for i := range 6 {
		s.do("put", fmt.Sprintf("p/%d", i), fmt.Sprintf("value %d\n", 5-i))
	}
	s.every("get", "a")
	s.every("get", "missing")
	s.every("get", "--prefix", "p/")
	s.every("get", "p/1", "p/4")
	s.every("get", "--prefix", "--keys-only", "p/")
	s.do("get", "-w", "fields", "--count-only", "--prefix", "p/")
	s.do("get", "--print-value-only", "--prefix", "p/")
	s.do("get", "--from-key", "p/3")
	s.do("get", "--prefix", "")
	for _, by := range []string{"CREATE", "KEY", "MODIFY", "VALUE", "VERSION", "NOPE"} {
		for _, order := range []string{"ASCEND", "DESCEND"} {
			s.do("get", "--prefix", "--sort-by", by, "--order", order, "p/")
		}
	}
	s.every("get", "--prefix", "--limit=2", "p/")
	s.do("get", "--rev=3", "a")
	s.do("get", "--rev=99999", "a")
	s.do("get", "--consistency=s", "a")
	s.do("get", "--consistency=x", "a")
	s.do("get", "--hex", "a")
	s.do("-w", "table", "get", "a")
	s.do("get")
	s.do("get", "a", "b", "c")
	if s.release == "3.7" {
		s.do("get", "--stream", "--prefix", "p/")
		s.do("get", "--prefix", "--min-mod-rev=5", "--max-create-rev=9", "p/")
	}
	s.every("del", "missing")
	s.every("del", "--prev-kv", "p/0")
	s.do("del", "--prefix", "--prev-kv", "p/4")
	s.do("del", "--from-key", "zzz")
	s.do("del", "")
	s.do("get", "--prefix", "p/")
}

func transactions(s *session) {
	for _, input := range []string{
		"val(\"a\") = \"3\"\n\nput t 1\nget a\ndel b\n\nput t 2\n\n",
		"mod(\"a\") > \"0\"\nver(\"a\") < \"99\"\n\nget --prefix p/\n\n\n",
		"create(\"none\") = \"0\"\n\nput n \"two words\"\n\nget n\n\n",
		"value(\"a\") != \"zzz\"\n\n\nget a\n\n",
		"\nput x 1\nput x 2\n\n\n",
		"\nget a --rev=99999\n\n\n",
		"nonsense\n\n\n\n",
		"val(\"a\") = \"1\"\n",
	} {
		s.with(input, "txn")
	}
	for _, format := range formats {
		s.with("ver(\"a\") > \"0\"\n\nput t 7\nget t\ndel t\n\n\n", "-w", format, "txn")
	}
	s.with("ver(\"a\") > \"0\"\n\nget a\n\n\n", "txn", "-i")
}

func leases(s *session) {
	one, two := s.grant("500"), s.grant("1000")
	s.do("put", "--lease={"+one+"}", "leased/1", "v")
	for _, format := range formats[:3] { // protobuf holds ids that cannot be masked
		s.do("-w", format, "lease", "timetolive", "{"+one+"}")
		s.do("-w", format, "lease", "timetolive", "--keys", "{"+one+"}")
		s.do("-w", format, "lease", "timetolive", "123abc")
		s.do("-w", format, "lease", "keep-alive", "--once", "{"+two+"}")
		s.do("-w", format, "get", "leased/1")
	}
	s.do("lease", "keep-alive", "--once", "123abc")
	s.do("lease", "timetolive", "nothex")
	answers := s.both("", "lease", "list")
	for side := range answers {
		lines := strings.Split(strings.TrimSpace(answers[side].out), "\n")
		if len(lines) != 3 || lines[0] != "found 2 leases" {
			s.fail("lease list on side %d: %q", side, answers[side].out)
		}
	}
	r := s.start("lease", "keep-alive", "{"+two+"}")
	s.expect(r, 1)
	s.do("lease", "revoke", "{"+two+"}")
	s.end(r)
	s.do("lease", "revoke", "{"+two+"}")
	s.do("lease", "revoke", "{"+one+"}")
	s.do("get", "--prefix", "leased")
	s.do("lease", "grant", "9000000001")
	s.do("lease", "grant", "x")
	s.do("lease", "list")
}

func watches(s *session) {
	changes := func() {
		s.do("put", "w/1", "one")
		s.do("put", "w/1", "two")
		s.do("del", "w/1")
	}
	for _, format := range []string{"simple", "json"} {
		r := s.start("-w", format, "watch", "--prefix", "--prev-kv", "--rev=2", "p/")
		s.expect(r, map[string]int{"simple": 24, "json": 1}[format])
		s.end(r)
	}
	s.awaitWatchers(0)
	r := s.start("watch", "--prefix", "--prev-kv", "w/")
	q := s.start("watch", "w/1", "w/2")
	c := s.start("watch", "w/1", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE")
	s.awaitWatchers(3)
	changes()
	s.expect(r, 3+5+5)
	s.expect(q, 3+3+3)
	s.expect(c, 12)
	s.end(r)
	s.end(q)
	s.end(c)
}

var watchers = regexp.MustCompile(`(?m)^etcd_debugging_mvcc_watcher_total (\S+)$`)

// awaitWatchers waits until both servers have so many: etcdctl does not tell that a watch has begun.
func (s *session) awaitWatchers(count int) {
	want := fmt.Sprint(count)
	s.awaitPage("/metrics", want+" watchers", func(page string) bool {
		found := watchers.FindStringSubmatch(page)
		return found != nil && found[1] == want
	})
}

func compactions(s *session) {
	s.do("compaction", "5")
	s.do("compaction", "5")
	s.do("compaction", "3")
	s.do("compaction", "--physical", "12")
	s.do("compaction", "99999")
	s.do("compaction", "x")
	s.do("get", "--rev=4", "a")
	s.do("get", "--rev=12", "a")
	s.do("watch", "--rev=3", "a")
}

func cluster(s *session) {
	for _, format := range append(formats, "table") {
		s.do("-w", format, "member", "list")
		s.do("-w", format, "endpoint", "health")
		s.do("-w", format, "endpoint", "hashkv")
	}
	for _, format := range []string{"simple", "json", "fields", "table"} {
		answers := s.both("", "-w", format, "endpoint", "status")
		// Only the raft index may differ in the plain rows: an entry more or less of the servers' own.
		for side := range answers {
			answers[side].out = statusIndexes.ReplaceAllString(s.mask(side, answers[side].out), "$1<indexes>")
		}
		s.compare([]string{"endpoint", "status", format}, answers)
	}
	s.do("endpoint", "hashkv", "--rev=13")
	s.do("endpoint", "health", "--cluster")
	s.do("alarm", "list")
	s.do("alarm", "disarm")
	s.do("-w", "json", "alarm", "list")
	s.do("member", "remove", "abc")
	s.do("member", "promote", "abc")
	s.do("member", "update", "abc", "--peer-urls=http://127.0.0.1:9")
	s.do("member", "add", "x", "--peer-urls=nonsense")
	s.do("member", "add", "x")
	s.do("nonsense")
	s.do("version")
}

func locks(s *session) {
	s.do("lock", "l", "true")
	s.do("lock", "l", "sh", "-c", "exit 7")
	s.do("lock", "l", "sh", "-c", "test -n \"$ETCD_LOCK_KEY\" && test -n \"$ETCD_LOCK_REV\" && echo held")
	held := s.start("lock", "held")
	s.lockKey(held)
	waits := s.start("lock", "held", "echo", "mine now")
	s.end(held)
	s.expect(waits, 1)
	s.end(waits)
	listener := s.start("elect", "-l", "e")
	one := s.start("elect", "e", "first")
	s.lockKey(one)
	s.lockKey(listener)
	s.end(one)
	two := s.start("elect", "e", "second")
	s.lockKey(two)
	s.lockKey(listener)
	s.end(two)
	s.end(listener)
	s.do("get", "--prefix", "held")
	s.do("get", "--prefix", "e/")
}

// lockKey reads a key that ends in a lease, and the line of its value.
func (s *session) lockKey(r *running) {
	var got [2]string
	for side := range got {
		for range 2 {
			select {
			case line := <-r.lines[side]:
				name, _, found := strings.Cut(line, "/")
				if found {
					line = name + "/<lease>"
				}
				got[side] += line + ";"
			case <-time.After(harness.Patience):
				s.fail("%s: side %d says nothing", strings.Join(r.args, " "), side)
				return
			}
		}
	}
	if got[0] != got[1] {
		s.fail("%s: etcd %q, ours %q", strings.Join(r.args, " "), got[0], got[1])
	}
}

func maintenance(s *session) {
	s.do("defrag")
	s.do("get", "--prefix", "p/")
	if s.release == "3.7" {
		s.do("defrag", "--cluster")
	}
	answers := s.both("", "snapshot", "save", "snapshot-{side}.db")
	for side, a := range answers {
		if a.code != 0 || !strings.Contains(a.out, fmt.Sprintf("Snapshot saved at snapshot-%d.db", side)) {
			s.fail("snapshot save on side %d: %d %q %.1500q", side, a.code, a.out, a.errors)
			return
		}
	}
	// What was saved is read by the tool of etcd 3.7. The hashes differ, because lease ids do that are part of rows.
	var status [2]string
	for side := range status {
		file := filepath.Join(s.dir, fmt.Sprintf("snapshot-%d.db", side))
		for _, args := range [][]string{{"snapshot", "status", "-w", "json", file}, {"hashkv", "-w", "json", file}} {
			out, err := harness.Output(nil, harness.Tool("3.7", "etcdutl"), args...)
			if err != nil {
				s.fail("%v", err)
				return
			}
			status[side] += statusSize.ReplaceAllString(string(out), "")
		}
		if err := os.Remove(file); err != nil {
			s.fail("%v", err)
		}
	}
	if status[0] != status[1] {
		s.fail("snapshots: etcd %s, ours %s", status[0], status[1])
	}
}

func leadership(s *session) {
	s.do("move-leader", "abc")
	s.do("move-leader")
	if s.release == "3.4" {
		return // knows no downgrade
	}
	for _, version := range []string{"3.5", "3.8", "x"} {
		s.do("downgrade", "validate", version)
		s.do("downgrade", "enable", version)
	}
	s.do("downgrade", "validate", "3.6")
	s.do("downgrade", "cancel")
	if s.release == "3.7" {
		s.do("downgrade", "enable", "3.6")
		s.awaitVersions("3.6")
		s.do("downgrade", "enable", "3.6")
		s.do("downgrade", "cancel")
		s.awaitVersions("3.7")
	}
}

// awaitVersions waits until the cluster's and the storage version of both sides are of a release: they follow a start and a
// downgrade in their own time.
func (s *session) awaitVersions(release string) {
	s.awaitPage("/version", "versions "+release, func(page string) bool {
		return strings.Contains(page, fmt.Sprintf(`"etcdcluster":"%s.`, release)) &&
			strings.Contains(page, fmt.Sprintf(`"storage":"%s.`, release))
	})
}

// awaitPage waits until both sides say something under a path.
func (s *session) awaitPage(path, what string, says func(page string) bool) {
	deadline := time.Now().Add(harness.Patience)
	for side, member := range s.members {
		for {
			out, err := harness.Output(nil, "curl", "-s", "--max-time", "30", member.Endpoint+path)
			if err == nil && says(string(out)) {
				break
			}
			if time.Now().After(deadline) {
				s.fail("side %d: no %s, but %.1000s, %v", side, what, out, err)
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// auth asks what changes nothing while auth is off.
func auth(s *session) {
	s.do("user", "list")
	s.do("role", "list")
	s.do("user", "get", "nobody")
	s.do("role", "get", "nothing")
	if s.release != "3.4" {
		s.do("auth", "status")
	}
	s.do("auth", "disable")
	s.do("--user=root:pw", "get", "a")
}
