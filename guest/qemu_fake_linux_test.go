// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// block is a run of physical memory of a fake guest, and what is there in this process.
type block struct {
	first  uint64
	kind   string // "" is RAM
	name   string
	region remora.Region // of this process
}

func (b *block) last() uint64 { return b.first + b.region.Size - 1 }

// fake is a QEMU in this process: a QMP server, and memory of this process as that of
// the guest.
type fake struct {
	t      testing.TB
	socket string
	tasks  sync.WaitGroup
	listen net.Listener

	mu     sync.Mutex
	blocks []block
	conns  []*net.UnixConn
	gave   []string // commands, in order
	files  []*os.File
	status string
	closed bool

	// say gives the answer to a command in place of the fake's own: a whole reply without
	// an id, such as {"return": {}}, or "-" for none at all. Empty: the fake's own.
	say map[string]string
	hmp func(line string) string // the same for the monitor for people; may be nil
}

const fakeGreeting = `{"QMP": {"version": {"qemu": {"micro": 1, "minor": 2, "major": 9}, "package": ""}, "capabilities": []}}`

func newFake(t testing.TB, blocks ...block) *fake {
	t.Helper()
	f := &fake{t: t, blocks: blocks, status: "running", say: map[string]string{}}
	f.socket = filepath.Join(t.TempDir(), "qmp")
	var err error
	if f.listen, err = net.Listen("unix", f.socket); err != nil {
		t.Fatal(err)
	}
	f.tasks.Go(func() {
		for {
			c, err := f.listen.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns = append(f.conns, c.(*net.UnixConn))
			if f.closed {
				c.Close()
			}
			f.mu.Unlock()
			f.tasks.Go(func() { f.serve(c.(*net.UnixConn)) })
		}
	})
	t.Cleanup(f.end)
	return f
}

// end is the exit of QEMU.
func (f *fake) end() {
	f.listen.Close()
	f.mu.Lock()
	f.closed = true
	for _, c := range f.conns {
		c.Close()
	}
	for _, file := range f.files {
		file.Close()
	}
	f.files = nil
	f.mu.Unlock()
	f.tasks.Wait()
}

// tell sends an event.
func (f *fake) tell(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.conns {
		fmt.Fprintf(c, "%s\n", event)
	}
}

// set changes the fake under its lock.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// commands gives those that were given, of the names.
func (f *fake) commands(names ...string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []string
	for _, g := range f.gave {
		if slices.Contains(names, g) {
			all = append(all, g)
		}
	}
	return strings.Join(all, " ")
}

func (f *fake) serve(c *net.UnixConn) {
	defer c.Close()
	io.WriteString(c, fakeGreeting+"\n")
	var in []byte
	buf, oob := make([]byte, 1<<16), make([]byte, 64)
	var sent []*os.File
	for {
		n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
		if err != nil || n == 0 {
			return
		}
		if oobn > 0 {
			sent = append(sent, f.received(oob[:oobn])...)
		}
		in = append(in, buf[:n]...)
		for {
			line, rest, ok := bytes.Cut(in, []byte("\n"))
			if !ok {
				break
			}
			in = rest
			var q struct {
				Execute   string
				Arguments json.RawMessage
				ID        json.RawMessage
			}
			if err := json.Unmarshal(line, &q); err != nil {
				fmt.Fprintf(c, `{"error": {"class": "GenericError", "desc": "no JSON"}}`+"\n")
				continue
			}
			f.mu.Lock()
			say := f.reply(q.Execute, q.Arguments, &sent)
			if say != "-" {
				fmt.Fprintf(c, "%s, \"id\": %s}\n", strings.TrimSuffix(say, "}"), q.ID)
			}
			f.mu.Unlock()
		}
	}
}

// received takes the descriptors out of a control message.
func (f *fake) received(oob []byte) (all []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		f.t.Error(err)
		return nil
	}
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			all = append(all, os.NewFile(uintptr(fd), "sent"))
		}
	}
	f.set(func() { f.files = append(f.files, all...) })
	return all
}

