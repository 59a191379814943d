// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// StubMemory is memory at the addresses that a stub has of itself: of a process, those of
// the process; of kgdb, the kernel's; of QEMU, virtual ones as the page tables of the
// first processor have them now.
type StubMemory struct {
	gate  xfer.Gate
	s     *Stub
	mem   *remora.Memory
	info  remora.Info
	move  stubMover
	parse func(io.Reader) iter.Seq2[remora.Region, error]

	mu      sync.Mutex
	regions []remora.Region
	asked   bool
	why     error // there are no regions
}

var (
	_ remora.Target    = (*StubMemory)(nil)
	_ remora.Space     = (*StubMemory)(nil)
	_ remora.Describer = (*StubMemory)(nil)
	_ xfer.Mover       = (*regionMover)(nil)
)

// Virtual gives the memory at the addresses of the stub. A guest's page tables may lead to
// devices, which then are read: reading may change them. Closing it closes the Stub.
func (s *Stub) Virtual() *StubMemory {
	m := &StubMemory{s: s, info: s.info("@virt"), move: stubMover{s, false, remora.ErrUnmapped}}
	m.mem = remora.New(m)
	return m
}

// StubProcess is the memory of a process under gdbserver.
type StubProcess struct{ StubMemory }

var (
	_ remora.Mapper    = (*StubProcess)(nil)
	_ remora.Explainer = (*StubProcess)(nil)
)

// Process gives the memory of a process. Parse reads the text of /proc/PID/maps, which
// comes through the stub: it says what a debugger's reading does not, that memory may not
// be read or written. Where the stub has no files every access is made with
// remora.Force.
func (s *Stub) Process(parse func(io.Reader) iter.Seq2[remora.Region, error]) *StubProcess {
	p := &StubProcess{StubMemory{s: s, info: s.info(""), move: stubMover{s, false, remora.ErrFault}, parse: parse}}
	p.mem = remora.New(p)
	return p
}

// PID is the number of the process where the stub runs.
func (s *Stub) PID() int64 {
	if t := s.c.Stop().Thread; t.PID > 0 {
		return t.PID
	}
	if len(s.threads) > 0 {
		return max(s.threads[0].PID, s.threads[0].TID)
	}
	return 0
}

// Memory is the memory of the target.
func (m *StubMemory) Memory() *remora.Memory { return m.mem }

// Info gives the facts of the Space.
func (m *StubMemory) Info() remora.Info { return m.info }

// Transfer moves memory, and keeps the contract of remora.Space.
func (m *StubMemory) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := m.gate.Admit(op, m.info.Ops, m.info.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer m.gate.Leave()
	regions, err := m.load(ctx)
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return xfer.Each(ctx, op, segs, m.move.ahead(ctx, op, segs, &m.move, func(remora.Addr, int) bool { return true }))
	case err != nil:
		return xfer.Refuse(segs, err)
	}
	r := &regionMover{regions, &m.move}
	return xfer.Each(ctx, op, segs, m.move.ahead(ctx, op, segs, r, func(a remora.Addr, n int) bool {
		in, ok := regionAt(regions, a)
		return ok && uint64(n-1) <= uint64(in.Last()-a) && (in.Perm&remora.PermRead != 0 || op&remora.Force != 0)
	}))
}

// Close waits for running calls, and closes the stub.
func (m *StubMemory) Close() error {
	m.gate.Close()
	return m.s.Close()
}

