package main

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
)

// record keeps one message of each form.
type record struct {
	mu    sync.Mutex
	forms map[string]bool
	out   []string
}

func newRecord() *record {
	return &record{forms: map[string]bool{}}
}

func (r *record) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.out...)
}

// proxy passes everything on to a member's peer address and looks at what goes by.
func (r *record) proxy(target string) http.Handler {
	to, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	p := httputil.NewSingleHostReverseProxy(to)
	p.FlushInterval = -1
	p.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	p.ModifyResponse = func(resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return nil
		}
		switch path := resp.Request.URL.Path; {
		case strings.HasPrefix(path, "/raft/stream/message/"):
			resp.Body = tee(resp.Body, r.messageStream)
		case strings.HasPrefix(path, "/raft/stream/msgapp/"):
			resp.Body = tee(resp.Body, r.appendStream)
		}
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/raft" {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			r.message("pipeline", body)
			req.Body = io.NopCloser(bytes.NewReader(body))
		}
		p.ServeHTTP(w, req)
	})
}

// tee lets `read` see what is read from `from`.
func tee(from io.ReadCloser, read func(io.Reader) error) io.ReadCloser {
	pr, pw := io.Pipe()
	go func() {
		_ = read(pr)
		// Whatever is not understood must not hold up the stream.
		_, _ = io.Copy(io.Discard, pr)
	}()
	return &teed{Reader: io.TeeReader(from, pw), from: from, to: pw}
}

type teed struct {
	io.Reader
	from io.Closer
	to   *io.PipeWriter
}

func (t *teed) Close() error {
	t.to.Close()
	return t.from.Close()
}

func framed(in io.Reader) ([]byte, error) {
	var n uint64
	if err := binary.Read(in, binary.BigEndian, &n); err != nil {
		return nil, err
	}
	if n > 64<<20 {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(in, body)
	return body, err
}

func (r *record) messageStream(in io.Reader) error {
	for {
		body, err := framed(in)
		if err != nil {
			return err
		}
		r.message("message", body)
	}
}

// appendStream reads frames of the v2 form: 0 is a sign of life, 1 holds entries, 2 a message.
func (r *record) appendStream(in io.Reader) error {
	kind := make([]byte, 1)
	for {
		if _, err := io.ReadFull(in, kind); err != nil {
			return err
		}
		switch kind[0] {
		case 0:
		case 1:
			var count uint64
			if err := binary.Read(in, binary.BigEndian, &count); err != nil {
				return err
			}
			for range count {
				entry, err := framed(in)
				if err != nil {
					return err
				}
				r.keep("entry", "Entry", entry, shape(fields(entry)))
			}
			var commit uint64
			if err := binary.Read(in, binary.BigEndian, &commit); err != nil {
				return err
			}
		case 2:
			body, err := framed(in)
			if err != nil {
				return err
			}
			r.message("msgapp", body)
		default:
			return fmt.Errorf("frame type %d", kind[0])
		}
	}
}

func (r *record) message(channel string, body []byte) {
	fs := fields(body)
	kind, receiver := "0", uint64(0)
	for _, f := range fs {
		switch f.number {
		case 1:
			kind = fmt.Sprint(f.value)
		case 2:
			receiver = f.value
		}
	}
	if receiver == 0 {
		return // a sign of life of the connection, not a message of raft
	}
	r.keep(channel, kind, body, shape(fs))
}

func (r *record) keep(channel, kind string, body []byte, form string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := channel + kind + form
	if r.forms[key] || len(body) > 2048 {
		return
	}
	r.forms[key] = true
	r.out = append(r.out, channel+"\t"+kind+"\t"+hex.EncodeToString(body))
}

// field is one of a message: its number, and its value or, for bytes, their length.
type field struct {
	number, value uint64
}

// shape says which fields there are, which of them are zero, and how many entries.
func shape(fs []field) string {
	var s strings.Builder
	for _, f := range fs {
		fmt.Fprintf(&s, "%d:%t ", f.number, f.value != 0)
	}
	return s.String()
}

// fields takes the top level of a protobuf message apart, as far as it is one.
func fields(b []byte) []field {
	var out []field
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return out
		}
		b = b[n:]
		value, n := binary.Uvarint(b)
		if n <= 0 {
			return out
		}
		b = b[n:]
		if tag&7 == 2 {
			if value > uint64(len(b)) {
				return out
			}
			b = b[value:]
		}
		out = append(out, field{tag >> 3, value})
	}
	return out
}
