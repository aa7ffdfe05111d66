package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"

	"stanchion.invalid/conformance/internal/harness"
)

// gatewayForms tries spellings of JSON, methods, paths and headers.
func gatewayForms(ctx context.Context, r *round) error {
	r.put(ctx, "foo", "bar", 0)
	post := func(path, body string, header ...string) {
		answers := r.http(ctx, http.MethodPost, path, []byte(body), header...)
		if err := r.sameHTTP(answers[theirs], answers[ours], nil, nil); err != nil {
			r.report(fmt.Errorf("POST %s %s: %w", path, body, err))
		}
	}
	const get = `{"key":"Zm9v"}`
	for _, body := range []string{get, ``, `{}`, `null`, `[]`, `"x"`, `7`, `{`, `{"key":`, `{"key":7}`, `{"key":"***"}`,
		`{"key":"Zm9v","range_end":"Zm9w"}`, `{"key":"Zm9v","rangeEnd":"Zm9w"}`, `{"key":"Zm9v","unknown":[1,{"a":2}]}`,
		`{"key":"Zm9v","limit":"5"}`, `{"key":"Zm9v","limit":5}`, `{"key":"Zm9v","limit":5.0}`, `{"key":"Zm9v","limit":1e1}`,
		`{"key":"Zm9v","limit":5.5}`, `{"key":"Zm9v","limit":"a"}`, `{"key":"Zm9v","limit":null}`, `{"key":"Zm9v","limit":99999999999999999999}`,
		`{"key":"Zm9v","sort_order":"DESCEND","sort_target":"MOD"}`, `{"key":"Zm9v","sort_order":2,"sortTarget":3}`,
		`{"key":"Zm9v","sort_order":"NOPE"}`, `{"key":"Zm9v","sort_order":9}`, `{"key":"Zm9v","serializable":true}`,
		`{"key":"Zm9v","serializable":"true"}`, `{"key":"Zm9v","keys_only":1}`, `{"key":"Zm9v","key":"Zm9v"}`,
		`{"key":"Zm9v"} trailing`, `{"key":"Zm9v"}{"key":"YQ=="}`, ` {"key" : "Zm9v"} `, `{"key":"Zm9vYg"}`, `{"key":"_-8="}`,
		`{"key":"/+8="}`, `{"key":"Zm9v","revision":"99"}`, `{"key":"Zm9v","count_only":true}`,
	} {
		post("/v3/kv/range", body)
	}
	for _, body := range []string{
		`{"compare":[{"target":"CREATE","key":"Zm9v","create_revision":"2"}],"success":[{"request_put":{"key":"Zm9v","value":"YmFy"}},{"request_range":{"key":"Zm9v"}}]}`,
		`{"compare":[{"target":"VALUE","key":"Zm9v","value":"eA==","result":"NOT_EQUAL"}],"failure":[{"requestPut":{"key":"Zm9v"}}]}`,
		`{"success":[{"request_put":{"key":"Zm9v"},"request_range":{"key":"Zm9v"}}]}`, `{"success":[{}]}`, `{"success":[null]}`,
		`{"success":[{"request_txn":{"success":[{"request_delete_range":{"key":"Zm9v","prev_kv":true}}]}}]}`,
	} {
		post("/v3/kv/txn", body)
	}
	for _, path := range []string{"/v3/kv/range/", "/v3//kv/range", "/v3/kv", "/v3/", "/v3/nothing", "/v3alpha/kv/range",
		"/v3beta/kv/range", "/v3beta/nothing", "/v2/keys", "/nothing", "/", "/v3/kv/range?limit=1", "/v3/kv/rangestream"} {
		post(path, get)
	}
	for _, path := range []string{"/v3/kv/lease/revoke", "/v3/kv/lease/timetolive", "/v3/kv/lease/leases", "/v3/lease/revoke"} {
		post(path, `{"ID":"99"}`)
	}
	post("/v3/kv/range", get, "Content-Type", "text/xml", "Accept", "text/html")
	post("/v3/kv/range", get, "Grpc-Timeout", "10S")
	post("/v3/kv/range", get, "Grpc-Timeout", "abc")
	post("/v3/kv/range", get, "Authorization", "nonsense")
	post("/v3/kv/range", get, "Grpc-Metadata-hasleader", "true")
	post("/v3/kv/range", get, "Origin", "http://example.com")
	post("/v3/kv/put", `{"key":"Zm9v","value":"`+strings.Repeat("QUFB", 530_000)+`"}`)
	post("/v3/kv/put", `{"key":"Zm9v","value":"`+strings.Repeat("QUFB", 720_000)+`"}`)
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodHead, http.MethodPatch} {
		for _, path := range []string{"/v3/kv/range", "/v3/watch", "/v3/nothing", "/nothing", "/version", "/health", "/livez", "/readyz"} {
			answers := r.http(ctx, method, path, nil)
			if method == http.MethodGet && path == "/version" {
				continue // its own scenario
			}
			if err := r.sameHTTP(answers[theirs], answers[ours], nil, nil); err != nil {
				r.report(fmt.Errorf("%s %s: %w", method, path, err))
			}
		}
	}
	return nil
}

