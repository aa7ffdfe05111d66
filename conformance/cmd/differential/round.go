package main

import (
	"context"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"stanchion.invalid/conformance/internal/harness"
)

// round is one seed: a fresh pair, requests in a row, watch streams beside them.
type round struct {
	seed    uint64
	pair    *pair
	gen     *generator
	watches []*watchPair
	// history is true while a watcher may still be catching up with the past.
	history bool
	// alarmSteps is how many steps alarms stay on.
	alarmSteps int
	sent       int
	byMethod   map[string]int
	recent     []string
	found      []error
	// all are the requests so far, if they are to be kept.
	keeps bool
	all   []request
}

// recentKept requests are printed with a difference.
const recentKept = 12

// ask sends one request to both sides, compares, and learns from the reference's answer.
func (r *round) ask(ctx context.Context, q request) [2]answer {
	r.sent++
	r.byMethod[q.path]++
	if r.keeps {
		r.all = append(r.all, q)
	}
	answers := r.pair.both(ctx, q)
	line := fmt.Sprintf("%d %.700s", r.sent, q)
	r.recent = append(r.recent, line)
	if len(r.recent) > recentKept {
		r.recent = r.recent[1:]
	}
	if err := r.differs(q, answers); err != nil {
		r.report(err)
	}
	r.learn(q, answers[theirs])
	return answers
}

func (r *round) report(err error) {
	text := fmt.Sprintf("seed %d: %v\n    last requests:", r.seed, err)
	for _, line := range r.recent {
		text += "\n      " + line
	}
	r.found = append(r.found, fmt.Errorf("%s", text))
}

func (r *round) learn(q request, a answer) {
	if a.status.Code() != codes.OK {
		return
	}
	for _, m := range a.messages {
		if h := headerOf(m); h != nil && h.Revision > r.gen.revision {
			r.gen.revision = h.Revision
		}
	}
	switch m := q.message.(type) {
	case *pb.CompactionRequest:
		r.gen.compact, r.gen.everCompacted = m.Revision, true
	case *pb.LeaseGrantRequest:
		r.gen.leases = append(r.gen.leases, m.ID)
	case *pb.LeaseRevokeRequest:
		r.gen.forget(m.ID)
	case *pb.AlarmRequest:
		if m.Action == pb.AlarmRequest_ACTIVATE && m.Alarm != pb.AlarmType_NONE {
			r.gen.alarms++
			r.alarmSteps = 30
		}
	}
}

func headerOf(m proto.Message) *pb.ResponseHeader {
	f := m.ProtoReflect().Descriptor().Fields().ByName("header")
	if f == nil || f.Kind() != protoreflect.MessageKind || !m.ProtoReflect().Has(f) {
		return nil
	}
	h, _ := m.ProtoReflect().Get(f).Message().Interface().(*pb.ResponseHeader)
	return h
}

// run sends the given number of requests, or fewer if differences are found.
func (r *round) run(ctx context.Context, requests int) {
	for range 3 {
		w, err := r.pair.openWatch()
		if err != nil {
			r.report(err)
			return
		}
		defer w.close()
		r.watches = append(r.watches, w)
	}
	for r.sent < requests && len(r.found) < *maxFound {
		r.step(ctx)
		if err := r.pair.alive(); err != nil {
			r.report(err)
			return
		}
	}
	r.clearAlarms(ctx)
	r.settle(ctx)
	r.compareStores(ctx)
}

