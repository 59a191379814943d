// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/memtest"
)

const mib = 1 << 20

// standard gives a fake guest with a little of everything, and what lies in it: a run of
// private memory, a ROM behind it, a hole, shared memory up to the last of it, and some
// far above, in two blocks side by side.
func standard(t testing.TB, large []byte) (*fake, []memtest.Area) {
	t.Helper()
	page := uint64(os.Getpagesize())
	var blocks []block
	var areas []memtest.Area
	add := func(b block, data []byte, fault func(remora.Op) []error) {
		blocks = append(blocks, b)
		areas = append(areas, memtest.Area{Range: remora.Range{Start: remora.Addr(b.first), Size: b.region.Size}, Data: data, Fault: fault})
	}
	hole := func(at, size uint64) {
		areas = append(areas, memtest.Area{Range: remora.Range{Start: remora.Addr(at), Size: size}, Fault: memtest.Always(remora.ErrHole)})
	}
	low := pattern(int(4*page), 1)
	add(anonymous(t, 0, "pc.ram", low), low, nil)
	rom := pattern(int(2*page), 2)
	b := anonymous(t, 4*page, "pc.bios", rom)
	b.kind = "rom"
	add(b, rom, memtest.OnWrite(remora.ErrProtected))
	hole(6*page, page)
	b, _ = shared(t, mib, "ram", large)
	add(b, large, nil)
	hole(mib+uint64(len(large)), page)
	for i := range uint64(2) {
		data := pattern(int(2*page), byte(4+i))
		b, _ := shared(t, 1<<32+2*page*i, "dimm", data)
		add(b, data, nil)
	}
	hole(1<<32+4*page, page)
	return newFake(t, blocks...), areas
}

func (f *fake) peek(p []byte, a remora.Addr) error {
	b := f.at(uint64(a), len(p))
	if b == nil {
		for i := range p { // byte by byte across a border
			one := f.at(uint64(a)+uint64(i), 1)
			if one == nil {
				return fs.ErrInvalid
			}
			p[i] = one[0]
		}
		return nil
	}
	copy(p, b)
	return nil
}

func TestSpace(t *testing.T) {
	large := pattern(4*mib, 3)
	for name, noMap := range map[string]bool{"mapped": false, "in the process": true} {
		t.Run(name, func(t *testing.T) {
			memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
				f, areas := standard(t, large)
				q, err := OpenQEMU(t.Context(), f.socket, f.handing(&QEMUOptions{Write: true, NoMap: noMap}))
				if err != nil {
					t.Fatal(err)
				}
				q.refresh.rest = time.Hour
				return memtest.Fixture{Space: q, Areas: areas, Peek: f.peek, Close: q.Close}
			}, memtest.Want{
				Info: remora.Info{Ops: remora.StopAtFault | remora.Force, PtrSize: 8, Granule: uint32(os.Getpagesize()), Last: remora.MaxAddr, Writable: true, Live: true},
				Part: map[bool]uint64{true: 3}[noMap],
				Lacks: memtest.Lacks{
					Forced: "guest memory has no protection that could be overcome",
					Top:    "no machine has memory there",
				},
			})
		})
	}
}

func TestSlowSpace(t *testing.T) {
	large := pattern(4*mib, 3)
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		f, areas := standard(t, large)
		q, err := OpenQEMU(t.Context(), f.socket, nil)
		if err != nil {
			t.Fatal(err)
		}
		q.refresh.rest = time.Hour
		return memtest.Fixture{Space: q, Areas: areas, Close: q.Close}
	}, memtest.Want{
		Info: remora.Info{Ops: remora.StopAtFault | remora.Force, PtrSize: 8, Granule: uint32(os.Getpagesize()), Last: remora.MaxAddr, Live: true},
		Part: 7,
		Lacks: memtest.Lacks{
			Forced: "guest memory has no protection that could be overcome",
			Top:    "no machine has memory there",
			Peek:   "it cannot be written",
			Local:  "each read is a conversation with QEMU",
		},
	})
}

// TestPrinted reads what QEMU prints, where it cannot save.
func TestPrinted(t *testing.T) {
	f, areas := standard(t, pattern(4*os.Getpagesize(), 3))
	f.set(func() { f.say["pmemsave"] = `{"error": {"class": "GenericError", "desc": "not today"}}` })
	q, err := OpenQEMU(t.Context(), f.socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for _, a := range areas {
		buf := make([]byte, a.Size)
		if n, err := q.Memory().ReadAt(t.Context(), buf, a.Start); n != len(a.Data) || !bytes.Equal(buf[:n], a.Data) || (err == nil) != (n == len(buf)) {
			t.Errorf("%v: %d bytes, %v", a.Range, n, err)
		}
	}
	if text := factOf(t, q, "way"); !strings.Contains(text, "xp") || !strings.Contains(text, "not today") || f.commands("remove-fd") == "" {
		t.Errorf("the way is %q", text)
	}
}

// TestCutShort has the file of shared memory cut short under the mapping.
func TestCutShort(t *testing.T) {
	page := os.Getpagesize()
	b, file := shared(t, 0, "ram", pattern(4*page, 1))
	f := newFake(t, b)
	q := f.open(&QEMUOptions{})
	if err := file.Truncate(int64(2 * page)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4*page)
	n, err := q.Memory().ReadAt(t.Context(), buf, 0)
	if n != 2*page || err == nil {
		t.Errorf("%d bytes of %d were read, %v", n, 2*page, err)
	}
	if _, err := q.Memory().Uint8(t.Context(), remora.Addr(3*page)); err == nil {
		t.Error("a byte behind the end was read")
	}
	if v, err := q.Memory().Uint8(t.Context(), 5); err != nil || v != linux.BytesAt(uint64(b.region.Start)+5, 1)[0] {
		t.Errorf("a byte before the end: %d, %v", v, err)
	}
}
