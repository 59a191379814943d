// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/binary"
	"slices"

	"github.com/remora-go/remora/internal/testimage"
)

// imageLogInfo is what VMCOREINFO says of the log that addLog writes, with a time of a crash.
const imageLogInfo = `CRASHTIME=1700000000
EVIL=` + "\x1b[2J" + `
SYMBOL(prb)=ffffffff81010000
` + testimage.LogLayout

// addLog writes a log of the machine that scripts have images of: four messages, of which
// the text of the last one begins a page, which is left out.
func addLog(mem *testimage.Physical) {
	const at, descs, infos, text = 0x10000, 0x11000, 0x12000, 0x13000
	word := func(v uint64) []byte { return binary.LittleEndian.AppendUint64(nil, v) }
	write := func(off uint64, parts ...[]byte) { mem.Write(imageLoad+off, slices.Concat(parts...)) }
	write(at, word(imageText+at+8), word(3), word(imageText+descs), word(imageText+infos), word(3), word(0), word(0),
		word(13), word(imageText+text), word(0), word(0), word(0))
	lpos := uint64(0)
	for i, m := range []struct {
		level, facility byte
		text, device    string
	}{
		{5, 0, "Linux version 6.12.0-script", ""},
		{6, 0, "two\nlines\x1b[2J", "+pci:0000:00:02.0"},
		{3, 3, "trouble", ""},
		{0, 0, "the end", ""},
	} {
		id := uint64(i)
		if id == 3 {
			lpos = 4096
		}
		next := (lpos + 8 + uint64(len(m.text)) + 7) &^ 7
		write(text+lpos, word(id), []byte(m.text))
		write(descs+24*id, word(id|2<<62), word(lpos), word(next))
		caller := []byte{1, 0, 0, 0}
		if m.device != "" {
			caller[3] = 0x80
			write(infos+88*id+24, []byte("pci"))
			write(infos+88*id+40, []byte(m.device))
		}
		write(infos+88*id, word(id), word(id*1234567890), []byte{byte(len(m.text)), 0, m.facility, m.level << 5}, caller)
		lpos = next
	}
	mem.Mark((imageLoad+text+4096)/4096, 1, testimage.Excluded)
}