func (r *round) step(ctx context.Context) {
	if r.gen.alarms > 0 {
		if r.alarmSteps--; r.alarmSteps < 0 {
			r.clearAlarms(ctx)
		}
	} else if r.gen.chance(40) {
		r.watchStep(ctx)
		return
	}
	q := r.gen.step()
	if _, ok := q.message.(*pb.CompactionRequest); ok {
		if r.gen.alarms > 0 {
			return
		}
		// Watchers that were still reading the past would be cancelled, or not, as chance has it.
		r.settle(ctx)
	}
	answers := r.ask(ctx, q)
	if c, ok := q.message.(*pb.CompactionRequest); ok && !c.Physical && answers[theirs].status.Code() == codes.OK {
		// Until the rows are removed HashKV may answer with a hash of its own, and afterwards with the compaction's. Who asks
		// for the same once more and wants it done is refused, but not before it is.
		r.ask(ctx, request{path: q.path, message: &pb.CompactionRequest{Revision: c.Revision, Physical: true}})
	}
	r.renewUsed(ctx, q)
}

// renewUsed renews the lease that a lock or an election was asked for with. etcd makes a session of it, and whether that
// renews the lease before it is let go is open.
func (r *round) renewUsed(ctx context.Context, q request) {
	var lease int64
	switch m := q.message.(type) {
	case *v3lockpb.LockRequest:
		lease = m.Lease
	case *v3electionpb.CampaignRequest:
		lease = m.Lease
	case *v3electionpb.ProclaimRequest:
		lease = m.GetLeader().GetLease()
	case *v3electionpb.ResignRequest:
		lease = m.GetLeader().GetLease()
	}
	if lease != 0 {
		r.ask(ctx, request{path: "/etcdserverpb.Lease/LeaseKeepAlive", message: &pb.LeaseKeepAliveRequest{ID: lease}})
	}
}

func (r *round) clearAlarms(ctx context.Context) {
	if r.gen.alarms == 0 {
		return
	}
	for member := range uint64(3) {
		for _, alarm := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
			r.ask(ctx, request{path: "/etcdserverpb.Maintenance/Alarm", message: &pb.AlarmRequest{
				Action: pb.AlarmRequest_DEACTIVATE, MemberID: member, Alarm: alarm}})
		}
	}
	r.gen.alarms = 0
}

// settle waits until every stream has said all there is to say, and compares.
func (r *round) settle(ctx context.Context) {
	if r.history {
		// etcd lets watchers catch up every 100 ms, or when it has the time.
		if err := r.pair.caughtUp(ctx); err != nil {
			r.report(err)
		}
		r.history = false
	}
	answers := r.ask(ctx, request{path: "/etcdserverpb.KV/Put", message: &pb.PutRequest{Key: []byte(sentinelKey)}})
	if answers[theirs].status.Code() != codes.OK || answers[ours].status.Code() != codes.OK {
		return
	}
	revision := answers[theirs].messages[0].(*pb.PutResponse).Header.Revision
	for i, w := range r.watches {
		arrived := w.await(harness.Patience, func(s *watchSide) bool { return s.highest[sentinelID] >= revision })
		err := w.same()
		for deadline := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(deadline); err = w.same() {
			time.Sleep(2 * time.Millisecond)
		}
		if err == nil && !arrived {
			err = fmt.Errorf("the event of revision %d did not arrive", revision)
		}
		if err != nil {
			r.report(fmt.Errorf("watch stream %d: %w", i, err))
			w.forgetDifferent()
		}
	}
}

// compareStores asks for everything that is left, as a last word.
func (r *round) compareStores(ctx context.Context) {
	all := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}}
	r.ask(ctx, request{path: "/etcdserverpb.KV/Range", message: all})
	for _, revision := range []int64{r.gen.compact, (r.gen.compact + r.gen.revision) / 2} {
		past := &pb.RangeRequest{Key: []byte{0}, RangeEnd: []byte{0}, Revision: revision}
		r.ask(ctx, request{path: "/etcdserverpb.KV/Range", message: past})
		r.ask(ctx, request{path: "/etcdserverpb.Maintenance/HashKV", message: &pb.HashKVRequest{Revision: revision}})
	}
	r.ask(ctx, request{path: "/etcdserverpb.Maintenance/HashKV", message: &pb.HashKVRequest{}})
	r.ask(ctx, request{path: "/etcdserverpb.Lease/LeaseLeases", message: &pb.LeaseLeasesRequest{}})
}
