package main

import (
	"context"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health/grpc_health_v1"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"stanchion.invalid/conformance/internal/harness"
)

func sorted(s []string) []string { slices.Sort(s); return s }

// membership adds a learner that never starts, tries what cannot be done with it, and removes it.
func membership(ctx context.Context, r *round) error {
	const service = "/etcdserverpb.Cluster/"
	added, err := r.quietly(ctx, service+"MemberAdd", &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:1"}, IsLearner: true})
	if err != nil {
		return err
	}
	var ids [2]int64
	for side, m := range added {
		ids[side] = int64(m.(*pb.MemberAddResponse).Member.ID)
		r.pair.names.read(side, m)
	}
	learner := uint64(r.pair.names.add(ids))
	for side, m := range added {
		r.pair.names.read(side, m)
	}
	byURL := func(ms []*pb.Member) {
		slices.SortFunc(ms, func(a, b *pb.Member) int { return slices.Compare(a.PeerURLs, b.PeerURLs) })
	}
	a, b := added[theirs].(*pb.MemberAddResponse), added[ours].(*pb.MemberAddResponse)
	byURL(a.Members)
	byURL(b.Members)
	maskMembers(a.Members, b.Members)
	if !proto.Equal(a, b) {
		r.report(fmt.Errorf("added: etcd %s, ours %s", text(a), text(b)))
	}
	list := func() {
		lists, err := r.quietly(ctx, service+"MemberList", &pb.MemberListRequest{Linearizable: true})
		if err != nil {
			r.report(err)
			return
		}
		a, b := lists[theirs].(*pb.MemberListResponse), lists[ours].(*pb.MemberListResponse)
		byURL(a.Members)
		byURL(b.Members)
		maskMembers(a.Members, b.Members)
		if !proto.Equal(a, b) {
			r.report(fmt.Errorf("members: etcd %s, ours %s", text(a), text(b)))
		}
	}
	list()
	r.call(ctx, service+"MemberAdd", &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:2"}, IsLearner: true})
	r.call(ctx, service+"MemberAdd", &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:1"}, IsLearner: true})
	r.call(ctx, service+"MemberPromote", &pb.MemberPromoteRequest{ID: learner})
	r.call(ctx, "/etcdserverpb.Maintenance/MoveLeader", &pb.MoveLeaderRequest{TargetID: learner})
	r.put(ctx, "still", "works", 0)
	r.call(ctx, "/etcdserverpb.Maintenance/Downgrade", &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE, Version: "3.6"})
	updated, err := r.quietly(ctx, service+"MemberUpdate", &pb.MemberUpdateRequest{ID: learner, PeerURLs: []string{"http://127.0.0.1:3"}})
	if err != nil {
		return err
	}
	for _, m := range updated {
		byURL(m.(*pb.MemberUpdateResponse).Members)
	}
	list()
	if _, err = r.quietly(ctx, service+"MemberRemove", &pb.MemberRemoveRequest{ID: learner}); err != nil {
		return err
	}
	list()
	r.call(ctx, service+"MemberRemove", &pb.MemberRemoveRequest{ID: learner})
	r.call(ctx, service+"MemberUpdate", &pb.MemberUpdateRequest{ID: learner, PeerURLs: []string{"http://127.0.0.1:4"}})
	r.call(ctx, service+"MemberPromote", &pb.MemberPromoteRequest{ID: learner})
	// The only voter.
	own, err := r.quietly(ctx, service+"MemberList", &pb.MemberListRequest{})
	if err != nil {
		return err
	}
	id := own[theirs].(*pb.MemberListResponse).Members[0].ID
	r.call(ctx, service+"MemberPromote", &pb.MemberPromoteRequest{ID: id})
	r.call(ctx, service+"MemberRemove", &pb.MemberRemoveRequest{ID: id})
	r.call(ctx, "/etcdserverpb.Maintenance/MoveLeader", &pb.MoveLeaderRequest{TargetID: id})
	list()
	return nil
}

// metadata compares what request metadata, compression and the health service do.
func metadata(ctx context.Context, r *round) error {
	get := &pb.RangeRequest{Key: []byte("m")}
	for _, pairs := range [][]string{
		{"hasleader", "true"}, {"hasleader", "no"}, {"client-api-version", "3.7"}, {"client-api-version", "\xff\xfe"},
		{"token", "nonsense"}, {"authorization", "Bearer nonsense"}, {"grpcgateway-accept", "x"},
	} {
		with := grpcmetadata.NewOutgoingContext(ctx, grpcmetadata.Pairs(pairs...))
		r.call(with, "/etcdserverpb.KV/Range", get)
		r.call(with, "/etcdserverpb.KV/Put", &pb.PutRequest{Key: []byte("m"), Value: []byte(pairs[1])})
		r.call(with, "/etcdserverpb.Lease/LeaseKeepAlive", &pb.LeaseKeepAliveRequest{ID: 4})
	}
	same := func(what string, call func(conn *grpc.ClientConn) (proto.Message, error)) {
		r.sent++
		var told [2]string
		for side, conn := range r.pair.conns {
			m, err := call(conn)
			s := status.Convert(err)
			told[side] = fmt.Sprintf("%s %q %s", s.Code(), s.Message(), text(m))
		}
		if told[theirs] != told[ours] {
			r.report(fmt.Errorf("%s: etcd %s, ours %s", what, told[theirs], told[ours]))
		}
	}
	for _, service := range []string{"", "etcdserverpb.KV", "x"} {
		same("health of "+service, func(conn *grpc.ClientConn) (proto.Message, error) {
			return grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
		})
		same("health watch of "+service, func(conn *grpc.ClientConn) (proto.Message, error) {
			short, cancel := context.WithTimeout(ctx, harness.Patience)
			defer cancel()
			stream, err := grpc_health_v1.NewHealthClient(conn).Watch(short, &grpc_health_v1.HealthCheckRequest{Service: service})
			if err != nil {
				return nil, err
			}
			return stream.Recv()
		})
	}
	same("health list", func(conn *grpc.ClientConn) (proto.Message, error) {
		return grpc_health_v1.NewHealthClient(conn).List(ctx, &grpc_health_v1.HealthListRequest{})
	})
	same("compressed", func(conn *grpc.ClientConn) (proto.Message, error) {
		return pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("gz"), Value: make([]byte, 5000)}, grpc.UseCompressor(gzip.Name))
	})
	same("compressed get", func(conn *grpc.ClientConn) (proto.Message, error) {
		return pb.NewKVClient(conn).Range(ctx, &pb.RangeRequest{Key: []byte("gz")}, grpc.UseCompressor(gzip.Name))
	})
	return nil
}
