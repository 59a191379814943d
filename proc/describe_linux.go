// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// Describe says what the process is, which door is in use and why, and how its
// identity is checked.
func (p *Process) Describe(ctx context.Context) ([]remora.Fact, error) {
	facts := []remora.Fact{
		{Key: "target", Value: "live process"},
		{Key: "pid", Value: p.idText()},
	}
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, remora.Fact{Key: key, Value: value})
		}
	}
	st := p.statusFields("Name", "State", "Threads", "Uid", "Gid", "NSpid", "TracerPid", "Seccomp")
	add("name", st["Name"])
	exe, _ := os.Readlink(p.path("exe"))
	add("program", exe)
	add("command line", p.commandLine())
	add("state", st["State"])
	add("threads", st["Threads"])
	add("uid", st["Uid"])
	add("gid", st["Gid"])
	if ids := strings.Fields(st["NSpid"]); len(ids) > 1 {
		add("pid in its namespaces", strings.Join(ids[1:], ", "))
	}
	if st["TracerPid"] != "0" {
		add("traced by", st["TracerPid"])
	}
	if p.info.PtrSize != 0 {
		add("pointer size", strconv.Itoa(int(p.info.PtrSize)*8)+" bits")
	}
	add("page size", strconv.Itoa(int(p.info.Granule)))
	add("door", p.doorText())
	add("force", p.forceText())
	add("resident", p.residentText())
	add("shared mappings", p.sharedText())
	add("identity check", p.identityText())
	add("opened for", map[bool]string{true: "reading and writing", false: "reading"}[p.info.Writable])
	if !p.identical() {
		return facts, remora.ErrGone
	}
	return facts, ctx.Err()
}

func (p *Process) idText() string {
	if p.pid != p.tgid {
		return fmt.Sprintf("%d (a thread of %d)", p.pid, p.tgid)
	}
	if p.call != p.pid {
		return fmt.Sprintf("%d (its first thread has ended; reached by thread %d)", p.pid, p.call)
	}
	return strconv.Itoa(p.pid)
}

var doorTexts = [...]string{
	DoorVM:     "process_vm_readv and process_vm_writev",
	DoorMem:    "/proc/PID/mem, with protections looked up in the map",
	DoorPtrace: "ptrace PEEK and POKE, with protections looked up in the map",
}

func (p *Process) doorText() string {
	text := doorTexts[p.door.Load()]
	if p.doorNote != "" {
		text += ": " + p.doorNote
	}
	return text
}

func (p *Process) forceText() string {
	if p.forcing() {
		return "/proc/PID/mem"
	}
	if p.as.mem < 0 {
		return "ptrace: /proc/PID/mem cannot be opened"
	}
	return "ptrace: " + noForce
}

func (p *Process) residentText() string {
	switch {
	case p.as.scan:
		return "PAGEMAP_SCAN"
	case p.as.pagemap >= 0:
		return "/proc/PID/pagemap"
	}
	return "not available: /proc/PID/pagemap cannot be opened"
}

func (p *Process) identityText() string {
	switch {
	case p.opts.Unchecked:
		return "none, as asked"
	case p.as.counts:
		return "/proc/PID/pagemap after each transfer"
	case p.as.query:
		return "PROCMAP_QUERY after each transfer"
	case p.as.mem >= 0:
		return "pidfd and /proc/PID/mem after each transfer"
	}
	return "pidfd after each transfer; an execve goes unnoticed"
}

// statusFields gives some lines of /proc/PID/status, by key; ids are cut to the
// real one.
func (p *Process) statusFields(keys ...string) map[string]string {
	text, _ := os.ReadFile(p.path("status"))
	out := make(map[string]string, len(keys))
	for _, key := range keys {
		if _, rest, ok := bytes.Cut(text, []byte("\n"+key+":")); ok || bytes.HasPrefix(text, []byte(key+":")) {
			if !ok {
				rest = text[len(key)+1:]
			}
			line, _, _ := bytes.Cut(rest, []byte("\n"))
			out[key] = strings.TrimSpace(string(line))
		}
	}
	for _, key := range []string{"Uid", "Gid"} {
		out[key], _, _ = strings.Cut(out[key], "\t")
	}
	return out
}

// commandLine gives the arguments, separated by spaces.
func (p *Process) commandLine() string {
	text, _ := os.ReadFile(p.path("cmdline"))
	return string(bytes.ReplaceAll(bytes.TrimRight(text, "\x00"), []byte{0}, []byte{' '}))
}