// reply answers a command. The caller holds the lock.
func (f *fake) reply(command string, args json.RawMessage, sent *[]*os.File) string {
	f.gave = append(f.gave, command)
	if s := f.say[command]; s != "" {
		return s
	}
	var a struct {
		Line     string `json:"command-line"`
		Val      uint64
		Size     int
		Filename string
		Begin    uint64
	}
	_ = json.Unmarshal(args, &a)
	switch command {
	case "qmp_capabilities", "remove-fd", "closefd", "getfd":
		return `{"return": {}}`
	case "query-status":
		return fmt.Sprintf(`{"return": {"status": %q, "running": %v}}`, f.status, f.status == "running")
	case "stop":
		f.status = "paused"
		return `{"return": {}}`
	case "cont":
		f.status = "running"
		return `{"return": {}}`
	case "query-target":
		return `{"return": {"arch": "x86_64"}}`
	case "query-migrate":
		return `{"return": {}}`
	case "query-cpus-fast":
		return fmt.Sprintf(`{"return": [{"thread-id": %d}]}`, os.Getpid())
	case "qom-get":
		return `{"return": ""}`
	case "add-fd":
		return fmt.Sprintf(`{"return": {"fdset-id": 3, "fd": %d}}`, (*sent)[len(*sent)-1].Fd())
	case "pmemsave":
		return f.save(a.Val, a.Size, a.Filename)
	case "dump-guest-memory":
		io.WriteString((*sent)[len(*sent)-1], "the notes")
		return `{"return": {}}`
	case "human-monitor-command":
		text, _ := json.Marshal(f.human(a.Line))
		return fmt.Sprintf(`{"return": %s}`, text)
	}
	return fmt.Sprintf(`{"error": {"class": "CommandNotFound", "desc": "no %s"}}`, command)
}

// at gives guest memory.
func (f *fake) at(a uint64, n int) []byte {
	for i := range f.blocks {
		if b := &f.blocks[i]; a >= b.first && a <= b.last() && uint64(n) <= b.last()-a+1 {
			return linux.BytesAt(uint64(b.region.Start)+a-b.first, n)
		}
	}
	return nil
}

func (f *fake) save(a uint64, n int, name string) string {
	b := f.at(a, n)
	if b == nil {
		return `{"error": {"class": "GenericError", "desc": "Invalid addr"}}`
	}
	if err := os.WriteFile(name, b, 0); err != nil {
		return `{"error": {"class": "GenericError", "desc": "could not open"}}`
	}
	return `{"return": {}}`
}

// human answers a line of the monitor for people.
func (f *fake) human(line string) string {
	if f.hmp != nil {
		if s := f.hmp(line); s != "" {
			return s
		}
	}
	var a uint64
	var n int
	switch {
	case line == "info mtree -f":
		var b strings.Builder
		b.WriteString("FlatView #0\r\n AS \"memory\", root: system\r\n Root memory region: system\r\n")
		for i := range f.blocks {
			k := &f.blocks[i]
			fmt.Fprintf(&b, "  %016x-%016x (prio 0, %s): %s\r\n", k.first, k.last(), orRAM(k.kind), k.name)
		}
		return b.String()
	case scan(line, "gpa2hva 0x%x", &a):
		if p := f.at(a, 1); p != nil {
			return fmt.Sprintf("Host virtual address for 0x%x (x) is 0x%x\r\n", a, linux.AddressOf(p))
		}
		return fmt.Sprintf("No memory is mapped at address 0x%x\r\n", a)
	case scan(line, "xp /%dxb 0x%x", &n, &a):
		var b strings.Builder
		for i, v := range f.at(a, n) {
			if i%8 == 0 {
				fmt.Fprintf(&b, "\r\n%016x:", a+uint64(i))
			}
			fmt.Fprintf(&b, " 0x%02x", v)
		}
		return b.String() + "\r\n"
	}
	return "unknown command: '" + line + "'\r\n"
}

func orRAM(kind string) string {
	if kind == "" {
		return "ram"
	}
	return kind
}

func scan(line, format string, into ...any) bool {
	n, err := fmt.Sscanf(line, format, into...)
	return err == nil && n == len(into)
}

