package main

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/protobuf/proto"
)

func (g *generator) leaseStep() request {
	switch g.rng.IntN(9) {
	case 0, 1:
		id := int64(g.rng.IntN(50))
		if id == 0 {
			id = 50 // an id of the server's choice is a step of its own
		}
		ttl := g.longTTL()
		if g.chance(20) {
			ttl = pick(g, int64(9_000_000_001), 1<<63-1)
		}
		return request{path: "/etcdserverpb.Lease/LeaseGrant", message: &pb.LeaseGrantRequest{ID: id, TTL: ttl}}
	case 2:
		return request{path: "/etcdserverpb.Lease/LeaseRevoke", message: &pb.LeaseRevokeRequest{ID: g.someLease()}}
	case 3, 4:
		return request{path: "/etcdserverpb.Lease/LeaseTimeToLive",
			message: &pb.LeaseTimeToLiveRequest{ID: g.someLease(), Keys: g.chance(2)}}
	case 5:
		return request{path: "/etcdserverpb.Lease/LeaseLeases", message: &pb.LeaseLeasesRequest{}}
	default:
		return request{path: "/etcdserverpb.Lease/LeaseKeepAlive", message: &pb.LeaseKeepAliveRequest{ID: g.someLease()}}
	}
}

func (g *generator) someLease() int64 {
	if len(g.leases) > 0 && !g.chance(3) {
		return pick(g, g.leases...)
	}
	return pick(g, int64(0), -1, int64(g.rng.IntN(50)))
}

func (g *generator) maintenance() request {
	const service = "/etcdserverpb.Maintenance/"
	switch g.rng.IntN(12) {
	case 0, 1, 2:
		return request{path: service + "HashKV", message: &pb.HashKVRequest{Revision: g.aRevision()}}
	case 3:
		return request{path: service + "Hash", message: &pb.HashRequest{}}
	case 4:
		return request{path: service + "Status", message: &pb.StatusRequest{}}
	case 5:
		return request{path: service + "MoveLeader", message: &pb.MoveLeaderRequest{TargetID: pick(g, uint64(0), 1, 1<<63)}}
	case 6:
		r := &pb.DowngradeRequest{
			Action:  pick(g, pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_CANCEL, pb.DowngradeRequest_DowngradeAction(7)),
			Version: pick(g, "", "3", "3.6", "3.6.1", "v3.6", "3.5", "3.7.0", "3.8", "4.0", "3.6.1.2", "x"),
		}
		return request{path: service + "Downgrade", message: r}
	case 7:
		// ENABLE only with versions that are refused: an accepted one would change both members for good.
		r := &pb.DowngradeRequest{Action: pb.DowngradeRequest_ENABLE, Version: pick(g, "", "3", "v3.6", "3.5", "3.7", "3.8")}
		return request{path: service + "Downgrade", message: r}
	}
	r := &pb.AlarmRequest{
		Action:   pb.AlarmRequest_AlarmAction(g.rng.IntN(3)),
		Alarm:    pb.AlarmType(g.rng.IntN(3)),
		MemberID: uint64(g.rng.IntN(3)),
	}
	if r.Action == pb.AlarmRequest_ACTIVATE && (g.alarms > 0 || !g.chance(3)) {
		r.Action = pb.AlarmRequest_GET
	}
	return request{path: service + "Alarm", message: r}
}

func (g *generator) cluster() request {
	const service = "/etcdserverpb.Cluster/"
	unknown := pick(g, uint64(0), 1, 1<<63)
	switch g.rng.IntN(5) {
	case 0:
		return request{path: service + "MemberList", message: &pb.MemberListRequest{Linearizable: g.chance(2)}}
	case 1:
		return request{path: service + "MemberRemove", message: &pb.MemberRemoveRequest{ID: unknown}}
	case 2:
		r := &pb.MemberUpdateRequest{ID: unknown, PeerURLs: []string{"http://127.0.0.1:23899"}}
		return request{path: service + "MemberUpdate", message: r}
	case 3:
		return request{path: service + "MemberPromote", message: &pb.MemberPromoteRequest{ID: unknown}}
	}
	urls := pick(g, nil, []string{""}, []string{"127.0.0.1:1"}, []string{"http://127.0.0.1"}, []string{"ftp://127.0.0.1:1"},
		[]string{"http://127.0.0.1:23809"}, []string{"http://127.0.0.1:1/path"}, []string{"://"}, []string{"http://h:1", "x"})
	return request{path: service + "MemberAdd", message: &pb.MemberAddRequest{PeerURLs: urls, IsLearner: g.chance(2)}}
}

