package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"stanchion.invalid/conformance/internal/harness"
)

// The two sides of a pair. Etcd is the measure.
const (
	theirs = 0
	ours   = 1
)

// pair is one member of etcd and one of ours, started alike, which get the same requests in the same order.
type pair struct {
	members [2]*harness.Etcd
	conns   [2]*grpc.ClientConn
	names   autoNames
	// slowest is how long the slowest request took, in nanoseconds: so far apart both sides may have carried one out.
	slowest atomic.Int64
}

// startPair starts both members on fresh directories. The reference does not sync: what is compared are answers.
func startPair(dir string, flags ...string) (*pair, error) {
	p := &pair{}
	for side, release := range []string{"3.7", harness.Ours} {
		member, err := harness.Start(release, dir+"/"+release, append([]string{"--unsafe-no-fsync"}, flags...)...)
		if err != nil {
			p.stop()
			return nil, err
		}
		p.members[side] = member
		p.conns[side], err = dial(member.Address())
		if err != nil {
			p.stop()
			return nil, err
		}
	}
	// etcd decides on its versions after it began to serve, and refuses some requests before.
	err := p.awaitPage(context.Background(), "/version", func(page string) bool {
		return strings.Contains(page, `"etcdcluster":"3.7.`) && strings.Contains(page, `"storage":"3.7.`)
	})
	if err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

var slowWatchers = regexp.MustCompile(`(?m)^etcd_debugging_mvcc_slow_watcher_total 0$`)

// caughtUp waits until no watcher is behind on either side.
func (p *pair) caughtUp(ctx context.Context) error {
	return p.awaitPage(ctx, "/metrics", slowWatchers.MatchString)
}

// awaitPage waits until both sides say something under a path.
func (p *pair) awaitPage(ctx context.Context, path string, says func(page string) bool) error {
	for side, member := range p.members {
		for deadline := time.Now().Add(harness.Patience); ; time.Sleep(5 * time.Millisecond) {
			answer := oneHTTP(ctx, http.MethodGet, member.Endpoint+path, nil, nil)
			if answer.err == nil && says(string(answer.body)) {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("side %d does not come to rest: %s", side, answer)
			}
		}
	}
	return nil
}

func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.MaxCallSendMsgSize(1<<30)))
}

func (p *pair) stop() {
	for side := range p.members {
		if p.conns[side] != nil {
			p.conns[side].Close()
		}
		if p.members[side] != nil {
			p.members[side].Kill()
		}
	}
}

// alive says which member has ended, if one has: no request may do that.
func (p *pair) alive() error {
	for side, name := range []string{"etcd", "ours"} {
		if p.members[side].Exited() {
			return fmt.Errorf("the process of %s has ended", name)
		}
	}
	return nil
}

// answer is all that one side said to one request: its messages in order, and how the call ended.
type answer struct {
	messages []proto.Message
	status   *status.Status
}

func (a answer) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q", a.status.Code(), a.status.Message())
	for _, m := range a.messages {
		fmt.Fprintf(&b, " {%.1500s}", text(m))
	}
	return b.String()
}

// request is one call: the method's full path and its message, or the bytes that stand for it.
type request struct {
	path    string
	message proto.Message
	raw     []byte
	timeout time.Duration
}

func (r request) String() string {
	if r.raw != nil {
		return fmt.Sprintf("%s raw %x", r.path, r.raw[:min(len(r.raw), 200)])
	}
	return fmt.Sprintf("%s {%.900s}", r.path, text(r.message))
}

// both sends a request to both sides at the same time.
func (p *pair) both(ctx context.Context, r request) [2]answer {
	began := time.Now()
	var answers [2]answer
	var wait sync.WaitGroup
	for side := range answers {
		wait.Add(1)
		go func() {
			defer wait.Done()
			answers[side] = p.send(ctx, side, r)
		}()
	}
	wait.Wait()
	p.took(time.Since(began))
	return answers
}

func (p *pair) took(d time.Duration) {
	for {
		slowest := p.slowest.Load()
		if int64(d) <= slowest || p.slowest.CompareAndSwap(slowest, int64(d)) {
			return
		}
	}
}

// apart is by how many seconds the time that is left of a lease may differ: they are rounded, and its grant or its renewal
// and this question may each have come later to one side.
func (p *pair) apart() int64 {
	return 2 + 2*int64(time.Duration(p.slowest.Load())/time.Second)
}

func (p *pair) send(ctx context.Context, side int, r request) answer {
	limit := r.timeout
	if limit == 0 {
		limit = harness.Patience
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var in any = rawBytes(r.raw)
	if r.raw == nil {
		in = p.names.write(side, r.message)
	}
	method, err := methodOf(r.path)
	if err != nil {
		// A method that nobody has: the answer is a status, whatever the type.
		var out rawBytes
		return answer{status: status.Convert(p.conns[side].Invoke(ctx, r.path, in, &out, grpc.ForceCodecV2(rawCodec{})))}
	}
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: method.IsStreamingClient()}
	stream, err := p.conns[side].NewStream(ctx, desc, r.path, grpc.ForceCodecV2(rawCodec{}))
	if err != nil {
		return answer{status: status.Convert(err)}
	}
	if err := stream.SendMsg(in); err != nil && err != io.EOF {
		return answer{status: status.Convert(err)}
	}
	_ = stream.CloseSend()
	var a answer
	for {
		out := newMessage(method.Output())
		err := stream.RecvMsg(out)
		if err == io.EOF {
			a.status = status.New(0, "")
			return a
		}
		if err != nil {
			a.status = status.Convert(err)
			return a
		}
		a.messages = append(a.messages, p.names.read(side, out))
	}
}

// methodOf finds "/package.Service/Method" among the messages that are linked in.
func methodOf(path string) (protoreflect.MethodDescriptor, error) {
	service, method, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, err
	}
	described, ok := found.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no service", service)
	}
	if m := described.Methods().ByName(protoreflect.Name(method)); m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("%s has no method %s", service, method)
}

func newMessage(d protoreflect.MessageDescriptor) proto.Message {
	found, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		panic(err) // the service's messages are linked in wherever the service is
	}
	return found.New().Interface()
}
