// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/guest"
	"github.com/remora-go/remora/internal/rsp/rsptest"
)

// ready gives a machine's stub with a page of physical memory, and one of virtual.
func ready() *rsptest.Stub {
	return &rsptest.Stub{
		QEMU: true, Threads: "p1.1", Objects: map[string]string{"features:target.xml": "<target><architecture>i386:x86-64</architecture></target>"},
		Physical: []rsptest.Area{{Start: stubLow, Data: stubFill(stubPage, 3)}}, Virtual: []rsptest.Area{{Start: stubLow, Data: stubFill(stubPage, 5)}},
	}
}

// A machine that ran runs on, one that did not stands, and addresses mean what they did.
func TestStubLeaves(t *testing.T) {
	yes, no := func(context.Context) (bool, error) { return true, nil }, func(context.Context) (bool, error) { return false, nil }
	unknown := func(context.Context) (bool, error) { return false, errors.New("nobody knows") }
	for name, c := range map[string]struct {
		running  func(context.Context) (bool, error)
		status   string
		detached int
		says     string
	}{
		"not known":    {nil, "VM status: paused\r\n", 1, "taken to have run"},
		"panicked":     {nil, "VM status: paused (guest-panicked)\r\n", 0, "guest-panicked"},
		"ran":          {yes, "", 1, "by QMP"},
		"stood":        {no, "", 0, "by QMP"},
		"not to learn": {unknown, "", 1, "nobody knows"},
	} {
		t.Run(name, func(t *testing.T) {
			s := ready()
			s.Status = c.status
			g, err := guest.OpenStub(t.Context(), s.Start(t), &guest.StubOptions{Running: c.running})
			if err != nil {
				t.Fatal(err)
			}
			p := g.PhysicalAt(&guest.StubRAM{Ranges: []remora.Range{{Start: stubLow, Size: stubPage}}, How: "the test"})
			if b, err := p.Memory().Uint8(t.Context(), stubLow+1); b != s.Physical[0].Data[1] || err != nil || !s.IsPhysical() {
				t.Errorf("physical memory has %#x, %v", b, err)
			}
			if b, err := g.Virtual().Memory().Uint8(t.Context(), stubLow+1); b != s.Virtual[0].Data[1] || err != nil || s.IsPhysical() {
				t.Errorf("virtual memory has %#x, %v", b, err)
			}
			if _, err := p.Memory().Uint8(t.Context(), stubLow+2); err != nil {
				t.Error(err)
			}
			facts, err := p.Describe(t.Context())
			text := ""
			for _, f := range facts {
				text += f.Key + " " + f.Value + "\n"
			}
			if err != nil || !strings.Contains(text, c.says) || !strings.Contains(text, "by the test") {
				t.Errorf("%v: it says\n%s", err, text)
			}
			if err := errors.Join(p.Close(), p.Close(), g.Close()); err != nil || s.Detached() != c.detached || s.IsPhysical() {
				t.Errorf("%v: it was left %d times, its addresses physical: %v", err, s.Detached(), s.IsPhysical())
			}
			if _, err := p.Memory().Uint8(t.Context(), stubLow); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("after it is closed: %v", err)
			}
		})
	}
}