// auth asks what can be asked while auth is off and changes nothing.
func (g *generator) auth() request {
	const service = "/etcdserverpb.Auth/"
	name := pick(g, "", "root", "u1")
	switch g.rng.IntN(8) {
	case 0:
		return request{path: service + "AuthStatus", message: &pb.AuthStatusRequest{}}
	case 1:
		return request{path: service + "AuthDisable", message: &pb.AuthDisableRequest{}}
	case 2:
		return request{path: service + "AuthEnable", message: &pb.AuthEnableRequest{}}
	case 3:
		return request{path: service + "UserList", message: &pb.AuthUserListRequest{}}
	case 4:
		return request{path: service + "RoleList", message: &pb.AuthRoleListRequest{}}
	case 5:
		return request{path: service + "UserGet", message: &pb.AuthUserGetRequest{Name: name}}
	case 6:
		return request{path: service + "RoleGet", message: &pb.AuthRoleGetRequest{Role: name}}
	}
	return request{path: service + "Authenticate", message: &pb.AuthenticateRequest{Name: name, Password: "p"}}
}

// concurrency calls the lock and election services where they answer at once: with a lease that does not exist, or with
// the only one that is ever used with that name.
func (g *generator) concurrency() request {
	lease := int64(1000 + g.rng.IntN(50)) // never granted
	if len(g.leases) > 0 {
		lease = pick(g, g.leases...)
	}
	name := fmt.Appendf(nil, "own/%d", lease)
	key := fmt.Appendf(nil, "own/%d/%x", lease, lease)
	leader := &v3electionpb.LeaderKey{Name: name, Key: key, Rev: g.aRevision(), Lease: lease}
	if g.chance(8) {
		leader = nil
	}
	var service string
	var m proto.Message
	switch g.rng.IntN(6) {
	case 0:
		service, m = "/v3lockpb.Lock/Lock", &v3lockpb.LockRequest{Name: name, Lease: lease}
	case 1:
		service, m = "/v3lockpb.Lock/Unlock", &v3lockpb.UnlockRequest{Key: pick(g, key, nil, []byte("k01"))}
	case 2:
		service, m = "/v3electionpb.Election/Campaign", &v3electionpb.CampaignRequest{Name: name, Lease: lease, Value: g.value()}
	case 3:
		service, m = "/v3electionpb.Election/Proclaim", &v3electionpb.ProclaimRequest{Leader: leader, Value: g.value()}
	case 4:
		service, m = "/v3electionpb.Election/Leader", &v3electionpb.LeaderRequest{Name: pick(g, name, []byte("k"), nil)}
	default:
		service, m = "/v3electionpb.Election/Resign", &v3electionpb.ResignRequest{Leader: leader}
	}
	return request{path: service, message: m, timeout: waiting}
}

// malformed sends bytes that are no message, messages with fields that nobody knows, and calls that nobody serves.
func (g *generator) malformed() request {
	path := pick(g, "/etcdserverpb.KV/Put", "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/DeleteRange",
		"/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Maintenance/Status")
	switch g.rng.IntN(6) {
	case 0:
		return request{path: pick(g, "/etcdserverpb.KV/Rang", "/etcdserverpb.KY/Range", "/x", "/v3lockpb.Lock/", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), raw: []byte{}}
	case 1: // an unknown field behind a key
		return request{path: path, raw: append([]byte("\x0a\x03k01"), 0xa2, 0x3f, 2, 'h', 'i')}
	case 2: // field 1 as a string of which half is missing
		return request{path: path, raw: []byte{0x0a, 0x09, 'k', '0'}}
	case 3: // a wire type that does not exist
		return request{path: path, raw: []byte{0x0f, 0x01}}
	case 4: // a string that is no UTF-8
		return request{path: "/etcdserverpb.Auth/UserGet", raw: []byte{0x0a, 0x02, 0xff, 0xfe}}
	}
	raw := make([]byte, g.rng.IntN(12))
	for i := range raw {
		raw[i] = byte(g.rng.IntN(256))
	}
	return request{path: "/etcdserverpb.KV/Range", raw: raw}
}