// plainHTTP compares health, versions and the names of metrics.
func plainHTTP(ctx context.Context, r *round) error {
	same := func(path string) {
		answers := r.http(ctx, http.MethodGet, path, nil)
		for i := range answers {
			// The checks stand in any order.
			answers[i].body = []byte(strings.Join(sorted(strings.Split(string(answers[i].body), "\n")), "\n"))
		}
		if err := r.sameHTTP(answers[theirs], answers[ours], nil, nil); err != nil {
			r.report(fmt.Errorf("GET %s: %w", path, err))
		}
	}
	everything := func() {
		for _, path := range []string{"/version", "/health", "/health?serializable=true", "/health?exclude=NOSPACE",
			"/health?exclude=NOSPACE&exclude=CORRUPT", "/livez", "/livez?verbose", "/livez?verbose=true", "/livez/serializable_read",
			"/livez/nothing", "/readyz", "/readyz?verbose", "/readyz?exclude=non_learner&verbose", "/readyz?exclude=nothing",
			"/readyz/data_corruption", "/readyz/serializable_read", "/readyz/linearizable_read", "/readyz/non_learner", "/readyz/x"} {
			same(path)
		}
	}
	everything()
	for _, alarm := range []pb.AlarmType{pb.AlarmType_NOSPACE, pb.AlarmType_CORRUPT} {
		for _, action := range []pb.AlarmRequest_AlarmAction{pb.AlarmRequest_ACTIVATE, pb.AlarmRequest_DEACTIVATE} {
			r.call(ctx, "/etcdserverpb.Maintenance/Alarm", &pb.AlarmRequest{Action: action, MemberID: 1, Alarm: alarm})
			everything()
		}
	}
	return r.metricNames(ctx)
}

// dashboardMetrics are those of the stock dashboard and alert rules.
var dashboardMetrics = strings.Fields(`etcd_server_has_leader etcd_server_leader_changes_seen_total etcd_server_is_leader
	etcd_server_proposals_failed_total etcd_server_proposals_pending etcd_server_proposals_committed_total
	etcd_server_proposals_applied_total etcd_disk_wal_fsync_duration_seconds etcd_disk_backend_commit_duration_seconds
	etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes etcd_server_quota_backend_bytes
	etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total
	etcd_debugging_snap_save_total_duration_seconds etcd_server_id etcd_server_version
	grpc_server_started_total grpc_server_handled_total process_resident_memory_bytes process_open_fds process_max_fds
	process_start_time_seconds process_cpu_seconds_total`)

// notOurs are families that ours leaves out: Go's runtime and its HTTP handler, the store of the second API, which
// nothing can call any more, the gRPC proxy's own, and a debugging gauge that no dashboard reads.
var notOurs = regexp.MustCompile(`^(go_|promhttp_|etcd_server_go_version|etcd_debugging_store_|etcd_grpc_proxy_|etcd_debugging_server_alarms$)`)

var familyLine = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)

func (r *round) metricNames(ctx context.Context) error {
	answers := r.http(ctx, http.MethodGet, "/metrics", nil)
	var families [2]map[string]string
	for side, a := range answers {
		families[side] = map[string]string{}
		for _, m := range familyLine.FindAllSubmatch(a.body, -1) {
			families[side][string(m[1])] = string(m[2])
		}
	}
	var missing []string
	for name, kind := range families[theirs] {
		if notOurs.MatchString(name) {
			continue
		}
		if families[ours][name] != kind {
			missing = append(missing, fmt.Sprintf("%s %s (ours %q)", name, kind, families[ours][name]))
		}
	}
	for _, name := range dashboardMetrics {
		if _, ok := families[theirs][name]; ok && families[ours][name] == "" && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		r.report(fmt.Errorf("metrics: %d of etcd's %d families are missing or of another kind: %s",
			len(missing), len(families[theirs]), strings.Join(sorted(missing), ", ")))
	}
	return nil
}

