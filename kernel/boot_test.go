// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// Where in its image a kernel has what.
const (
	atBanner = 0x1000
	atNote   = 0x2000 // the pointer vmcoreinfo_note
	atDirect = 0x2008 // page_offset_base
	atMask   = 0x2010 // sme_me_mask
	atTop    = 0x80000
	atTables = 0x100000 // of kallsyms
)

// release is that of every sample.
const release = "6.12.1-test"

// tell puts what a kernel has of itself into its image: the banner, kallsyms, and behind a
// pointer into the direct map the note of VMCOREINFO.
func (m *machine) tell(order, encoding string, data bool) {
	m.mem.Write(m.load+atBanner, []byte("Linux version "+release+" (builder@host) #1\n\x00"))
	k := &testimage.Kallsyms{Encoding: encoding, Order: order, Seqs: 3}
	add := func(off uint64, name string) {
		k.Symbols = append(k.Symbols, testimage.KallsymsSymbol{Addr: m.text + off, Type: 'T', Name: name})
	}
	add(0, "_stext")
	add(0, "_text")
	for i := range uint64(1500) {
		add(0x3000+0x20*i, fmt.Sprintf("function_%d_of_it", 1234567*i))
	}
	if data {
		add(atBanner, "linux_banner")
		add(atNote, "vmcoreinfo_note")
		add(atDirect, "page_offset_base")
		add(atMask, "sme_me_mask")
		add(imageBytes, "_end")
		add(atTop, map[string]string{"x86-64": "init_top_pgt"}[m.mode.Arch])
		if last := &k.Symbols[len(k.Symbols)-1]; last.Name == "" {
			last.Name = "swapper_pg_dir"
		}
	}
	slices.SortStableFunc(k.Symbols, func(a, b testimage.KallsymsSymbol) int { return cmp.Compare(a.Addr, b.Addr) })
	image, _ := k.Put(m.text + atTables)
	m.mem.Write(m.load+atTables, image)
}

// note puts VMCOREINFO where the kernel keeps it, and the pointer to it. It gives the
// physical address.
func (m *machine) note(text []byte) uint64 {
	page := uint64(1) << m.mode.PageShift
	at := m.load + 0x1000000
	note := testimage.Core{Notes: []testimage.Note{testimage.VMCoreInfoNote(text)}}
	m.mem.Write(at, note.NoteBytes())
	direct := -(uint64(1) << (m.mode.VABits - 1)) + 1<<30
	if m.mode.Arch == "arm64" {
		direct = -(uint64(1) << m.mode.VABits)
	}
	m.tables.Map(direct+at, at, page)
	m.mem.Put64(m.load+atNote, direct+at, binary.LittleEndian)
	return at
}

// text writes VMCOREINFO.
func (m *machine) infoText() []byte {
	var b strings.Builder
	for _, l := range m.vmcoreinfo().Lines {
		fmt.Fprintf(&b, "%s=%s\n", l.Key, l.Value)
	}
	return []byte(b.String())
}

func TestBootByAScannedNote(t *testing.T) {
	for _, mode := range testimage.TableModes() {
		m := newMachine(mode)
		at := m.note(m.infoText())
		found, err := find(t.Context(), m.space(t), &Hints{}, nil)
		if err != nil || uint64(found.Root) != m.root || found.ImageBase != m.load-m.text || found.Machine != m.name ||
			found.Info.Release() != release || !strings.Contains(found.InfoFrom, hex(at)) {
			t.Errorf("%v: %+v, %v", mode, found, err)
		}
	}
}

// layouts are the orders and encodings that kernels have had.
var layouts = [][2]string{{"old", "base"}, {"old", "percpu"}, {"old", "absolute"}, {"new", "base"}, {"new", "percpu"}, {"7.0", "place"}}

func TestBootByKallsyms(t *testing.T) {
	for i, mode := range testimage.TableModes() {
		for j, l := range layouts {
			if (i+j)%6 != 0 && i > 0 {
				continue // each with some
			}
			m := newMachine(mode)
			m.tell(l[0], l[1], true)
			// Without the note, and then with one that is found by its symbol alone.
			for _, with := range []bool{false, true} {
				h := &Hints{Machine: m.name}
				if with {
					m.note([]byte("OSRELEASE=" + release + "\nPAGESIZE=4096\n"))
				}
				found, err := find(t.Context(), m.space(t), h, nil)
				if err != nil || uint64(found.Root) != m.root || found.ImageBase != m.load-m.text || found.Machine != m.name || (found.Info != nil) != with {
					t.Errorf("%v, %v, with a note %v: %+v, %v", mode, l, with, found, err)
					continue
				}
				if !strings.Contains(strings.Join(found.Checked, ";"), "linux_banner names "+release) {
					t.Errorf("%v: checked: %v", mode, found.Checked)
				}
				k := New(m.space(t), "sample", h)
				if s, err := k.symbol(t.Context(), "vmcoreinfo_note"); err != nil || uint64(s) != m.text+atNote {
					t.Errorf("%v, %v: vmcoreinfo_note at %v, %v", mode, l, s, err)
				}
				k.Close()
			}
		}
	}
}

