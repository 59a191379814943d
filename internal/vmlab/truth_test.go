// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"reflect"
	"testing"

	"github.com/remora-go/remora/internal/vmlab/witness"
)

// kcore writes the headers of a /proc/kcore.
func kcore(loads ...elf.Prog64) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, elf.Header64{Phnum: uint16(len(loads))})
	binary.Write(&b, binary.LittleEndian, loads)
	b.WriteString("VMCOREINFO\x00\x00OSRELEASE=7\nNUMBER(x)=-1\nNUMBER(x)=2\n\x00")
	return b.Bytes()
}

func TestTruth(t *testing.T) {
	const load = uint32(elf.PT_LOAD)
	truth := &Truth{Files: map[string][]byte{
		"proc/kallsyms": []byte("ffffffff81000000 T _stext\nffffffffc0000010 t f\t[mod]\nx\n"),
		"pages/7":       []byte("1000 8100000000000005 400005828 1\n2000 4000000000000041 - -\n3000 0 - -\n"),
		"kcore.head": kcore(elf.Prog64{Type: load, Vaddr: 0xf000, Paddr: 0x1000, Memsz: 0x1000},
			elf.Prog64{Type: load, Vaddr: 0x80000, Paddr: 0, Memsz: 0x10000, Off: 1 << 63},
			elf.Prog64{Type: load, Vaddr: 0x900000, Paddr: ^uint64(0), Memsz: 0x100000}),
		"proc/vmallocinfo": []byte("0xffff1000-0xffff3000 8192 f+1/2 pages=1 vmalloc\n0xffff5000-0xffff6000 4096 ioremap\n"),
	}}
	symbols := []Symbol{{0xffffffff81000000, 'T', "_stext", ""}, {0xffffffffc0000010, 't', "f", "mod"}}
	if got := truth.Symbols(); !reflect.DeepEqual(got, symbols) {
		t.Errorf("symbols %+v", got)
	}
	pages := truth.Pages(7)
	if len(pages) != 3 || pages[0].Frame != 5 || pages[0].Count != 1 || !pages[0].Present() || pages[1].Present() {
		t.Errorf("pages %+v", pages)
	}
	if area, slot, ok := pages[1].Swap(); area != 1 || slot != 2 || !ok {
		t.Errorf("swap %d %d %v", area, slot, ok)
	}
	if _, _, ok := pages[2].Swap(); ok {
		t.Error("nothing is in swap")
	}
	if va, ok := truth.DirectMap(0x1800); va != 0x81800 || !ok {
		t.Errorf("direct map at 0x%x %v", va, ok)
	}
	if _, ok := truth.DirectMap(0x10000); ok {
		t.Error("direct map of what is not there")
	}
	if got := truth.VMCOREINFO(); got["OSRELEASE"] != "7" || got["NUMBER(x)"] != "-1" {
		t.Errorf("VMCOREINFO %v", got)
	}
	if got := truth.Vmalloc(); !reflect.DeepEqual(got, []Range{{0xffff1000, 0xffff3000}}) {
		t.Errorf("vmalloc %x", got)
	}
	empty := &Truth{}
	if _, ok := empty.DirectMap(0); ok || empty.VMCOREINFO() != nil || empty.Witness("x").Pid != 0 {
		t.Error("something in nothing")
	}
}

func TestFill(t *testing.T) {
	a, b := make([]byte, 9*4096+100), make([]byte, 9*4096)
	witness.Fill(a, 1)
	witness.Fill(b, 1)
	if !bytes.Equal(a[:len(b)], b) {
		t.Error("contents depend on the length")
	}
	witness.Fill(b, 2)
	if bytes.Equal(a[:4096], b[:4096]) {
		t.Error("contents do not depend on the seed")
	}
	if !bytes.Equal(a[3*4096:4*4096], make([]byte, 4096)) || bytes.Equal(a[:4096], a[4096:2*4096]) {
		t.Error("chunks are not as they should be")
	}
}
