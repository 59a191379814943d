// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/remora-go/remora/internal/qmp"
	"github.com/remora-go/remora/internal/sys/linux"
)

// bootTime bounds a guest's whole life, if nothing else is said. On a busy machine a boot
// takes a minute.
const bootTime = 8 * time.Minute

// guest is a virtual machine that runs.
type guest struct {
	arch string
	cmd  *exec.Cmd
	qmp  *qmp.Client
	ram  string    // the file that is its memory
	dir  string    // of the socket
	in   io.Writer // the console's other half
	said chan string
	end  context.CancelFunc
	gone chan struct{} // closed when QEMU has ended
	err  error         // then: how
}

// boot starts QEMU. log, which is closed at the end, gets what the console says. The
// guest is killed when ctx ends, and when the process that started it does.
func boot(ctx context.Context, arch string, args []string, ram, socketDir string, log *os.File) (*guest, error) {
	ctx, end := context.WithCancel(ctx)
	g := &guest{arch: arch, ram: ram, dir: socketDir, said: make(chan string, 64), end: end, gone: make(chan struct{})}
	g.cmd = exec.CommandContext(ctx, emulator(arch), args...)
	g.cmd.SysProcAttr = linux.DiesWithParent()
	out, err := g.cmd.StdoutPipe()
	g.cmd.Stderr = log
	if err == nil {
		g.in, err = g.cmd.StdinPipe()
	}
	if err == nil {
		err = g.cmd.Start()
	}
	if err != nil {
		end()
		log.Close()
		return nil, err
	}
	go func() {
		g.listen(out, log)
		g.err = g.cmd.Wait()
		log.Close()
		end()
		close(g.gone)
	}()
	if g.qmp, err = g.dial(ctx); err != nil {
		g.kill()
		return nil, err
	}
	return g, nil
}

// listen passes on the lines that the guest's /init has for us.
func (g *guest) listen(console io.Reader, log io.Writer) {
	in := bufio.NewReader(console)
	for {
		line, err := in.ReadString('\n')
		io.WriteString(log, line)
		if say, ok := strings.CutPrefix(strings.TrimSpace(line), "remora: "); ok {
			select {
			case g.said <- say:
			default: // nobody listens to so much
			}
		}
		if err != nil {
			return
		}
	}
}

// dial waits for the socket.
func (g *guest) dial(ctx context.Context) (*qmp.Client, error) {
	for {
		c, err := qmp.Dial(ctx, filepath.Join(g.dir, "qmp"), nil)
		if err == nil {
			return c, nil
		}
		select {
		case <-g.gone:
			return nil, fmt.Errorf("QEMU ended: %v", g.err)
		case <-ctx.Done():
			return nil, err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// await waits until the guest says a line that begins so, and gives the rest of it.
func (g *guest) await(ctx context.Context, start string) (string, error) {
	for {
		select {
		case say := <-g.said:
			if rest, ok := strings.CutPrefix(say, start); ok {
				return strings.TrimSpace(rest), nil
			}
			if strings.HasPrefix(say, "failed") {
				return "", errors.New("the guest: " + say)
			}
		case <-g.gone:
			return "", fmt.Errorf("the guest ended before it said %q (%v)", start, g.err)
		case <-ctx.Done():
			return "", fmt.Errorf("the guest did not say %q: %w", start, ctx.Err())
		}
	}
}

// kill ends the guest, and waits until it is gone.
func (g *guest) kill() {
	g.end()
	<-g.gone
	if g.qmp != nil {
		g.qmp.Close()
	}
}

// dump has QEMU write an image of the guest's memory.
func (g *guest) dump(ctx context.Context, file, format string, paging bool) error {
	args := map[string]any{"paging": paging, "protocol": "file:" + file}
	if format != "elf" {
		args["format"] = format
	}
	return g.qmp.Execute(ctx, "dump-guest-memory", args, nil)
}

// hmp asks the monitor about one processor.
func (g *guest) hmp(ctx context.Context, cpu int, line string) (string, error) {
	var text string
	err := g.qmp.Execute(ctx, "human-monitor-command", map[string]any{"command-line": line, "cpu-index": cpu}, &text)
	return text, err
}

// translate is gva2gpa: what the processor makes of a virtual address now.
func (g *guest) translate(ctx context.Context, cpu int, va uint64) (pa uint64, ok bool, err error) {
	text, err := g.hmp(ctx, cpu, fmt.Sprintf("gva2gpa 0x%x", va))
	if err != nil {
		return 0, false, err
	}
	text = strings.TrimSpace(text)
	if text == "Unmapped" {
		return 0, false, nil
	}
	if _, err := fmt.Sscanf(text, "gpa: 0x%x", &pa); err != nil {
		return 0, false, fmt.Errorf("gva2gpa 0x%x says %q", va, text)
	}
	return pa, true, nil
}

// programCounter reads it out of "info registers".
func programCounter(registers string) (uint64, error) {
	for _, name := range []string{"RIP=", " PC=", "pc "} {
		_, rest, ok := strings.Cut(" "+registers, name)
		if !ok {
			continue
		}
		var pc uint64
		if _, err := fmt.Sscanf(strings.TrimSpace(rest), "%x", &pc); err == nil {
			return pc, nil
		}
	}
	return 0, errors.New("no program counter in: " + registers)
}

// newSocketDir makes a directory with a short name: a socket's has 107 bytes at most.
func newSocketDir() (string, error) { return os.MkdirTemp("", "remora-qmp-") }