// Where nothing says what machine it is, all forms of tables are tried.
func TestBootOfAnUnknownMachine(t *testing.T) {
	for _, i := range []int{0, 1, 3, 13} {
		for _, l := range layouts[3:] {
			m := newMachine(testimage.TableModes()[i])
			m.tell(l[0], l[1], true)
			found, err := find(t.Context(), m.space(t), &Hints{}, nil)
			if err != nil || uint64(found.Root) != m.root || found.Machine != m.name || found.ImageBase != m.load-m.text {
				t.Errorf("%v, %v: %+v, %v", m.mode, l, found, err)
			}
		}
	}
}

// AMD's encryption of memory marks each entry with a bit, which sme_me_mask tells.
func TestBootOfEncryptedMemory(t *testing.T) {
	const mask = 1 << 47
	for _, l := range layouts[3:] {
		m := newMachine(testimage.TableModes()[0])
		m.tell(l[0], l[1], true)
		m.mem.Put64(m.load+atMask, mask, binary.LittleEndian)
		for at := m.root; at < m.tables.Next; at += 8 {
			page, _ := m.mem.Page(at >> 12)
			if e := binary.LittleEndian.Uint64(page[at&0xfff:]); e&1 != 0 {
				m.mem.Put64(at, e|mask, binary.LittleEndian)
			}
		}
		for _, cpus := range [][]CPU{nil, {m.cpu(m.root | mask)}} {
			found, err := find(t.Context(), m.space(t), &Hints{CPUs: cpus}, nil)
			if err != nil || uint64(found.Root) != m.root || found.ImageBase != m.load-m.text {
				t.Errorf("%v: %+v, %v", l, found, err)
			}
		}
	}
}

