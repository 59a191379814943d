// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/remora-go/remora/internal/sys/linux"
)

// Program is a process that does work when it is asked to. It reads requests, one a line:
//
//	sum WORK     do it once, and answer "ok DIGEST"
//	run N WORK   do it N times, and answer "ok NANOSECONDS", and " ALLOCATIONS" of all if known
//	place CPU    work on that processor, or on any if none is named; only with Places
//
// What it cannot do it answers with "error" and the reason. A digest is CRC-32 (IEEE) of
// the bytes in eight hexadecimal digits, a slash, and their number, where it is of bytes.
type Program struct {
	Places bool // it takes the request "place"

	cmd   *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
	pipe  io.Closer // under out
	said  said
	limit time.Duration // of a request; 0: patience
}

// Start starts a program. Close ends it. It is killed if a request takes too long.
func Start(cmd *exec.Cmd) (*Program, error) {
	p := &Program{cmd: cmd}
	alone(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out, p.pipe = in, bufio.NewReader(out), out
	cmd.Stderr = &p.said
	return p, cmd.Start()
}

// Close closes the program's input, at which it ends, and waits for that.
func (p *Program) Close() error {
	p.in.Close()
	if err := within(p.limit, p.kill, p.cmd.Wait); err != nil {
		return fmt.Errorf("%s: %w: %s", p.cmd.Path, err, &p.said)
	}
	return nil
}

// kill ends the program, and a request that waits for its answer.
func (p *Program) kill() {
	_ = linux.KillGroup(p.cmd.Process.Pid) // it may have ended
	p.pipe.Close()
}

// ask sends a request, and gives the words of the answer.
func (p *Program) ask(format string, args ...any) ([]string, error) {
	request := fmt.Sprintf(format, args...)
	var line string
	err := within(p.limit, p.kill, func() (err error) {
		if _, err := io.WriteString(p.in, request+"\n"); err != nil {
			return err
		}
		line, err = p.out.ReadString('\n')
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: the answer to %q: %w: %s", p.cmd.Path, request, err, &p.said)
	}
	line = strings.TrimSpace(line)
	if words := strings.Fields(line); len(words) > 1 && words[0] == "ok" {
		return words[1:], nil
	}
	return nil, fmt.Errorf("%s: the answer to %q is %q", p.cmd.Path, request, line)
}

// Digest asks for what comes out of the work. From then on the most memory the program has
// resident is counted anew (clear_refs, proc(5)).
func (p *Program) Digest(work string) (string, error) {
	if err := resetPeak(p.cmd.Process.Pid); err != nil {
		return "", err
	}
	words, err := p.ask("sum %s", work)
	if err != nil {
		return "", err
	}
	return words[0], nil
}

// Run has the program do the work n times.
func (p *Program) Run(work string, n int) (Cost, error) {
	before, err := linux.CPUTime(p.cmd.Process.Pid)
	if err != nil {
		return Cost{}, err
	}
	words, err := p.ask("run %d %s", n, work)
	if err != nil {
		return Cost{}, err
	}
	after, err := linux.CPUTime(p.cmd.Process.Pid)
	if err != nil {
		return Cost{}, err
	}
	took, err := strconv.ParseInt(words[0], 10, 64)
	if err != nil {
		return Cost{}, fmt.Errorf("%s: %w", p.cmd.Path, err)
	}
	c := Cost{Wall: time.Duration(took), CPU: after - before, Allocs: -1}
	if len(words) > 1 {
		all, err := strconv.ParseFloat(words[1], 64)
		if err != nil {
			return Cost{}, fmt.Errorf("%s: %w", p.cmd.Path, err)
		}
		c.Allocs = all / float64(n)
	}
	c.Peak, err = peak(p.cmd.Process.Pid)
	return c, err
}

// resetPeak has the most memory that a process has resident counted anew.
func resetPeak(pid int) error {
	const peakOnly = "5"
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte(peakOnly), 0)
}

// peak gives the most memory that a process has had resident.
func peak(pid int) (int64, error) {
	path := fmt.Sprintf("/proc/%d/status", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "VmHWM:" {
			kib, err := strconv.ParseInt(words[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s: no VmHWM", path)
}

// Place places all threads of the program, or has one in Go place the one that works: its
// runtime has threads that watch, which on the same processor would be in its way.
func (p *Program) Place(cpus []int) error {
	if p.Places {
		_, err := p.ask("%s", strings.TrimSpace("place "+strings.Trim(fmt.Sprint(cpus), "[]")))
		return err
	}
	dir := fmt.Sprintf("/proc/%d/task", p.cmd.Process.Pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if err := linux.Place(tid, cpus...); err != nil && !errors.Is(err, linux.ESRCH) {
			return err
		}
	}
	return nil
}
