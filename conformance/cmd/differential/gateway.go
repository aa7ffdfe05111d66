package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"stanchion.invalid/conformance/internal/harness"
)

// routes are the gateway's paths of the methods that a generator calls; the messages are the same as over gRPC.
var routes = map[string]string{
	"/etcdserverpb.KV/Range":               "/v3/kv/range",
	"/etcdserverpb.KV/Put":                 "/v3/kv/put",
	"/etcdserverpb.KV/DeleteRange":         "/v3/kv/deleterange",
	"/etcdserverpb.KV/Txn":                 "/v3/kv/txn",
	"/etcdserverpb.KV/Compact":             "/v3/kv/compaction",
	"/etcdserverpb.Lease/LeaseGrant":       "/v3/lease/grant",
	"/etcdserverpb.Lease/LeaseRevoke":      "/v3/lease/revoke",
	"/etcdserverpb.Lease/LeaseTimeToLive":  "/v3/lease/timetolive",
	"/etcdserverpb.Lease/LeaseLeases":      "/v3/lease/leases",
	"/etcdserverpb.Cluster/MemberAdd":      "/v3/cluster/member/add",
	"/etcdserverpb.Cluster/MemberRemove":   "/v3/cluster/member/remove",
	"/etcdserverpb.Cluster/MemberUpdate":   "/v3/cluster/member/update",
	"/etcdserverpb.Cluster/MemberList":     "/v3/cluster/member/list",
	"/etcdserverpb.Cluster/MemberPromote":  "/v3/cluster/member/promote",
	"/etcdserverpb.Maintenance/Alarm":      "/v3/maintenance/alarm",
	"/etcdserverpb.Maintenance/Status":     "/v3/maintenance/status",
	"/etcdserverpb.Maintenance/Hash":       "/v3/maintenance/hash",
	"/etcdserverpb.Maintenance/HashKV":     "/v3/maintenance/hashkv",
	"/etcdserverpb.Maintenance/MoveLeader": "/v3/maintenance/transfer-leadership",
	"/etcdserverpb.Maintenance/Downgrade":  "/v3/maintenance/downgrade",
	"/etcdserverpb.Auth/AuthStatus":        "/v3/auth/status",
	"/etcdserverpb.Auth/AuthDisable":       "/v3/auth/disable",
	"/etcdserverpb.Auth/AuthEnable":        "/v3/auth/enable",
	"/etcdserverpb.Auth/UserList":          "/v3/auth/user/list",
	"/etcdserverpb.Auth/RoleList":          "/v3/auth/role/list",
	"/etcdserverpb.Auth/UserGet":           "/v3/auth/user/get",
	"/etcdserverpb.Auth/RoleGet":           "/v3/auth/role/get",
	"/etcdserverpb.Auth/Authenticate":      "/v3/auth/authenticate",
	"/v3lockpb.Lock/Lock":                  "/v3/lock/lock",
	"/v3lockpb.Lock/Unlock":                "/v3/lock/unlock",
	"/v3electionpb.Election/Campaign":      "/v3/election/campaign",
	"/v3electionpb.Election/Proclaim":      "/v3/election/proclaim",
	"/v3electionpb.Election/Leader":        "/v3/election/leader",
	"/v3electionpb.Election/Resign":        "/v3/election/resign",
}

// httpAnswer is what one side said to one HTTP request.
type httpAnswer struct {
	status int
	header http.Header
	body   []byte
	err    error
}

func (a httpAnswer) String() string {
	return fmt.Sprintf("%d %s %.600q %v", a.status, a.header.Get("Content-Type"), a.body, a.err)
}

// comparedHeaders are those that a client may act on.
var comparedHeaders = []string{"Content-Type", "Allow", "Grpc-Metadata-Content-Type", "Access-Control-Allow-Origin",
	"Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Location", "X-Content-Type-Options", "WWW-Authenticate"}

// serverVersion is the release that a server says it is: ours names the one that its behaviour was taken from.
var serverVersion = regexp.MustCompile(`"etcdserver":"3\.7\.\d+"`)

var httpClient = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       harness.Patience,
}

// http sends one HTTP request to both sides.
func (r *round) http(ctx context.Context, method, path string, body []byte, header ...string) [2]httpAnswer {
	began := time.Now()
	defer func() { r.pair.took(time.Since(began)) }()
	r.sent++
	r.byMethod["HTTP "+path]++
	r.recent = append(r.recent, fmt.Sprintf("%d %s %s %.400s", r.sent, method, path, body))
	if len(r.recent) > recentKept {
		r.recent = r.recent[1:]
	}
	var answers [2]httpAnswer
	var wait sync.WaitGroup
	for side, member := range r.pair.members {
		wait.Add(1)
		go func() {
			defer wait.Done()
			answers[side] = oneHTTP(ctx, method, member.Endpoint+path, body, header)
		}()
	}
	wait.Wait()
	return answers
}

