package harness

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Patience is the longest wait for what normally takes a moment. It matters only to a judge that fails, and a machine may
// be busy: it may stand still for twenty seconds, and its disk take seconds for one fsync.
const Patience = 3 * time.Minute

// Transient tells whether an error only says that nobody could answer in time: there is no leader just now, another one
// has been elected, the disk is slow, a connection has ended. The request may have been carried out nevertheless.
func Transient(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	code := status.Code(err)
	if told := (rpctypes.EtcdError{}); errors.As(err, &told) {
		code = told.Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// Again makes a call until it gives something else than a transient error, as a client has to that does not care whether
// its request is carried out twice. Each try has 30 seconds.
func Again(ctx context.Context, call func(context.Context) error) error {
	for deadline := time.Now().Add(Patience); ; {
		short, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := call(short)
		cancel()
		if err == nil || !Transient(err) || ctx.Err() != nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// WhileItRuns makes a call whose outcome hangs on time, such as that of a lease that must be renewed in time. If that fails
// and the machine stood still meanwhile for longer than `most`, the outcome says nothing, and the call is made again, at most
// five times. The call is told which try it is, so that it can begin anew.
func WhileItRuns(most time.Duration, call func(try int) error) error {
	for try := 1; ; try++ {
		var still atomic.Int64
		done := make(chan struct{})
		go func() {
			for last := time.Now(); ; {
				select {
				case <-done:
					return
				case <-time.After(50 * time.Millisecond):
				}
				now := time.Now()
				still.Store(max(still.Load(), int64(now.Sub(last))))
				last = now
			}
		}()
		err := call(try)
		close(done)
		if err == nil || time.Duration(still.Load()) < most || try == 5 {
			return err
		}
	}
}
