package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"stanchion.invalid/conformance/internal/harness"
	"stanchion.invalid/conformance/internal/members"
)

// A disk that hangs is made by stopping the one thread that writes the log, as the kernel would while the disk does not
// answer; all others go on. That takes no rights but those of a parent.

const (
	ptraceSeize     = 0x4206
	ptraceInterrupt = 0x4207
	logWriter       = "log-writer"
)

// threadNamed finds a thread of a process by its name.
func threadNamed(pid int, name string) (int, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid))
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(text)) == name {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("process %d has no thread %q", pid, name)
}

// hang stops the log writer of a process for a while. The process may be starting, or be killed meanwhile.
func hang(pid int, times int, stopped, running time.Duration) error {
	var tid int
	err := members.Retry(harness.Patience, func() (err error) {
		tid, err = threadNamed(pid, logWriter)
		if _, gone := os.Stat(fmt.Sprintf("/proc/%d/task/%d", pid, pid)); gone != nil {
			return nil
		}
		return err
	})
	if err != nil || tid == 0 {
		return err
	}
	// The tracer is a thread, not a process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range times {
		if err := stopThread(tid, stopped); err != nil {
			if errors.Is(err, syscall.ESRCH) {
				return nil
			}
			return err
		}
		time.Sleep(running)
	}
	return nil
}

func stopThread(tid int, pause time.Duration) error {
	if err := ptrace(ptraceSeize, tid); err != nil {
		return fmt.Errorf("a thread cannot be stopped: %w", err)
	}
	if err := ptrace(ptraceInterrupt, tid); err != nil {
		return err
	}
	var status syscall.WaitStatus
	_, err := syscall.Wait4(tid, &status, syscall.WALL, nil)
	for errors.Is(err, syscall.EINTR) {
		_, err = syscall.Wait4(tid, &status, syscall.WALL, nil)
	}
	if err != nil {
		return err
	}
	time.Sleep(pause)
	return syscall.PtraceDetach(tid)
}

func ptrace(request, tid int) error {
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PTRACE, uintptr(request), uintptr(tid), 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// smallDisk mounts a file system of its own at a directory, if this process may.
func smallDisk(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=320m,mode=0700")
}

// fill takes all space of a file system; what it returns gives it back.
func fill(dir string) (func(), error) {
	path := filepath.Join(dir, "ballast")
	file, err := os.Create(path)
	if errors.Is(err, syscall.ENOSPC) {
		// It is full already.
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	piece := make([]byte, 64<<10)
	for {
		if _, err = file.Write(piece); err != nil {
			break
		}
	}
	file.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		os.Remove(path)
		return nil, err
	}
	return func() { os.Remove(path) }, nil
}
