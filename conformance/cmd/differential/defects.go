package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"stanchion.invalid/conformance/internal/harness"
)

// defect is an input that etcd 3.7 does not survive or answers wrongly, so that it goes to ours alone. These, too, are
// differences that are allowed, and wanted.
type defect struct {
	etcd, ours string
	try        func(ctx context.Context, d *lone) error
}

var defects = []defect{
	{"loses a key that a transaction deletes to the end and puts again, after a compaction at that revision",
		"keeps it", deletedAndPut},
	{"ends, and at each start again, when such a put says ignore_value", "answers `key not found`", ignoredValue},
	{"ends, and at each start again, when a member's URLs are updated to unusable ones",
		"answers `given member URLs are invalid`", memberURLs},
	{"loses and repeats keys in a RangeStream that names another sort target without an order",
		"refuses, or streams in key order", streamOrder},
	{"ends at an alarm request with an action that does not exist", "answers InvalidArgument", alarmAction},
}

// lone is our server without a pair.
type lone struct {
	member *harness.Etcd
	kv     pb.KVClient
	done   func() error
}

func (d *lone) connect() error {
	conn, err := dial(d.member.Address())
	if err != nil {
		return err
	}
	d.kv, d.done = pb.NewKVClient(conn), conn.Close
	return nil
}

func checkDefects(j *harness.Judge) error {
	member, err := harness.Start(harness.Ours, j.Temp("defects"))
	if err != nil {
		return err
	}
	d := &lone{member: member}
	defer func() { d.member.Kill() }()
	if err := d.connect(); err != nil {
		return err
	}
	defer func() { _ = d.done() }()
	for _, known := range defects {
		ctx, cancel := context.WithTimeout(context.Background(), 5*harness.Patience)
		err := known.try(ctx, d)
		if err == nil && d.member.Exited() {
			err = errors.New("the server has ended")
		}
		cancel()
		j.Check(err, "etcd %s; ours %s", known.etcd, known.ours)
	}
	return nil
}

// restart starts the server again on its directory.
func (d *lone) restart() error {
	_ = d.done()
	d.member.Kill()
	member, err := harness.Start(harness.Ours, d.member.DataDir)
	if err != nil {
		return err
	}
	d.member = member
	return d.connect()
}

func (d *lone) put(ctx context.Context, key string) error {
	_, err := d.kv.Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("before")})
	return err
}

func openDeleteThen(put *pb.PutRequest) *pb.TxnRequest {
	return &pb.TxnRequest{Success: []*pb.RequestOp{
		{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: put.Key, RangeEnd: []byte{0}}}},
		{Request: &pb.RequestOp_RequestPut{RequestPut: put}},
	}}
}

// refused checks code and text of a refusal.
func refused(err error, code codes.Code, text string) error {
	if s := status.Convert(err); err == nil || s.Code() != code || text != "" && s.Message() != text {
		return fmt.Errorf("answered %v", err)
	}
	return nil
}

func deletedAndPut(ctx context.Context, d *lone) error {
	for offset := int64(-1); offset <= 1; offset++ {
		key := fmt.Sprintf("y%d", offset+1)
		if err := d.put(ctx, key); err != nil {
			return err
		}
		done, err := d.kv.Txn(ctx, openDeleteThen(&pb.PutRequest{Key: []byte(key), Value: []byte("again")}))
		if err != nil {
			return err
		}
		if err := d.put(ctx, "z-after"); err != nil {
			return err
		}
		_, err = d.kv.Compact(ctx, &pb.CompactionRequest{Revision: done.Header.Revision + offset, Physical: true})
		if err != nil {
			return err
		}
		for _, again := range []bool{false, true} {
			if again {
				if err := d.restart(); err != nil {
					return err
				}
			}
			got, err := d.kv.Range(ctx, &pb.RangeRequest{Key: []byte(key)})
			if err != nil {
				return err
			}
			if len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "again" || got.Kvs[0].Version != 1 {
				return fmt.Errorf("compaction at %+d, after a restart %t: %v", offset, again, got.Kvs)
			}
		}
	}
	return nil
}

func ignoredValue(ctx context.Context, d *lone) error {
	if err := d.put(ctx, "zz"); err != nil {
		return err
	}
	for _, put := range []*pb.PutRequest{{Key: []byte("zz"), IgnoreValue: true}, {Key: []byte("zz"), IgnoreLease: true}} {
		_, err := d.kv.Txn(ctx, openDeleteThen(put))
		if err := refused(err, codes.InvalidArgument, "etcdserver: key not found"); err != nil {
			return err
		}
	}
	got, err := d.kv.Range(ctx, &pb.RangeRequest{Key: []byte("zz")})
	if err == nil && len(got.Kvs) != 1 {
		err = errors.New("part of a refused transaction was done")
	}
	return err
}

func memberURLs(ctx context.Context, d *lone) error {
	conn, err := dial(d.member.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	cluster := pb.NewClusterClient(conn)
	members, err := cluster.MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return err
	}
	for _, urls := range [][]string{nil, {""}, {"://"}, {"http://127.0.0.1:1", "nonsense"}} {
		_, err := cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: members.Members[0].ID, PeerURLs: urls})
		if err := refused(err, codes.InvalidArgument, "etcdserver: given member URLs are invalid"); err != nil {
			return fmt.Errorf("%q: %w", urls, err)
		}
	}
	return nil
}

func streamOrder(ctx context.Context, d *lone) error {
	const keys = 60
	for i := range keys {
		// Written from the end, so that the order of revisions is the other one.
		if err := d.put(ctx, fmt.Sprintf("o/%02d", keys-1-i)); err != nil {
			return err
		}
	}
	stream, err := d.kv.RangeStream(ctx, &pb.RangeRequest{Key: []byte("o/"), RangeEnd: []byte("o0"), SortTarget: pb.RangeRequest_MOD})
	if err != nil {
		return err
	}
	next := 0
	for {
		m, err := stream.Recv()
		switch {
		case err == io.EOF:
			if next != keys {
				return fmt.Errorf("%d keys", next)
			}
			return nil
		case status.Code(err) == codes.Unimplemented:
			return nil
		case err != nil:
			return err
		}
		for _, kv := range m.RangeResponse.Kvs {
			if string(kv.Key) != fmt.Sprintf("o/%02d", next) {
				return fmt.Errorf("%s at place %d", kv.Key, next)
			}
			next++
		}
	}
}

func alarmAction(ctx context.Context, d *lone) error {
	conn, err := dial(d.member.Address())
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = pb.NewMaintenanceClient(conn).Alarm(ctx, &pb.AlarmRequest{Action: 9, Alarm: pb.AlarmType_NOSPACE})
	return refused(err, codes.InvalidArgument, "")
}