// gatewayStreams compares streams over HTTP line by line.
func gatewayStreams(ctx context.Context, r *round) error {
	r.grant(ctx, 99, 1000)
	body := []byte(`{"ID":"99"}{"ID":"98"} {"ID":99}`)
	answers := r.http(ctx, http.MethodPost, "/v3/lease/keepalive", body)
	if err := r.sameHTTP(answers[theirs], answers[ours], nil, nil); err != nil {
		r.report(fmt.Errorf("keepalive: %w", err))
	}
	r.put(ctx, "foo", "before", 0)
	// Which of the two comes first, the end of a watcher or what it has to catch up with, is open: so the one that is
	// cancelled is not the one that watches the past.
	const creates = `{"create_request":{"key":"Zm9v","prev_kv":true}}
		{"create_request":{"key":"Zm9v","start_revision":"2"}}
		{"create_request":{"key":"Zm9v","watch_id":"0","filters":["NODELETE"]}}
		{"create_request":{"key":"Zg==","range_end":"ZQ=="}}
		{"cancel_request":{"watch_id":"2"}}`
	var lines [2]*streamLines
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for side, member := range r.pair.members {
		q, err := http.NewRequestWithContext(ctx, http.MethodPost, member.Endpoint+"/v3/watch", strings.NewReader(creates))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(q)
		if err != nil {
			return fmt.Errorf("side %d: %w", side, err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" {
			return fmt.Errorf("watch on side %d: %s %s", side, resp.Status, resp.Header)
		}
		lines[side] = followLines(resp.Body)
	}
	// Four are created, one of them to be refused, one is cancelled, and one has caught up.
	awaitLines(lines, 6)
	r.put(ctx, "foo", "<&>", 0)
	r.call(ctx, "/etcdserverpb.KV/DeleteRange", &pb.DeleteRangeRequest{Key: []byte("foo")})
	// Two watchers see both.
	awaitLines(lines, 10)
	// Nothing else may come.
	time.Sleep(1500 * time.Millisecond)
	told := [2][]string{lines[theirs].sorted(), lines[ours].sorted()}
	r.sent += 2
	if a, b := strings.Join(told[theirs], "\n      "), strings.Join(told[ours], "\n      "); a != b || len(told[theirs]) != 10 {
		r.report(fmt.Errorf("watch:\n    etcd\n      %s\n    ours\n      %s", a, b))
	}
	return nil
}

// streamLines are the lines of a stream that have come so far.
type streamLines struct {
	mu    sync.Mutex
	lines []string
}

func followLines(body io.Reader) *streamLines {
	s := &streamLines{}
	go func() {
		reader := bufio.NewReader(body)
		for line, err := reader.ReadString('\n'); err == nil; line, err = reader.ReadString('\n') {
			normal, err := watchLine(line)
			if err != nil {
				normal = fmt.Sprintf("%v in %s", err, line)
			}
			s.mu.Lock()
			s.lines = append(s.lines, normal)
			s.mu.Unlock()
		}
	}()
	return s
}

func (s *streamLines) sorted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return sorted(slices.Clone(s.lines))
}

// awaitLines waits until both sides have said so many lines; that they have not is found when these are compared.
func awaitLines(lines [2]*streamLines, count int) {
	for _, s := range lines {
		for deadline := time.Now().Add(harness.Patience); len(s.sorted()) < count && time.Now().Before(deadline); {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// watchLine checks that a line is one object {"result": WatchResponse}, and gives it without blanks.
func watchLine(line string) (string, error) {
	var outer map[string]json.RawMessage
	if err := json.Unmarshal([]byte(line), &outer); err != nil {
		return "", err
	}
	if len(outer) != 1 || outer["result"] == nil {
		return "", fmt.Errorf("no result")
	}
	return compact([]byte(line)), protojson.Unmarshal(outer["result"], &pb.WatchResponse{})
}
