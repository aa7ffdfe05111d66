package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
)

// differs compares both answers to a request field by field, after masking what may differ, and says where they part.
// Times that are left of leases may be `apart` seconds from each other.
func differs(r request, answers [2]answer, apart int64) error {
	a, b := answers[theirs], answers[ours]
	if reason := allowed(r, a, b); reason != "" {
		return nil
	}
	if a.status.Code() != b.status.Code() || statusText(a) != statusText(b) {
		return fmt.Errorf("status: etcd %s, ours %s", a, b)
	}
	if len(a.messages) != len(b.messages) {
		return fmt.Errorf("%d messages, ours %d: etcd %s, ours %s", len(a.messages), len(b.messages), a, b)
	}
	for i := range a.messages {
		mask(r.message, a.messages[i], b.messages[i], apart)
		if !proto.Equal(a.messages[i], b.messages[i]) {
			return fmt.Errorf("message %d:\n      etcd %.3000s\n      ours %.3000s", i, text(a.messages[i]), text(b.messages[i]))
		}
	}
	return nil
}

func (r *round) differs(q request, answers [2]answer) error {
	return differs(q, answers, r.pair.apart())
}

// statusText leaves out the words of the library that could not read a message, and which of both ends noticed first that
// the caller's time was over.
func statusText(a answer) string {
	message := a.status.Message()
	if a.status.Code() == codes.Internal && strings.HasPrefix(message, "grpc: error unmarshalling request:") {
		return "grpc: error unmarshalling request:"
	}
	if a.status.Code() == codes.DeadlineExceeded && strings.Contains(message, "RST_STREAM") {
		return context.DeadlineExceeded.Error()
	}
	return message
}

// mask makes equal what may differ in two answers to one request: times, sizes, addresses, and orders that are open.
func mask(request, a, b proto.Message, apart int64) {
	switch a := a.(type) {
	case *pb.StatusResponse:
		b := b.(*pb.StatusResponse)
		b.DbSize, b.DbSizeInUse, b.RaftIndex, b.RaftAppliedIndex = a.DbSize, a.DbSizeInUse, a.RaftIndex, a.RaftAppliedIndex
		// etcd raises it some seconds after the start, as long as 3.5.0 stands there; ours before it serves.
		if a.StorageVersion == "3.5.0" && b.StorageVersion == "3.7.0" {
			b.StorageVersion = a.StorageVersion
		}
		b.Version = a.Version
		for i := range min(len(a.Errors), len(b.Errors)) {
			a.Errors[i], b.Errors[i] = oneBlank(a.Errors[i]), oneBlank(b.Errors[i])
		}
		slices.Sort(a.Errors)
		slices.Sort(b.Errors)
	case *pb.HashResponse:
		// The hash is over every bucket; the members bucket holds each side's own client address.
		b.(*pb.HashResponse).Hash = a.Hash
	case *pb.MemberListResponse:
		maskMembers(a.Members, b.(*pb.MemberListResponse).Members)
	case *pb.MemberAddResponse:
		maskMembers(a.Members, b.(*pb.MemberAddResponse).Members)
	case *pb.MemberRemoveResponse:
		maskMembers(a.Members, b.(*pb.MemberRemoveResponse).Members)
	case *pb.MemberUpdateResponse:
		maskMembers(a.Members, b.(*pb.MemberUpdateResponse).Members)
	case *pb.MemberPromoteResponse:
		maskMembers(a.Members, b.(*pb.MemberPromoteResponse).Members)
	case *pb.LeaseTimeToLiveResponse:
		b := b.(*pb.LeaseTimeToLiveResponse)
		b.TTL = about(a.TTL, b.TTL, apart)
		slices.SortFunc(a.Keys, bytes.Compare)
		slices.SortFunc(b.Keys, bytes.Compare)
	case *pb.LeaseLeasesResponse:
		sortLeases(a.Leases)
		sortLeases(b.(*pb.LeaseLeasesResponse).Leases)
	case *pb.AlarmResponse:
		sortAlarms(a.Alarms)
		sortAlarms(b.(*pb.AlarmResponse).Alarms)
	case *pb.RangeResponse:
		if r, ok := request.(*pb.RangeRequest); ok {
			maskTies(r, a, b.(*pb.RangeResponse))
		}
	case *pb.TxnResponse:
		if r, ok := request.(*pb.TxnRequest); ok {
			maskTxn(r, a, b.(*pb.TxnResponse))
		}
	}
}

// oneBlank turns rows of blanks into one: how many the text form of a message has differs between builds of Go.
func oneBlank(s string) string { return strings.Join(strings.Fields(s), " ") }

// about is a if b is at most so far from it.
func about(a, b, apart int64) int64 {
	if a > 0 && b > 0 && max(a-b, b-a) <= apart {
		return a
	}
	return b
}

func maskMembers(a, b []*pb.Member) {
	for i := range min(len(a), len(b)) {
		if len(a[i].ClientURLs) == len(b[i].ClientURLs) {
			b[i].ClientURLs = a[i].ClientURLs
		}
	}
}

func sortLeases(l []*pb.LeaseStatus) {
	slices.SortFunc(l, func(a, b *pb.LeaseStatus) int { return cmp.Compare(a.ID, b.ID) })
}

func sortAlarms(l []*pb.AlarmMember) {
	slices.SortFunc(l, func(a, b *pb.AlarmMember) int {
		return cmp.Or(cmp.Compare(a.MemberID, b.MemberID), cmp.Compare(a.Alarm, b.Alarm))
	})
}

// maskTies compares a sorted range as etcd means it: equal values of the sort field stand in any order, because its sort
// is unstable, and where a limit cuts through a tie either key may have been kept.
func maskTies(r *pb.RangeRequest, a, b *pb.RangeResponse) {
	if r.SortTarget == pb.RangeRequest_KEY || len(a.Kvs) != len(b.Kvs) {
		return
	}
	for i := range a.Kvs {
		if sortField(r.SortTarget, a.Kvs[i]) != sortField(r.SortTarget, b.Kvs[i]) {
			return
		}
	}
	if !a.More && !b.More {
		byKey := func(x, y *mvccpb.KeyValue) int { return bytes.Compare(x.Key, y.Key) }
		slices.SortFunc(a.Kvs, byKey)
		slices.SortFunc(b.Kvs, byKey)
		return
	}
	b.Kvs = a.Kvs
}

func sortField(target pb.RangeRequest_SortTarget, kv *mvccpb.KeyValue) string {
	switch target {
	case pb.RangeRequest_VERSION:
		return fmt.Sprint(kv.Version)
	case pb.RangeRequest_CREATE:
		return fmt.Sprint(kv.CreateRevision)
	case pb.RangeRequest_MOD:
		return fmt.Sprint(kv.ModRevision)
	}
	return string(kv.Value)
}

func maskTxn(r *pb.TxnRequest, a, b *pb.TxnResponse) {
	taken := r.Failure
	if a.Succeeded {
		taken = r.Success
	}
	if a.Succeeded != b.Succeeded || len(a.Responses) != len(b.Responses) || len(a.Responses) != len(taken) {
		return
	}
	for i, op := range taken {
		x, y := a.Responses[i], b.Responses[i]
		if op.GetRequestRange() != nil && x.GetResponseRange() != nil && y.GetResponseRange() != nil {
			maskTies(op.GetRequestRange(), x.GetResponseRange(), y.GetResponseRange())
		}
		if op.GetRequestTxn() != nil && x.GetResponseTxn() != nil && y.GetResponseTxn() != nil {
			maskTxn(op.GetRequestTxn(), x.GetResponseTxn(), y.GetResponseTxn())
		}
	}
}
