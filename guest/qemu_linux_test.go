// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/qmp"
)

// small guest: a page of RAM at 0, and one at 1 MiB.
func tiny(t testing.TB) *fake {
	page := os.Getpagesize()
	return newFake(t, anonymous(t, 0, "low", pattern(page, 1)), anonymous(t, mib, "high", pattern(page, 2)))
}

// TestRefusedGuests has QEMU answer in ways that a guest cannot be opened by.
func TestRefusedGuests(t *testing.T) {
	reply := func(command, say string) func(*fake) { return func(f *fake) { f.say[command] = say } }
	human := func(line, say string) func(*fake) {
		return func(f *fake) {
			f.hmp = func(l string) string {
				if strings.HasPrefix(l, line) {
					return say
				}
				return ""
			}
		}
	}
	const failure = `{"error": {"class": "GenericError", "desc": "no such thing"}}`
	for _, c := range []struct {
		name string
		with func(*fake)
		want string
		is   error
	}{
		{"no target", reply("query-target", failure), "no such thing", nil},
		{"no status", reply("query-status", failure), "no such thing", nil},
		{"another type", reply("query-status", `{"return": 5}`), "query-status", nil},
		{"arriving", func(f *fake) { f.status = "inmigrate" }, "still arriving", errors.ErrUnsupported},
		{"gone to another host", func(f *fake) { f.status = "postmigrate" }, "migrated", remora.ErrGone},
		{"half on another host", reply("query-migrate", `{"return": {"status": "postcopy-active"}}`), "another host", errors.ErrUnsupported},
		{"SEV", reply("query-sev", `{"return": {"enabled": true}}`), "confidential guest (sev-guest)", errors.ErrUnsupported},
		{"TDX", reply("qom-get", `{"return": "tdx-guest"}`), "confidential guest (tdx-guest)", errors.ErrUnsupported},
		{"silent", reply("query-migrate", "-"), "did not answer within", nil},
		{"no memory", human("info mtree", "nothing\r\n"), "shows no memory", nil},
		{"memory twice", human("info mtree", " AS \"memory\"\n 0-f (prio 0, ram): a\n 8-1f (prio 0, ram): b\n"), "overlap", nil},
		{"no addresses", human("gpa2hva", "unknown command\r\n"), "unknown command", nil},
		{"past the last address", human("gpa2hva", "Host virtual address for 0x0 (x) is 0xffffffffffffff00\r\n"), "last address", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := tiny(t)
			f.set(func() { c.with(f) })
			q, err := OpenQEMU(t.Context(), f.socket, f.handing(&QEMUOptions{Timeout: 200 * time.Millisecond}))
			if err == nil {
				q.Close()
				t.Fatal("it was opened")
			}
			if !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("the error is %v, want %q and %v", err, c.want, c.is)
			}
		})
	}
}

// TestOtherSockets opens what is no QMP socket, or does not speak.
func TestOtherSockets(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, says string
		is         error
	}{
		{"not QMP", "220 mail\r\n", remora.ErrUnrecognized},
		{"other JSON", `{"hello": 1}`, remora.ErrUnrecognized},
		{"closes", "", remora.ErrUnrecognized},
		{"silent", "-", ErrSilent},
		{"greets", fakeGreeting + "\n-", qmp.ErrUnanswered},
		{"greets and is silent", fakeGreeting + "\n-", ErrSilent},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(c.name, " ", "-"))
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				says, waits := strings.CutSuffix(c.says, "-")
				io.WriteString(conn, says)
				if waits {
					io.Copy(io.Discard, conn)
				}
				conn.Close()
			}()
			_, err = OpenQEMU(t.Context(), path, &QEMUOptions{Timeout: 100 * time.Millisecond})
			if !errors.Is(err, c.is) || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
				t.Errorf("the error is %v", err)
			}
		})
	}
	if _, err := OpenQEMU(t.Context(), filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "stale")})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	if _, err := OpenQEMU(t.Context(), filepath.Join(dir, "stale"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a socket without a listener: %v", err)
	}
}

