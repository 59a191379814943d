// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/remora-go/remora"
)

// executeFile is execute with a file sent along.
func (q *QEMU) executeFile(ctx context.Context, f *os.File, command string, args, result any) error {
	limited, cancel := context.WithTimeout(ctx, q.opts.Timeout)
	defer cancel()
	return q.answer(ctx, q.client.ExecuteFile(limited, f, command, args, result))
}

// Notes has QEMU write an ELF image of a single byte of guest memory, for what else is in
// such an image: the registers of all processors and, where the machine has the device
// "vmcoreinfo" and its kernel uses that, VMCOREINFO. A guest that runs is stopped while it
// is written, which takes about a millisecond; took says how long the command did.
//
// The file is the caller's to close. Where the system cannot send files to QEMU the error
// Is errors.ErrUnsupported; QEMU's refusal is an error that is none of package remora's.
func (q *QEMU) Notes(ctx context.Context) (f *os.File, took time.Duration, err error) {
	l := q.layout.Load()
	if f, err = memoryFile("remora-notes"); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", q.name(), err)
	}
	const name = "remora-notes"
	if err = q.executeFile(ctx, f, "getfd", map[string]string{"fdname": name}, nil); err == nil {
		began := time.Now()
		err = q.execute(ctx, "dump-guest-memory", map[string]any{
			"paging": false, "protocol": "fd:" + name, "begin": l.ram(), "length": 1,
		}, nil)
		took = time.Since(began)
		if refuses(err) { // it may not have come to take the descriptor
			_ = q.execute(ctx, "closefd", map[string]string{"fdname": name}, nil)
		}
	}
	if err != nil {
		f.Close()
		return nil, took, err
	}
	return f, took, nil
}

// ram gives the address of a byte of RAM.
func (l *layout) ram() uint64 {
	for _, s := range l.sections {
		if !s.ReadOnly() {
			return s.First
		}
	}
	return l.sections[0].First
}

// Registers gives the registers of each processor that QEMU prints, by the names that gdb
// uses: on x86 those of address translation too, "cr0" to "cr4" and "efer". Nothing is
// stopped for it, so they are of several moments.
func (q *QEMU) Registers(ctx context.Context) ([]map[string]uint64, error) {
	text, err := q.hmp(ctx, "info registers -a")
	if err != nil {
		return nil, err
	}
	return parseRegisters(text), nil
}

// maxProcessors bounds how many processors are taken.
const maxProcessors = 1 << 14

// parseRegisters reads "info registers -a": "CPU#0" before each processor, and then
// NAME=HEX, with blanks before the = of short names (x86, arm64), or lines of "NAME HEX"
// pairs (riscv64).
func parseRegisters(text string) []map[string]uint64 {
	var all []map[string]uint64
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "CPU#") {
			if len(all) == maxProcessors {
				break
			}
			all = append(all, map[string]uint64{})
			continue
		}
		if len(all) > 0 {
			registersOf(line, all[len(all)-1])
		}
	}
	return all
}

// registersOf adds those of a line.
func registersOf(line string, regs map[string]uint64) {
	words := strings.Fields(line)
	add := func(name, value string) {
		var n uint64
		if _, err := fmt.Sscanf(value, "%x", &n); err == nil && len(value) >= 4 {
			regs[registerName(name)] = n
		}
	}
	if !strings.Contains(line, "=") {
		for i := 0; i+1 < len(words); i += 2 {
			add(words[i], words[i+1])
		}
		return
	}
	for i, w := range words {
		name, value, ok := strings.Cut(w, "=")
		switch {
		case !ok:
		case name == "" && i > 0: // "GS =0000 ffff888007800000 ...": a segment
			if i+1 < len(words) && len(value) == 4 {
				add(words[i-1]+"_base", words[i+1])
			}
		default:
			add(name, value)
		}
	}
}

// registerName makes one of QEMU's names one of gdb's.
func registerName(s string) string {
	s = strings.ToLower(s)
	if len(s) == 3 && s[0] == 'x' && s[1] == '0' { // x00
		return "x" + s[2:]
	}
	if _, name, ok := strings.Cut(s, "/"); ok { // x2/sp
		return name
	}
	return s
}

// Describe says what the guest is, and how its memory is reached.
func (q *QEMU) Describe(ctx context.Context) ([]remora.Fact, error) {
	if !q.gate.Enter() {
		return nil, os.ErrClosed
	}
	defer q.gate.Leave()
	var facts []remora.Fact
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, remora.Fact{Key: key, Value: value})
		}
	}
	add("kind", "QEMU guest (physical memory)")
	add("socket", q.socket)
	v := q.client.Version()
	add("QEMU", strings.TrimSpace(fmt.Sprintf("%d.%d.%d %s", v.Major, v.Minor, v.Micro, v.Package)))
	if q.pid != 0 {
		add("pid", fmt.Sprint(q.pid))
	}
	add("arch", q.arch)
	status, err := q.queryStatus(ctx)
	add("state", status)
	l := q.layout.Load()
	var ram, rom uint64
	for _, s := range l.sections {
		if s.ReadOnly() {
			rom += s.Last - s.First + 1
		} else {
			ram += s.Last - s.First + 1
		}
	}
	add("memory", fmt.Sprintf("%d KiB of RAM and %d KiB of ROM, in %d sections", ram>>10, rom>>10, len(l.sections)))
	add("way", q.way())
	return facts, err
}

// way says how bytes are moved.
func (q *QEMU) way() string {
	if q.process == nil {
		return q.slow.text() + "; QEMU's process cannot be used: " + q.refused.Error()
	}
	text := "the memory of QEMU's process"
	q.refresh.mu.Lock()
	n := q.shared.bytes()
	q.refresh.mu.Unlock()
	if n > 0 {
		text += fmt.Sprintf("; reads of shared memory through a mapping of it (%d KiB)", n>>10)
	}
	return text
}
