// The judge of the official Go client: its whole surface against our server, with the packages that are built on it:
// concurrency (sessions, mutexes, elections, software transactions), leasing, mirror, namespace and ordering.
package main

import (
	"context"
	"flag"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"stanchion.invalid/conformance/internal/harness"
)

var only = flag.String("test", "", "the one test to run")

type test struct {
	name string
	run  func(ctx context.Context, t *bench) error
}

// bench is what every test gets: our server and a client of it.
type bench struct {
	member *harness.Etcd
	client *clientv3.Client
}

func (b *bench) another() (*clientv3.Client, error) { return b.member.Client() }

var tests = []test{
	{"put, get, delete", keyValue},
	{"transactions", transactions},
	{"past revisions and compaction", history},
	{"range stream", rangeStream},
	{"watch", watch},
	{"watch: resumes after a compaction is told", watchCompacted},
	{"watch: progress and fragments", watchProgress},
	{"leases", leases},
	{"keep-alive through many ids", keepAlives},
	{"cluster and maintenance", maintenance},
	{"a restart of the server", restart},
	{"session and mutex", mutexes},
	{"session that ends", sessionEnds},
	{"election", elections},
	{"software transactions", softwareTransactions},
	{"leasing", leasingCache},
	{"mirror", mirrors},
	{"namespace", namespaces},
	{"ordering", orderings},
}

func main() {
	flag.Parse()
	harness.Run("go-client", func(j *harness.Judge) error {
		member, err := harness.Start(harness.Ours, j.Temp("data"), "--watch-progress-notify-interval=200ms")
		if err != nil {
			return err
		}
		b := &bench{member: member}
		defer func() { b.member.Kill() }()
		b.client, err = member.Client()
		if err != nil {
			return err
		}
		defer func() { b.client.Close() }()
		for _, t := range tests {
			if *only != "" && *only != t.name {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*harness.Patience)
			began := time.Now()
			err := t.run(ctx, b)
			cancel()
			j.Check(err, "%s (%.1f s)", t.name, time.Since(began).Seconds())
		}
		return nil
	})
}
