package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"slices"
	"sort"
	"strings"
	"time"

	"stanchion.invalid/conformance/internal/harness"
)

// streams are those that do not end: curl is given two seconds for them, and longer if the answers differ, since a busy
// machine may need that. They change nothing, so they can be called again.
var streams = []string{"watch", "election/observe"}

// calls are the JSON routes in an order in which each finds what it needs.
var calls = []struct{ path, body string }{
	{"kv/put", `{"key":"Zm9v","value":"YmFy"}`},
	{"kv/range", `{"key":"Zm9v"}`},
	{"kv/txn", `{"compare":[{"target":"VERSION","key":"Zm9v","version":"1"}],"success":[{"request_put":{"key":"Zm9v"}}]}`},
	{"kv/deleterange", `{"key":"Zm9v","prev_kv":true}`},
	{"lease/grant", `{"ID":"77","TTL":"500"}`},
	{"lease/keepalive", `{"ID":"77"}`},
	{"lease/timetolive", `{"ID":"77","keys":true}`},
	{"kv/lease/timetolive", `{"ID":"77"}`},
	{"lease/leases", `{}`},
	{"kv/lease/leases", `{}`},
	{"watch", `{"create_request":{"key":"Zm9v","start_revision":"2"}}`},
	{"lock/lock", `{"name":"bA==","lease":"77"}`},
	{"lock/unlock", `{"key":"bC80ZA=="}`},
	{"election/campaign", `{"name":"ZQ==","lease":"77","value":"dg=="}`},
	{"election/leader", `{"name":"ZQ=="}`},
	{"election/observe", `{"name":"ZQ=="}`},
	{"election/proclaim", `{"leader":{"name":"ZQ==","key":"ZS80ZA==","rev":"6","lease":"77"},"value":"dw=="}`},
	{"election/resign", `{"leader":{"name":"ZQ==","key":"ZS80ZA==","rev":"6","lease":"77"}}`},
	{"lease/revoke", `{"ID":"77"}`},
	{"kv/lease/revoke", `{"ID":"77"}`},
	{"kv/compaction", `{"revision":"3","physical":true}`},
	{"cluster/member/list", `{"linearizable":true}`},
	{"cluster/member/add", `{"peerURLs":["x"]}`},
	{"cluster/member/remove", `{"ID":"1"}`},
	{"cluster/member/update", `{"ID":"1","peerURLs":["http://127.0.0.1:1"]}`},
	{"cluster/member/promote", `{"ID":"1"}`},
	{"maintenance/alarm", `{"action":"GET"}`},
	{"maintenance/status", `{}`},
	{"maintenance/hash", `{}`},
	{"maintenance/hashkv", `{}`},
	{"maintenance/defragment", `{}`},
	{"maintenance/snapshot", `{}`},
	{"maintenance/transfer-leadership", `{"targetID":"1"}`},
	{"maintenance/downgrade", `{"action":"VALIDATE","version":"3.6"}`},
	{"auth/status", `{}`},
	{"auth/disable", `{}`},
	{"auth/authenticate", `{"name":"root","password":"p"}`},
	{"auth/user/list", `{}`},
	{"auth/user/get", `{"name":"u"}`},
	{"auth/role/list", `{}`},
	{"auth/role/get", `{"role":"r"}`},
}

// curl calls every route on etcd and on ours: the same status, and answers of the same shape.
func curl(j *harness.Judge) error {
	var members [2]*harness.Etcd
	for side, release := range []string{"3.7", harness.Ours} {
		member, err := harness.Start(release, j.Temp("curl", release))
		if err != nil {
			return err
		}
		defer member.Kill()
		members[side] = member
	}
	var failed []string
	for _, call := range calls {
		limits := []time.Duration{harness.Patience}
		if slices.Contains(streams, call.path) {
			limits = []time.Duration{2 * time.Second, 10 * time.Second, time.Minute}
		}
		var shapes [2]string
		for _, limit := range limits {
			for side, member := range members {
				shapes[side] = shapeOf(member, call.path, call.body, limit)
			}
			if shapes[0] == shapes[1] {
				break
			}
		}
		if shapes[0] != shapes[1] {
			failed = append(failed, fmt.Sprintf("%s: etcd %s, ours %s", call.path, shapes[0], shapes[1]))
		}
	}
	var err error
	if len(failed) > 0 {
		err = fmt.Errorf("%d differ:\n      %s", len(failed), strings.Join(failed, "\n      "))
	}
	j.Check(err, "curl: %d JSON routes", len(calls))
	return nil
}

// shapeOf is the status and the names of all members in what curl gets.
func shapeOf(member *harness.Etcd, path, body string, limit time.Duration) string {
	cmd := exec.Command("curl", "-s", "-N", "--max-time", fmt.Sprint(limit.Seconds()), "-w", "\n%{http_code} %{content_type}", "-d", body, member.Endpoint+"/v3/"+path)
	var out bytes.Buffer
	cmd.Stdout = &out
	_ = cmd.Run() // a stream ends with curl's own time-out
	text := strings.TrimSpace(out.String())
	last := strings.LastIndexByte(text, '\n')
	names := map[string]bool{}
	decoder := json.NewDecoder(strings.NewReader(text[:max(last, 0)]))
	for {
		var value any
		if decoder.Decode(&value) != nil {
			break
		}
		nameAll("", value, names)
	}
	var sorted []string
	for name := range names {
		sorted = append(sorted, name)
	}
	sort.Strings(sorted)
	return text[last+1:] + " " + strings.Join(sorted, " ")
}

func nameAll(prefix string, value any, names map[string]bool) {
	switch value := value.(type) {
	case map[string]any:
		for name, inner := range value {
			nameAll(prefix+"."+name, inner, names)
		}
	case []any:
		for _, inner := range value {
			nameAll(prefix+"[]", inner, names)
		}
	case string:
		// Messages are part of the shape; numbers are written as strings, and differ.
		if strings.HasSuffix(prefix, ".message") {
			prefix += "=" + value
		}
		names[prefix] = true
	default:
		names[prefix] = true
	}
}
