// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// fuzz opens anything as an image and goes through what it says.
func fuzz(t *testing.T, b []byte, o *vmcore.Options) {
	m := open(t, "fuzz", b, o)
	if m == nil {
		return
	}
	defer m.Close()
	n := 0
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := m.Check(ctx, func(bad *remora.FormatError) {
		whole(t, bad, "bad")
		if n++; n == 1000 {
			cancel() // a file of lies can name each of its bytes many times
		}
	})
	if err != nil && ctx.Err() == nil {
		t.Error(err)
	}
}

// FuzzOpen opens anything as whatever it looks like; most seeds are ELF images.
func FuzzOpen(f *testing.F) {
	for _, b := range sound() {
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	for _, s := range testimage.Signatures() {
		f.Add(s.Header)
	}
	over := testimage.VMCore{Mem: &testimage.Physical{}, Flags: 1, ZeroProgs: 1, Extra: []testimage.Segment{
		{Paddr: 0x1000, Data: bytes.Repeat([]byte{1}, 100), Memsz: 0x2000},
		{Paddr: 0x1010, Data: bytes.Repeat([]byte{2}, 50)},
		{Paddr: 0x1000, Filesz: 0x1000, Memsz: 0x1000, Off: 1 << 40},
	}}
	f.Add(over.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) { fuzz(t, b, nil) })
}

// FuzzLiME opens anything as LiME.
func FuzzLiME(f *testing.F) {
	mem := scattered()
	f.Add(mem.LiME(testimage.LiMEOptions{}))
	f.Add(mem.LiME(testimage.LiMEOptions{AVML: true}))
	f.Add(mem.LiME(testimage.LiMEOptions{Ranges: []testimage.Range{{Start: 5, End: 9}, {Start: 7, End: 20}, {Start: 0, End: 30}}}))
	f.Add(mem.LiME(testimage.LiMEOptions{Ranges: []testimage.Range{{Start: 1 << 40, End: 1<<40 + 3}}, Header: func(_ int, h *testimage.LiMEHeader) { h.Last = 1<<64 - 1 }}))
	f.Fuzz(func(t *testing.T, b []byte) { fuzz(t, b, &vmcore.Options{Format: vmcore.LiME}) })
}