// What a stub does wrong ends in an error that says so, each with its cause.
func TestStubFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault rsptest.Fault
		cause error
		says  string
	}{
		"refused":  {rsptest.Refuse, remora.ErrHole, ""},
		"garbage":  {rsptest.Garbage, remora.ErrGone, "it says what is no packet"},
		"dropped":  {rsptest.Drop, remora.ErrGone, "EOF"},
		"silent":   {rsptest.Silent, remora.ErrGone, "it is silent"},
		"not hex":  {rsptest.NotHex, remora.ErrGone, "no hexadecimal number"},
		"too long": {rsptest.TooLong, remora.ErrGone, "digits where"},
		"bad run":  {rsptest.BadRun, remora.ErrGone, "a repetition with the count"},
	} {
		t.Run(name, func(t *testing.T) {
			s := ready()
			s.Fault = func(_ int, r string) rsptest.Fault {
				if r[0] == 'm' {
					return c.fault
				}
				return rsptest.None
			}
			g, err := guest.OpenStub(t.Context(), s.Start(t), &guest.StubOptions{Timeout: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			p := g.PhysicalAt(&guest.StubRAM{Ranges: []remora.Range{{Start: stubLow, Size: stubPage}}})
			var b [100]byte
			for range 2 {
				n, err := p.Memory().ReadAt(t.Context(), b[:], stubLow)
				if n != 0 || !errors.Is(err, c.cause) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%d bytes, %v", n, err)
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStubNotOpened(t *testing.T) {
	never, cancel := context.WithCancel(t.Context())
	cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	always := func(f rsptest.Fault) *rsptest.Stub {
		return &rsptest.Stub{Fault: func(int, string) rsptest.Fault { return f }}
	}
	ended := ready()
	ended.Stopped = "W00"
	for name, c := range map[string]struct {
		ctx     context.Context
		address string
		cause   error
	}{
		"nobody":      {t.Context(), l.Addr().String(), fs.ErrNotExist},
		"no socket":   {t.Context(), t.TempDir() + "/none", fs.ErrNotExist},
		"cancelled":   {never, ready().Start(t), context.Canceled},
		"garbage":     {t.Context(), always(rsptest.Garbage).Start(t), remora.ErrUnrecognized},
		"silent":      {t.Context(), always(rsptest.Silent).Start(t), remora.ErrGone},
		"hangs up":    {t.Context(), always(rsptest.Drop).Start(t), remora.ErrGone},
		"has nothing": {t.Context(), ended.Start(t), fs.ErrNotExist},
	} {
		g, err := guest.OpenStub(c.ctx, c.address, &guest.StubOptions{Timeout: 200 * time.Millisecond})
		if err == nil {
			g.Close()
		}
		if !errors.Is(err, c.cause) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A client that gives up while another one is served lets the machine run: it is heard
// later.
func TestStubFarewell(t *testing.T) {
	s := ready()
	s.Fault = func(_ int, r string) rsptest.Fault {
		if strings.HasPrefix(r, "D") {
			return rsptest.None
		}
		return rsptest.Nothing
	}
	if _, err := guest.OpenStub(t.Context(), s.Start(t), &guest.StubOptions{Timeout: 100 * time.Millisecond}); !errors.Is(err, remora.ErrGone) {
		t.Fatal(err)
	}
	for range 1000 {
		if s.Detached() == 1 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("it was left %d times, and heard %q", s.Detached(), s.Said())
}

// A process that dies leaves it to another one to let the machine run, from half a packet
// on, too.
func TestStubLastWords(t *testing.T) {
	for _, half := range []string{"", "$m1000", "$m1000,4#"} {
		s := ready()
		var words []byte
		ended := 0
		g, err := guest.OpenStub(t.Context(), s.Start(t), &guest.StubOptions{Watchdog: func(g *guest.Stub) (func() error, error) {
			words = g.LastWords()
			return func() error { ended++; return nil }, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		p := g.PhysicalAt(&guest.StubRAM{Ranges: []remora.Range{{Start: stubLow, Size: stubPage}}})
		if _, err := p.Memory().Uint8(t.Context(), stubLow); err != nil || !s.IsPhysical() {
			t.Fatal(err)
		}
		f, err := g.Connection()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(append([]byte(half), words...)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		for range 1000 {
			if s.Continued() == 1 {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if s.Continued() != 1 || s.IsPhysical() {
			t.Errorf("behind %q: it runs on %d times, addresses physical: %v", half, s.Continued(), s.IsPhysical())
		}
		if g.Close(); ended != 1 {
			t.Errorf("the watchdog was ended %d times", ended)
		}
	}
}

// kgdb knows the kernel's addresses alone.
func TestStubOther(t *testing.T) {
	s := &rsptest.Stub{Stopped: "S05", Threads: "1,2,fffffffffffffffe", Virtual: []rsptest.Area{{Start: 0xffffffff81000000, Data: stubFill(stubPage, 3)}}}
	g, err := guest.OpenStub(t.Context(), s.Start(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := g.Virtual()
	if b, err := m.Memory().Uint8(t.Context(), 0xffffffff81000002); g.Kind() != guest.StubOther || b != s.Virtual[0].Data[2] || err != nil {
		t.Errorf("%v: %#x, %v", g.Kind(), b, err)
	}
	if err := m.Close(); err != nil || s.Detached() != 0 { // it stood, and stands
		t.Errorf("%v, it was left %d times", err, s.Detached())
	}
}

// Without /proc/PID/maps a process is read as a debugger reads it.
func TestStubProcessWithoutMaps(t *testing.T) {
	s := &rsptest.Stub{Offers: "qXfer:auxv:read+", Virtual: []rsptest.Area{{Start: stubLow, Data: stubFill(stubPage, 3)}}}
	g, err := guest.OpenStub(t.Context(), s.Start(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	p := g.Process(parseMaps)
	defer p.Close()
	var b [8]byte
	if n, err := p.Memory().ReadAt(t.Context(), b[:], stubLow+stubPage-4); n != 4 || !errors.Is(err, remora.ErrFault) {
		t.Errorf("%d bytes, %v", n, err)
	}
	for _, err := range p.Regions(t.Context()) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("its regions: %v", err)
		}
	}
}
