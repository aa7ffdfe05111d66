package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"stanchion.invalid/conformance/internal/harness"
)

func dial(member *harness.Etcd, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+member.Address(), append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// A connection that is not taken at once is tried again, as etcd's clients do.
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(1<<31-1), grpc.MaxCallSendMsgSize(1<<31-1)),
	}, options...)...)
}

// each runs n things at most width at a time and gives the first error.
func each(n, width int, one func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wait sync.WaitGroup
	for range width {
		wait.Add(1)
		go func() {
			defer wait.Done()
			for {
				i := int(next.Add(1)) - 1
				if i >= n || failed.Load() != nil {
					return
				}
				if err := one(i); err != nil {
					failed.CompareAndSwap(nil, &err)
				}
			}
		}()
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// raiseFileLimit lets this process hold as many connections as the system allows.
func raiseFileLimit() (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	limit.Cur = limit.Max
	return limit.Cur, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// connections opens ten thousand, puts and gets on each, and keeps them open to the end.
func connections(ctx context.Context, member *harness.Etcd) (string, error) {
	const wanted = 10_000
	limit, err := raiseFileLimit()
	if err != nil {
		return "", err
	}
	if limit < wanted+500 {
		return "", fmt.Errorf("this process may open %d files only", limit)
	}
	conns := make([]*grpc.ClientConn, wanted)
	defer func() {
		_ = each(wanted, 8, func(i int) error {
			if conns[i] != nil {
				return conns[i].Close()
			}
			return nil
		})
	}()
	use := func(i int) error {
		kv := pb.NewKVClient(conns[i])
		if _, err := kv.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "c/%d", i)}); err != nil {
			return err
		}
		got, err := kv.Range(ctx, &pb.RangeRequest{Key: fmt.Appendf(nil, "c/%d", i)})
		if err == nil && got.Count != 1 {
			err = fmt.Errorf("connection %d does not find its key", i)
		}
		return err
	}
	for round := range 2 {
		err := each(wanted, 200, func(i int) (err error) {
			if round == 0 {
				conns[i], err = dial(member, grpc.WithReadBufferSize(0), grpc.WithWriteBufferSize(0), grpc.WithSharedWriteBuffer(true))
				if err != nil {
					return err
				}
			}
			return use(i)
		})
		if err != nil {
			return "", err
		}
	}
	return "each put and got twice", nil
}

// concurrentPuts sends ten thousand puts at once over few connections, several times.
func concurrentPuts(ctx context.Context, member *harness.Etcd) (string, error) {
	const wanted, rounds = 10_000, 4
	conns := make([]*grpc.ClientConn, 16)
	for i := range conns {
		var err error
		if conns[i], err = dial(member); err != nil {
			return "", err
		}
		defer conns[i].Close()
	}
	var put, refused, late atomic.Int64
	for range rounds {
		err := each(wanted, wanted, func(i int) error {
			_, err := pb.NewKVClient(conns[i%len(conns)]).Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "p/%d", i), Value: make([]byte, 100)})
			switch {
			case err == nil:
				put.Add(1)
			case strings.Contains(err.Error(), "etcdserver: too many requests"):
				refused.Add(1)
			case strings.Contains(err.Error(), "etcdserver: request timed out"):
				// On a slow machine that is etcd's refusal, too; such a put may still be carried out.
				late.Add(1)
			default:
				return err
			}
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	// What was acknowledged has a revision each, and nothing else has.
	got, err := pb.NewKVClient(conns[0]).Range(ctx, &pb.RangeRequest{Key: []byte("p/0")})
	if err != nil {
		return "", err
	}
	if least := put.Load() + 1; got.Header.Revision < least || got.Header.Revision > least+late.Load() {
		return "", fmt.Errorf("%d puts were acknowledged, %d timed out, the revision is %d", put.Load(), late.Load(), got.Header.Revision)
	}
	return fmt.Sprintf("%d acknowledged, %d refused with `too many requests`, %d timed out", put.Load(), refused.Load(), late.Load()), nil
}

// manyWatchers opens a thousand streams with a hundred watchers each and lets every watcher have two events.
func manyWatchers(ctx context.Context, member *harness.Etcd) (string, error) {
	const streams, each1 = 1000, 100
	conns := make([]*grpc.ClientConn, 20)
	for i := range conns {
		var err error
		if conns[i], err = dial(member); err != nil {
			return "", err
		}
		defer conns[i].Close()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var created, events atomic.Int64
	err := each(streams, 50, func(i int) error {
		stream, err := pb.NewWatchClient(conns[i%len(conns)]).Watch(ctx)
		if err != nil {
			return err
		}
		for n := range each1 {
			// Half of them watch a key of their own, half the whole prefix's tenth that they share.
			c := &pb.WatchCreateRequest{Key: fmt.Appendf(nil, "w/%d", n)}
			if n%2 == 1 {
				c.RangeEnd = fmt.Appendf(nil, "w/%d\x00", n)
			}
			if err := stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}); err != nil {
				return err
			}
		}
		for range each1 {
			r, err := stream.Recv()
			if err != nil {
				return err
			}
			if r.Canceled || !r.Created {
				return fmt.Errorf("stream %d: %v", i, r)
			}
			created.Add(1)
		}
		go func() {
			for r, err := stream.Recv(); err == nil; r, err = stream.Recv() {
				events.Add(int64(len(r.Events)))
			}
		}()
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("after %d watchers: %w", created.Load(), err)
	}
	kv := pb.NewKVClient(conns[0])
	for range 2 {
		for n := range each1 {
			if _, err := kv.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "w/%d", n), Value: make([]byte, 50)}); err != nil {
				return "", err
			}
		}
	}
	const want = 2 * streams * each1
	for deadline := time.Now().Add(harness.Patience); events.Load() < want && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
	}
	if events.Load() != want {
		return "", fmt.Errorf("%d events, %d expected", events.Load(), want)
	}
	return fmt.Sprintf("%d watchers, %d events", created.Load(), events.Load()), nil
}

