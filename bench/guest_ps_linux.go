// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/bench/internal/play"
	"github.com/remora-go/remora/internal/vmlab"
)

// psOf is how the names of these rows begin.
const psOf = "ps of a guest"

// psRows list the processes of guests that have ever more of them. The guests stand still,
// so that all see the same.
func (g *guests) psRows() ([]measure.Row, error) {
	command, err := g.command()
	if err != nil {
		return nil, err
	}
	script, err := g.peer("qmp_ps.py")
	if err != nil {
		return nil, err
	}
	python := vmlab.DrgnPython()
	if python == "" {
		return nil, fmt.Errorf("there is no drgn for python3: %w", exec.ErrNotFound)
	}
	// The guests have the kernel of that machine.
	debug := vmlab.Open(g, imageMachine).Debug()
	var rows []measure.Row
	const many = 750
	for _, more := range []int{0, 150, many} { // besides the 50 that the kernel has itself
		a, second, err := g.crowded(more)
		if err != nil {
			return nil, err
		}
		spec := "qemu:" + a.QMP()
		if err := g.idle(a, command); err != nil {
			return nil, err
		}
		lines := []string{"Remora", "Remora by QMP alone", "drgn by QMP"}
		ours := &measure.Command{Args: []string{command, "ps", spec}, What: psLines}
		drgn := &measure.Command{Args: []string{python, script, second, debug}, What: drgnLines}
		r := measure.Row{
			Name: fmt.Sprintf("%s with %d more processes", psOf, more), Wide: true,
			Work:   "the processes of a Linux guest that stands still are listed, by a process that ends: number, parent, processor, address, state, size and name",
			Series: psOf + ", by processes", X: float64(50 + more),
			Sides: []measure.Side{{Name: lines[0], How: "remora ps qemu:SOCKET", By: ours}},
			Why:   whyPs,
		}
		if more == 0 && os.Getuid() == 0 {
			if err := opened(command, a.QMP()); err != nil {
				return nil, err
			}
			r.Sides = append(r.Sides, measure.Side{Name: lines[1], How: "setpriv --reuid 65534 remora ps qemu:SOCKET: QEMU's process may not be read, so pages come by pmemsave",
				By: &measure.Command{Args: append([]string{"setpriv", "--reuid", "65534", "--clear-groups"}, ours.Args...), What: psLines}})
		}
		if more < many { // it would take minutes
			r.Sides = append(r.Sides, measure.Side{Name: lines[2], How: "drgn in Python, each of its reads answered by pmemsave to /dev/shm on a socket that is kept; page tables are not walked", By: drgn})
			r.Goals = []measure.Goal{{By: []string{lines[2]}, Ratio: 0.01}}
		}
		r.Sides = append(r.Sides, measure.Side{Name: "/bin/true", How: "/bin/true", By: &measure.Command{Args: []string{"/bin/true"}}, Other: true})
		rows = append(rows, r)
	}
	return rows, nil
}

const whyPs = "Remora asks QEMU some twenty questions before it reads, and reads then at the speed of memory. " +
	"What drgn does besides reading, which is loading debugging information, does not grow with the processes, so the ratio does."

// crowded starts a guest that has so many more processes. Second is another
// QMP socket of it.
func (g *guests) crowded(more int) (a *vmlab.Agent, second string, err error) {
	second = filepath.Join(g.TempDir(), "qmp")
	const carried = "remora" // another program takes its place, and is one that can be run for that
	a = vmlab.StartAgent(g, vmlab.Machine{Kernel: vmlab.AMD64v6_1}, &vmlab.AgentOptions{
		Programs:  []string{"cmd/" + carried},
		Arguments: []string{"-qmp", "unix:" + second + ",server=on,wait=off"},
	})
	ctx := context.Background()
	if more > 0 {
		source, err := g.peer("crowd.c")
		if err != nil {
			return nil, "", err
		}
		binary := strings.TrimSuffix(source, ".c")
		if err := compile(binary, source, "-static"); err != nil {
			return nil, "", err
		}
		text, err := os.ReadFile(binary)
		if err != nil {
			return nil, "", err
		}
		if err := a.WriteFile(ctx, "/bin/"+carried, text); err != nil {
			return nil, "", err
		}
		if r, err := a.Run(ctx, "/bin/"+carried, strconv.Itoa(more)); err != nil || r.Exit != 0 {
			return nil, "", fmt.Errorf("%d processes: exit code %d, %s: %w", more, r.Exit, r.Stderr, err)
		}
	}
	return a, second, nil
}

// idle stops a guest when it runs no process: what runs is listed as a thread too.
func (g *guests) idle(a *vmlab.Agent, command string) error {
	ctx := context.Background()
	for range 100 {
		if err := a.Execute(ctx, "stop", nil, nil); err != nil {
			return err
		}
		out, err := exec.Command(command, "ps", "qemu:"+a.QMP()).Output()
		if err != nil {
			return err
		}
		if !running.Match(out) {
			return nil
		}
		if err := a.Execute(ctx, "cont", nil, nil); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("the guest is never idle")
}

// running matches the line of what a processor runs, unless that is the idle task.
var running = regexp.MustCompile(`(?m)^> +[1-9]`)

// opened has other users find the files: directories are let through to what is inside.
func opened(names ...string) error {
	for _, name := range names {
		for at := name; at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
			info, err := os.Stat(at)
			if err != nil {
				return err
			}
			mode := fs.FileMode(0o755)
			if info.Mode()&fs.ModeSocket != 0 {
				mode = 0o777
			}
			if err := os.Chmod(at, mode); err != nil {
				return err
			}
		}
	}
	return nil
}

// psLines is the digest of what "remora ps" prints, and drgnLines that of qmp_ps.py.
func psLines(out []byte) (string, error) {
	return canonical(out, func(line string) ([]string, error) {
		f := strings.Fields(strings.TrimPrefix(line, ">"))
		if len(f) < 9 {
			return nil, fmt.Errorf("ps: %q", line)
		}
		if f[0] == "PID" || f[0] == "0" {
			return nil, nil
		}
		name := strings.TrimSuffix(strings.TrimPrefix(strings.Join(f[8:], " "), "["), "]")
		return append(slices.Clone(f[:5]), f[6], name), nil
	})
}

func drgnLines(out []byte) (string, error) {
	return canonical(out, func(line string) ([]string, error) { return strings.Fields(line), nil })
}

// canonical is the digest of the lines in order, each in the form that one gives.
func canonical(out []byte, one func(line string) ([]string, error)) (string, error) {
	var lines []string
	for in := bufio.NewScanner(bytes.NewReader(out)); in.Scan(); {
		f, err := one(in.Text())
		if err != nil {
			return "", err
		}
		if len(f) > 0 {
			lines = append(lines, strings.Join(f, " ")+"\n")
		}
	}
	slices.Sort(lines)
	return play.Sum([]byte(strings.Join(lines, ""))), nil
}