// TestProcesses hands in processes that are of no use.
func TestProcesses(t *testing.T) {
	denied := &remora.AccessError{Target: "pid 1", Act: "read the memory of", Reason: "it is another user's"}
	other := func(int) (remora.Target, error) {
		return newSelf(anonymous(t, 0, "x", make([]byte, os.Getpagesize()))), nil
	}
	for _, c := range []struct {
		name    string
		process func(int) (remora.Target, error)
		want    string
		is      error // when opened for writing
	}{
		{"none", nil, "not asked for", nil},
		{"denied", func(int) (remora.Target, error) { return nil, denied }, "another user's", fs.ErrPermission},
		{"not QEMU", other, "does not have the memory", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := tiny(t)
			q, err := OpenQEMU(t.Context(), f.socket, &QEMUOptions{Process: c.process})
			if err != nil {
				t.Fatal(err)
			}
			if v, err := q.Memory().Uint8(t.Context(), mib+5); err != nil || v != f.at(mib+5, 1)[0] {
				t.Errorf("a byte through QMP: %d, %v", v, err)
			}
			if text := factOf(t, q, "way"); !strings.Contains(text, c.want) || !strings.Contains(text, "pmemsave") {
				t.Errorf("the way is %q", text)
			}
			q.Close()
			q, err = OpenQEMU(t.Context(), f.socket, &QEMUOptions{Process: c.process, Write: true})
			if err == nil {
				q.Close()
				t.Fatal("it was opened for writing")
			}
			if c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("for writing: %v", err)
			}
		})
	}
}

func factOf(t *testing.T, q *QEMU, key string) string {
	t.Helper()
	facts, err := q.Describe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range facts {
		if f.Key == key {
			return f.Value
		}
	}
	t.Errorf("no fact %q in %v", key, facts)
	return ""
}

// TestEnds has a guest end in every way that there is.
func TestEnds(t *testing.T) {
	for name, end := range map[string]func(f *fake){
		"reset":            func(f *fake) { f.tell(`{"event": "RESET", "data": {"guest": true}}`) },
		"exit":             func(f *fake) { f.end() },
		"migration, told":  func(f *fake) { f.tell(`{"event": "MIGRATION", "data": {"status": "completed"}}`) },
		"migration, asked": func(f *fake) { f.set(func() { f.status = "postmigrate" }); f.tell(`{"event": "STOP"}`) },
		"migration, late": func(f *fake) {
			f.set(func() { f.status = "finish-migrate" })
			f.tell(`{"event": "STOP"}`)
			time.Sleep(5 * time.Millisecond)
			f.set(func() { f.status = "postmigrate" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			page := os.Getpagesize()
			b, _ := shared(t, 0, "ram", pattern(page, 1))
			f := newFake(t, b, anonymous(t, mib, "more", pattern(page, 2)))
			q := f.open(&QEMUOptions{Write: true})
			var buf [8]byte
			for _, a := range []remora.Addr{0, mib} {
				if _, err := q.Memory().ReadAt(t.Context(), buf[:], a); err != nil {
					t.Fatal(err)
				}
			}
			f.tell(`{"event": "RTC_CHANGE"}`)
			end(f)
			for !q.isGone() {
				time.Sleep(time.Millisecond)
			}
			for _, a := range []remora.Addr{0, mib, 2 * mib} {
				if n, err := q.Memory().ReadAt(t.Context(), buf[:], a); n != 0 || !errors.Is(err, remora.ErrGone) {
					t.Errorf("a read of %v afterwards: %d, %v", a, n, err)
				}
				if n, err := q.Memory().WriteAt(t.Context(), buf[:], a); n != 0 || !errors.Is(err, remora.ErrGone) {
					t.Errorf("a write of %v afterwards: %d, %v", a, n, err)
				}
			}
			if _, err := q.Pause(t.Context()); !errors.Is(err, remora.ErrGone) {
				t.Errorf("a pause afterwards: %v", err)
			}
		})
	}
}

// TestStops has a guest stop and go on, which changes nothing.
func TestStops(t *testing.T) {
	f := tiny(t)
	q := f.open(&QEMUOptions{})
	for range 3 {
		f.tell(`{"event": "STOP"}`)
		f.tell(`{"event": "RESUME"}`)
	}
	if _, err := q.Memory().Uint8(t.Context(), 0); err != nil || q.isGone() {
		t.Error(err)
	}
}

// TestHotplug has memory come and go.
func TestHotplug(t *testing.T) {
	f := tiny(t)
	q := f.open(&QEMUOptions{})
	q.refresh.rest = 0
	if _, err := q.Memory().Uint8(t.Context(), 2*mib); !errors.Is(err, remora.ErrHole) {
		t.Errorf("before: %v", err)
	}
	more, _ := shared(t, 2*mib, "dimm0", pattern(os.Getpagesize(), 9))
	f.set(func() { f.blocks = append(f.blocks, more) })
	s, _ := remora.As[*self](q.process)
	s.add(more.region)
	for { // it is looked for now and then
		v, err := q.Memory().Uint8(t.Context(), 2*mib+3)
		if err == nil && v == 3^9 {
			break
		}
		if !errors.Is(err, remora.ErrHole) {
			t.Fatalf("plugged in: %d, %v", v, err)
		}
		time.Sleep(time.Millisecond)
	}
	f.set(func() { f.blocks = f.blocks[:2] })
	f.tell(`{"event": "DEVICE_DELETED"}`)
	for q.state.Load()&stale == 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := q.Memory().Uint8(t.Context(), 2*mib+3); !errors.Is(err, remora.ErrHole) {
		t.Errorf("taken out: %v", err)
	}
	var names []string
	for r, err := range q.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, fmt.Sprintf("%s %v", r.Name, r.Perm))
	}
	if got := strings.Join(names, ", "); got != "low r--, high r--" {
		t.Errorf("regions: %s", got)
	}
}

