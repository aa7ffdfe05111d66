package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"stanchion.invalid/conformance/internal/harness"
)

// oursSide obeys with our crate, by way of a running `bolt-ops`.
type oursSide struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startOurs() (*oursSide, error) {
	s := &oursSide{}
	return s, s.restart()
}

// restart begins anew, for instance after an error that left a transaction open.
func (s *oursSide) restart() error {
	s.end()
	s.cmd = exec.Command(harness.Example("bolt-ops"))
	s.cmd.Stderr = os.Stdout
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	s.in, s.out = in, bufio.NewReaderSize(out, 1<<20)
	return s.cmd.Start()
}

func (s *oursSide) do(command string) (string, error) {
	if _, err := fmt.Fprintln(s.in, command); err != nil {
		return "", fmt.Errorf("bolt-ops does not listen: %w", err)
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("bolt-ops does not answer: %w", err)
	}
	return strings.TrimSpace(line), nil
}

func (s *oursSide) end() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	s.in.Close()
	_ = s.cmd.Wait()
}