// self is this process as QEMU's: the regions that are guest memory.
type self struct {
	memory  *remora.Memory
	regions []remora.Region
	gate    xfer.Gate
}

func newSelf(blocks ...block) *self {
	s := &self{}
	for _, b := range blocks {
		s.add(b.region)
	}
	s.memory = remora.New(s)
	return s
}

func (s *self) add(r remora.Region) {
	s.regions = append(s.regions, r)
	slices.SortFunc(s.regions, func(a, b remora.Region) int { return cmp.Compare(a.Start, b.Start) })
}

func (s *self) Memory() *remora.Memory { return s.memory }
func (s *self) Close() error           { s.gate.Close(); return nil }

func (s *self) Info() remora.Info {
	return remora.Info{Name: "self", Ops: remora.StopAtFault, PtrSize: 8, Granule: uint32(os.Getpagesize()), Last: remora.MaxAddr, Writable: true, Live: true}
}

func (s *self) Regions(context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		for _, r := range s.regions {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (s *self) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := s.gate.Admit(op, remora.StopAtFault, true); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer s.gate.Leave()
	return xfer.Each(ctx, op, segs, s)
}

func (s *self) Move(_ context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	n, errno := linux.VMOne(op&remora.Write != 0, os.Getpid(), buf, uint64(a))
	if errno != 0 || n < len(buf) {
		return n, remora.ErrUnmapped
	}
	return n, nil
}

// handing gives self as the process of a guest, and checks that it is closed.
func (f *fake) handing(o *QEMUOptions) *QEMUOptions {
	var opened []*self
	f.t.Cleanup(func() {
		for _, s := range opened {
			if !s.gate.Closed() {
				f.t.Error("the process was not closed")
			}
		}
	})
	o.Process = func(pid int) (remora.Target, error) {
		if pid != os.Getpid() {
			return nil, fmt.Errorf("asked for pid %d", pid)
		}
		var s *self
		f.set(func() { s = newSelf(f.blocks...) })
		opened = append(opened, s)
		return s, nil
	}
	return o
}

// open opens the guest.
func (f *fake) open(o *QEMUOptions) *QEMU {
	f.t.Helper()
	q, err := OpenQEMU(f.t.Context(), f.socket, f.handing(o))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := q.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return q
}

// anonymous gives a block of private memory with contents.
func anonymous(t testing.TB, first uint64, name string, data []byte) block {
	t.Helper()
	base, errno := linux.MapAt(0, uint64(len(data)), linux.ProtRead|linux.ProtWrite, linux.MapPrivate|linux.MapAnonymous, -1, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { linux.UnmapAt(base, uint64(len(data))) })
	copy(linux.BytesAt(base, len(data)), data)
	return block{first: first, name: name, region: remora.Region{
		Range: remora.Range{Start: remora.Addr(base), Size: uint64(len(data))}, Perm: remora.PermRead | remora.PermWrite,
	}}
}

// shared gives a block of a memfd, of which file is a descriptor.
func shared(t testing.TB, first uint64, name string, data []byte) (b block, file *os.File) {
	t.Helper()
	file, err := memoryFile(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	if _, err := file.Write(data); err != nil {
		t.Fatal(err)
	}
	fd := int(file.Fd())
	base, errno := linux.MapAt(0, uint64(len(data)), linux.ProtRead|linux.ProtWrite, linux.MapShared, fd, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	t.Cleanup(func() { linux.UnmapAt(base, uint64(len(data))) })
	st, errno := linux.StatFile(fd)
	if errno != 0 {
		t.Fatal(errno)
	}
	return block{first: first, name: name, region: remora.Region{
		Range: remora.Range{Start: remora.Addr(base), Size: uint64(len(data))}, Perm: remora.PermRead | remora.PermWrite,
		Shared: true, Name: "/memfd:" + name, Deleted: true, Inode: st.Inode, Major: st.DevMajor, Minor: st.DevMinor,
	}}, file
}

// pattern gives n bytes that differ from place to place.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16) ^ seed
	}
	return b
}