// TestMisses: reads of holes ask QEMU only now and then.
func TestMisses(t *testing.T) {
	f := tiny(t)
	q := f.open(&QEMUOptions{})
	q.refresh.rest = time.Hour
	before := f.commands("human-monitor-command")
	for range 1000 {
		if _, err := q.Memory().Uint8(t.Context(), 2*mib); !errors.Is(err, remora.ErrHole) {
			t.Fatal(err)
		}
	}
	if n := strings.Count(f.commands("human-monitor-command"), " ") - strings.Count(before, " "); n > 1 {
		t.Errorf("QEMU was asked %d times", n)
	}
}

func TestPause(t *testing.T) {
	f := tiny(t)
	var dogs []string
	fails := false
	q := f.open(&QEMUOptions{Watchdog: func(q *QEMU) (func() error, error) {
		if fails {
			return nil, errors.New("no dog")
		}
		c, err := q.Connection()
		if err != nil {
			return nil, err
		}
		c.Close()
		dogs = append(dogs, "starts")
		return func() error { dogs = append(dogs, "ends"); return nil }, nil
	}})
	first, err := q.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := q.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(first(), first()); err != nil || f.commands("stop", "cont") != "stop" {
		t.Errorf("after the first: %q, %v", f.commands("stop", "cont"), err)
	}
	if err := second(); err != nil || f.commands("stop", "cont") != "stop cont" || strings.Join(dogs, " ") != "starts ends" {
		t.Errorf("after the last: %q, %q, %v", f.commands("stop", "cont"), dogs, err)
	}
	f.set(func() { f.status = "paused" })
	third, err := q.Pause(t.Context())
	if err != nil || third() != nil || f.commands("stop", "cont") != "stop cont" || len(dogs) != 2 {
		t.Errorf("of one that stands: %q, %q, %v", f.commands("stop", "cont"), dogs, err)
	}
	f.set(func() { f.status = "running" })
	fails = true
	if _, err := q.Pause(t.Context()); err == nil || f.commands("stop", "cont") != "stop cont" {
		t.Errorf("without a watchdog: %q, %v", f.commands("stop", "cont"), err)
	}
	fails = false
	if _, err := q.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil || f.commands("stop", "cont") != "stop cont stop cont" || len(dogs) != 4 {
		t.Errorf("closed: %q, %q, %v", f.commands("stop", "cont"), dogs, err)
	}
}

func TestNotes(t *testing.T) {
	f := tiny(t)
	q := f.open(&QEMUOptions{})
	file, _, err := q.Notes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, 9)
	if _, err := file.ReadAt(b, 0); err != nil || string(b) != "the notes" {
		t.Errorf("the file has %q, %v", b, err)
	}
	f.set(func() { f.say["dump-guest-memory"] = `{"error": {"class": "GenericError", "desc": "busy"}}` })
	if _, _, err := q.Notes(t.Context()); err == nil || f.commands("closefd") != "closefd" {
		t.Errorf("refused: %v, %q", err, f.commands("closefd"))
	}
}