// largeRange writes a gibibyte in values of 1.5 MiB less the request's frame and reads it in one stream.
func largeRange(ctx context.Context, member *harness.Etcd) (string, error) {
	conn, err := dial(member, grpc.WithInitialWindowSize(1<<22), grpc.WithInitialConnWindowSize(1<<23))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	const value = 1_572_864 - 100
	const keys = 1<<30/value + 1
	err = each(keys, 4, func(i int) error {
		_, err := kv.Put(ctx, &pb.PutRequest{Key: fmt.Appendf(nil, "g/%04d", i), Value: make([]byte, value)})
		return err
	})
	if err != nil {
		return "", err
	}
	_, err = kv.Put(ctx, &pb.PutRequest{Key: []byte("g/more"), Value: make([]byte, 1_572_864)})
	if err == nil || !strings.Contains(err.Error(), "etcdserver: request is too large") {
		return "", fmt.Errorf("a value of 1.5 MiB and more: %v", err)
	}
	before, _, err := memory(member.PID())
	if err != nil {
		return "", err
	}
	stream, err := kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("g/"), RangeEnd: []byte("g0")})
	if err != nil {
		return "", err
	}
	got, bytes, chunks := 0, 0, 0
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", fmt.Errorf("after %d keys: %w", got, err)
		}
		chunks++
		for _, pair := range m.RangeResponse.Kvs {
			got++
			bytes += len(pair.Value)
		}
	}
	if got != keys {
		return "", fmt.Errorf("%d keys, %d expected", got, keys)
	}
	return fmt.Sprintf("%d bytes in %d chunks; at most %d MiB resident after writing", bytes, chunks, before), nil
}

// slowWatchers opens streams that never read, while large values are written: what waits for them must have a bound,
// and others are served. A stream that then begins to read gets every event.
func slowWatchers(ctx context.Context, member *harness.Etcd) (string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const streams, puts, value = 50, 400, 200_000
	late := make([]pb.Watch_WatchClient, streams)
	for i := range late {
		conn, err := dial(member, grpc.WithInitialWindowSize(1<<16), grpc.WithInitialConnWindowSize(1<<16))
		if err != nil {
			return "", err
		}
		defer conn.Close()
		if late[i], err = pb.NewWatchClient(conn).Watch(ctx); err != nil {
			return "", err
		}
		c := &pb.WatchCreateRequest{Key: []byte("s")}
		if err := late[i].Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: c}}); err != nil {
			return "", err
		}
		if _, err := late[i].Recv(); err != nil {
			return "", err
		}
	}
	conn, err := dial(member)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	var slowest time.Duration
	for range puts {
		began := time.Now()
		if _, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("s"), Value: make([]byte, value)}); err != nil {
			return "", err
		}
		slowest = max(slowest, time.Since(began))
	}
	_, held, err := memory(member.PID())
	if err != nil {
		return "", err
	}
	revision, events := int64(0), 0
	for events < puts {
		r, err := late[0].Recv()
		if err != nil {
			return "", fmt.Errorf("the late reader after %d events: %w", events, err)
		}
		for _, e := range r.Events {
			if revision != 0 && e.Kv.ModRevision != revision+1 {
				return "", fmt.Errorf("revision %d after %d", e.Kv.ModRevision, revision)
			}
			revision = e.Kv.ModRevision
			events++
		}
	}
	// Fifty streams times 80 MB were published; without bound they would stand in memory.
	if held > 500 {
		return "", fmt.Errorf("%d MiB anonymous while %d streams do not read", held, streams)
	}
	return fmt.Sprintf("%d MiB anonymous with %d waiting streams, slowest put %.0f ms", held, streams, slowest.Seconds()*1000), nil
}

// deadClients holds connections whose far end answers nothing any more: the server's pings find out and close them.
func deadClients(ctx context.Context, member *harness.Etcd) (string, error) {
	const dead = 20
	var conns []net.Conn
	for range dead {
		conn, err := net.Dial("tcp", member.Address())
		if err != nil {
			return "", err
		}
		defer conn.Close()
		// The client's part of an HTTP/2 connection, and then silence: no answer to any ping.
		if _, err := conn.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")); err != nil {
			return "", err
		}
		conns = append(conns, conn)
	}
	began := time.Now()
	for i, conn := range conns {
		if err := conn.SetReadDeadline(began.Add(harness.Patience)); err != nil {
			return "", err
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), "reset") {
			return "", fmt.Errorf("connection %d is still open: %w", i, err)
		}
	}
	return fmt.Sprintf("%d silent connections were closed after %.1f s", dead, time.Since(began).Seconds()), ctx.Err()
}