func oneHTTP(ctx context.Context, method, url string, body []byte, header []string) httpAnswer {
	q, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return httpAnswer{err: err}
	}
	for i := 0; i+1 < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	resp, err := httpClient.Do(q)
	if err != nil {
		return httpAnswer{err: err}
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return httpAnswer{resp.StatusCode, resp.Header, got, err}
}

// sameHTTP compares status, headers and body. A body that is JSON is compared without blanks; if it still differs and its
// message is known, it is compared as that message, masked as over gRPC.
func (r *round) sameHTTP(a, b httpAnswer, request proto.Message, output proto.Message) error {
	if a.err != nil || b.err != nil || a.status != b.status {
		return fmt.Errorf("etcd %s, ours %s", a, b)
	}
	for _, h := range comparedHeaders {
		if a.header.Get(h) != b.header.Get(h) {
			return fmt.Errorf("header %s: etcd %q (%s), ours %q (%s)", h, a.header.Get(h), a, b.header.Get(h), b)
		}
	}
	x, y := serverVersion.ReplaceAllString(compact(a.body), ""), serverVersion.ReplaceAllString(compact(b.body), "")
	if x == y {
		return nil
	}
	if a.status == http.StatusOK && output != nil {
		m, n := proto.Clone(output), proto.Clone(output)
		if err := protojson.Unmarshal(b.body, n); err != nil {
			return fmt.Errorf("ours is no JSON of its message: %w: %s", err, b)
		}
		if err := protojson.Unmarshal(a.body, m); err != nil {
			return err
		}
		r.pair.names.read(theirs, m)
		r.pair.names.read(ours, n)
		mask(request, m, n, r.pair.apart())
		if proto.Equal(m, n) {
			return nil
		}
	}
	if reason := decodingError(a.body); reason && decodingError(b.body) {
		return nil
	}
	return fmt.Errorf("body: etcd %.1500s, ours %.1500s", x, y)
}

func compact(body []byte) string {
	var out bytes.Buffer
	if json.Compact(&out, bytes.TrimSpace(body)) != nil {
		return string(body)
	}
	return out.String()
}

// decodingError tells a refusal of malformed JSON, whose text is the library's.
func decodingError(body []byte) bool {
	var e struct {
		Code    int
		Message string
	}
	return json.Unmarshal(body, &e) == nil && e.Code == 3 && !strings.HasPrefix(e.Message, "etcdserver:")
}

// gatewayRandom sends what the generator makes as JSON, in the forms that JSON allows.
func gatewayRandom(ctx context.Context, r *round) error {
	r.gen = newGenerator(4242)
	const wanted = 4000
	for r.sent < wanted && len(r.found) < *maxFound {
		q := r.gen.step()
		path, ok := routes[q.path]
		if !ok || q.message == nil || r.gen.alarms > 0 && r.gen.chance(20) {
			if r.gen.alarms > 0 {
				r.clearAlarms(ctx)
			}
			continue
		}
		if c, ok := q.message.(interface{ GetPhysical() bool }); ok && !c.GetPhysical() {
			continue
		}
		body, err := protojson.MarshalOptions{UseProtoNames: r.gen.chance(2), UseEnumNumbers: r.gen.chance(3),
			EmitUnpopulated: r.gen.chance(8)}.Marshal(q.message)
		if err != nil {
			continue // a string that is no UTF-8 has no JSON form
		}
		method, err := methodOf(q.path)
		if err != nil {
			return err
		}
		output := newMessage(method.Output())
		answers := r.http(ctx, http.MethodPost, path, body)
		if strings.HasPrefix(path, "/v3/auth/") && answers[ours].status == http.StatusNotImplemented {
			continue // listed: auth writes
		}
		if err := r.sameHTTP(answers[theirs], answers[ours], q.message, output); err != nil {
			r.report(fmt.Errorf("%s: %w", path, err))
		}
		if answers[theirs].status == http.StatusOK && protojson.Unmarshal(answers[theirs].body, output) == nil {
			r.learn(q, answer{messages: []proto.Message{output}})
		}
		r.renewUsed(ctx, q)
	}
	r.clearAlarms(ctx)
	r.compareStores(ctx)
	return r.pair.alive()
}