// A kernel without CONFIG_KALLSYMS_ALL lists no data: its top table is searched for.
func TestBootByPages(t *testing.T) {
	for _, mode := range testimage.TableModes() {
		m := newMachine(mode)
		m.tell("new", "base", false)
		found, err := find(t.Context(), m.space(t), &Hints{Machine: m.name}, nil)
		if mode.Arch == "arm64" && mode.VABits < 39 {
			continue // a form that hardly any kernel has
		}
		if err != nil || uint64(found.Root) != m.root || found.ImageBase != m.load-m.text {
			t.Errorf("%v: %+v, %v", mode, found, err)
		}
	}
	// Relative to their place, such symbols say too little.
	m := newMachine(testimage.TableModes()[0])
	m.tell("7.0", "place", false)
	if found, err := find(t.Context(), m.space(t), &Hints{Machine: m.name}, nil); err == nil || !strings.Contains(err.Error(), "lists no symbols of data") {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestBootByRegisters(t *testing.T) {
	for _, l := range layouts {
		m := newMachine(testimage.TableModes()[1])
		m.tell(l[0], l[1], true)
		at := m.note([]byte("OSRELEASE=" + release + "\n"))
		task := testimage.NewTables(m.mem, m.mode, 0x20000000)
		for at := uint64(0); at < imageBytes; at += 4096 {
			task.Map(m.text+at, m.load+at, 4096)
		}
		found, err := find(t.Context(), m.space(t), &Hints{Machine: elf.EM_X86_64, CPUs: []CPU{m.cpu(task.Root)}}, nil)
		if err != nil || uint64(found.Root) != m.root || found.Info == nil || !strings.Contains(found.How, "CR3 "+hex(task.Root)) || !strings.Contains(found.InfoFrom, hex(at)) {
			t.Errorf("%v: %+v, %v", l, found, err)
		}
	}
}

// A kernel is where its release is: what else VMCOREINFO says does not count then.
func TestBootHoldsTheReleaseAgainstMemory(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	m.info["SYMBOL(init_uts_ns)"] = fmt.Sprintf("%x", m.text+0x4000)
	m.info["OFFSET(uts_namespace.name)"] = "4"
	m.mem.Write(m.load+0x4004+2*unameLen, []byte("5.4.0-other\x00"))
	_, err := find(t.Context(), m.space(t), m.hints(), nil)
	if !errors.Is(err, remora.ErrNoTable) || !strings.Contains(err.Error(), `"5.4.0-other", not "6.12.1-test"`) {
		t.Errorf("got %v", err)
	}
	m.mem.Write(m.load+0x4004+2*unameLen, []byte(release+"\x00"))
	if found, err := find(t.Context(), m.space(t), m.hints(), nil); err != nil || len(found.Checked) != 2 {
		t.Errorf("%+v, %v", found, err)
	}
}

func TestBootPassesOverBogusNotes(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	right := m.note(m.infoText())
	put := func(at uint64, size uint32, text string) {
		b := binary.LittleEndian.AppendUint32([]byte{11, 0, 0, 0}, size)
		m.mem.Write(at, append(append(b, 0, 0, 0, 0), "VMCOREINFO\x00\x00"+text...))
	}
	put(0x1000, 1<<31, "OSRELEASE=6.12.1\n")
	put(0x3000, 0, "OSRELEASE=6.12.1\n")
	put(0x5000, 100, strings.Repeat("\xff\xfe", 50))
	put(0x7000, 100, "OSRELEASE=%s\nPAGESIZE=%d\nSYMBOL(_stext)=%lx\nOFFSET(a.b)=%d\n")
	put(0x9000, 1<<20, "OSRELEASE=6.12.1\n")      // the end is not saved
	m.mem.Write(0xb010, m.infoText())             // a copy that is not at a page
	other := machineAt(m.mode, 0x6000000, m.info) // of a kernel that was before
	other.info["NUMBER(phys_base)"] = "-1234"     //
	put(0xd000, uint32(len(other.infoText())), string(other.infoText()))
	found, err := find(t.Context(), m.space(t), &Hints{}, nil)
	if err != nil || uint64(found.Root) != m.root || !strings.Contains(found.InfoFrom, hex(right)) {
		t.Errorf("%+v, %v", found, err)
	}
	// Without the right one the error tells of that which came nearest.
	m.mem.Write(right, make([]byte, 64))
	_, err = find(t.Context(), m.space(t), &Hints{}, nil)
	if !errors.Is(err, remora.ErrNoTable) || !strings.Contains(err.Error(), "0xd000") || !strings.Contains(err.Error(), hex(1<<64-1234)) {
		t.Errorf("got %v", err)
	}
}

// What a user gives is taken at its word, and nothing else is looked for.
func TestBootByWhatIsGiven(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	m.note(m.infoText())
	h := &Hints{Given: true, InfoFrom: "a file", VMCoreInfo: ReadVMCoreInfo(m.infoText())}
	if found, err := find(t.Context(), m.space(t), h, nil); err != nil || found.InfoFrom != "a file" {
		t.Errorf("%+v, %v", found, err)
	}
	note := testimage.Core{Notes: []testimage.Note{testimage.VMCoreInfoNote(m.infoText())}}
	if v := ReadVMCoreInfo(note.NoteBytes()); v.Release() != release || len(v.Lines) != len(m.info) {
		t.Errorf("of a note: %+v", v)
	}
	m.info["NUMBER(phys_base)"] = "-1234"
	h.VMCoreInfo = m.vmcoreinfo()
	if found, err := find(t.Context(), m.space(t), h, nil); !errors.Is(err, remora.ErrNoTable) {
		t.Errorf("%+v, %v", found, err)
	}
	for _, bad := range []string{"", "words", "KEY=VALUE\n", "\x7fELF", "OSRELEASE=6\nSYMBOL(a)=z\nSYMBOL(b)=z\n"} {
		if v := ReadVMCoreInfo([]byte(bad)); v != nil {
			t.Errorf("%q: %+v", bad, v)
		}
	}
}

// Tables that lead back to themselves, and CR3 of nonsense, end.
func TestBootOfCyclicTables(t *testing.T) {
	for _, i := range []int{0, 1, 8, 13} {
		mode := testimage.TableModes()[i]
		m := newMachine(mode)
		m.tell("7.0", "place", true)
		page := make([]byte, 1<<mode.PageShift)
		for i := 0; i < len(page); i += 8 {
			binary.LittleEndian.PutUint64(page[i:], mode.Table(m.root))
		}
		m.mem.Write(m.root, page)
		h := &Hints{Machine: m.name}
		if m.name == elf.EM_X86_64 {
			h.CPUs = []CPU{m.cpu(m.root)}
		}
		if found, err := find(t.Context(), m.space(t), h, nil); err == nil {
			t.Errorf("%v: %+v", mode, found)
		}
	}
}

func TestBootHeedsItsContext(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	m.tell("new", "base", true)
	for n := 0; n < 200; n += 7 {
		ctx := &countdown{Context: t.Context(), left: n}
		if _, err := find(ctx, m.space(t), &Hints{}, nil); err == nil {
			return
		} else if !errors.Is(err, context.Canceled) {
			t.Fatalf("after %d looks: %v", n, err)
		}
	}
}