// load gives the regions of the process, which stands still. Where there are none, as of a
// machine, or the stub does not give them, the error Is errors.ErrUnsupported.
func (m *StubMemory) load(ctx context.Context) ([]remora.Region, error) {
	if m.parse == nil {
		return nil, errors.ErrUnsupported
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.asked {
		return m.regions, m.why
	}
	name := fmt.Sprintf("/proc/%d/maps", m.s.PID())
	text, err := m.s.c.ReadFile(ctx, name)
	if err == nil {
		var all []remora.Region
		for r, bad := range m.parse(bytes.NewReader(text)) {
			if err = bad; err != nil {
				break
			}
			all = append(all, r)
		}
		m.regions = all
	} else if _, none := errors.AsType[*fs.PathError](err); none || stubRefusal(err) {
		err = fmt.Errorf("the stub does not give %s: %w: %w", name, err, errors.ErrUnsupported)
	}
	if err = stubError(err); ctx.Err() == nil {
		m.asked, m.why = true, err
	}
	return m.regions, err
}

// regionAt gives the region that holds a.
func regionAt(all []remora.Region, a remora.Addr) (remora.Region, bool) {
	i, _ := slices.BinarySearchFunc(all, a, func(r remora.Region, a remora.Addr) int { return cmp.Compare(r.Last(), a) })
	if i == len(all) || a < all[i].Start {
		return remora.Region{}, false
	}
	return all[i], true
}

// regionMover asks the regions first, as a stub reads and writes whatever they allow.
type regionMover struct {
	regions []remora.Region
	below   *stubMover
}

// Move moves a prefix of buf, of one region.
func (m *regionMover) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	r, ok := regionAt(m.regions, a)
	if !ok {
		return 0, remora.ErrUnmapped
	}
	need := remora.PermRead
	if op&remora.Write != 0 {
		need = remora.PermWrite
	}
	if r.Perm&need == 0 && op&remora.Force == 0 {
		return 0, remora.ErrProtected
	}
	return m.below.Move(ctx, op, a, buf[:min(uint64(len(buf)-1), uint64(r.Last()-a))+1])
}

// Regions gives what /proc/PID/maps lists.
func (p *StubProcess) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		if !p.gate.Enter() {
			yield(remora.Region{}, fs.ErrClosed)
			return
		}
		defer p.gate.Leave()
		all, err := p.load(ctx)
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
		if err != nil {
			yield(remora.Region{}, err)
		}
	}
}

// Explain says in which region a fault was.
func (p *StubProcess) Explain(ctx context.Context, _ remora.Op, a remora.Addr, cause error) error {
	if !errors.Is(cause, remora.ErrFault) || !p.gate.Enter() {
		return cause
	}
	defer p.gate.Leave()
	all, err := p.load(ctx)
	if r, ok := regionAt(all, a); ok && err == nil {
		return fmt.Errorf("%w: in %v %v %s", cause, r.Range, r.Perm, r.Name)
	}
	return cause
}

// Auxv is the auxiliary vector of the process, as the kernel laid it out.
func (p *StubProcess) Auxv(ctx context.Context) ([]byte, error) {
	b, err := p.s.c.Object(ctx, "auxv", "")
	return b, stubError(err)
}

// Describe says what the stub is and has.
func (m *StubMemory) Describe(ctx context.Context) ([]remora.Fact, error) { return m.s.Describe(ctx) }

// Describe says how the stub is reached, what is behind it, and what becomes of that.
func (s *Stub) Describe(ctx context.Context) ([]remora.Fact, error) {
	if s.closed.Load() {
		return nil, fs.ErrClosed
	}
	facts := []remora.Fact{{Key: "target", Value: s.name}, {Key: "kind", Value: s.kind.String()}}
	add := func(key, value string) { facts = append(facts, remora.Fact{Key: key, Value: value}) }
	if a := s.features.Architecture; a != "" {
		add("architecture", a)
	}
	name, _ := s.c.Offers("qXfer:exec-file:read")
	if s.kind == StubUser {
		add("pid", strconv.FormatInt(s.PID(), 10))
		if b, err := s.c.Object(ctx, "exec-file", strconv.FormatInt(s.PID(), 16)); name != "" && err == nil {
			add("program", string(b))
		}
		add("threads", strconv.Itoa(len(s.threads)))
	} else {
		add("processors", strconv.Itoa(len(s.threads)))
	}
	state := []string{"it stands still while this is open, and stays so"}
	if s.resume {
		state = []string{"it stands still while this is open, and then runs on"}
	}
	if s.kind == StubMachine {
		state = append(state, "whether it ran before: "+s.told)
	}
	add("state", strings.Join(state, "; "))
	way := fmt.Sprintf("packets of %d bytes, reads of %d", s.c.PacketSize(), s.c.Chunk())
	if s.c.Acks() {
		way += ", acknowledged"
	}
	add("way", way)
	return facts, ctx.Err()
}
