// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/proc"
)

// scene is one step before it is taken. act gives nil when all went as about says.
type scene struct {
	title, about string
	act          func(*demonstration, *demoStep) error
}

func scenes() []scene {
	return []scene{
		{"What is mapped", "The regions of the process, as the kernel lists them; of all its memory only the part that was laid out for this.",
			(*demonstration).showMaps},
		{"One read across holes", "Many ranges in one call. Each says for itself how many bytes came, the exact address where it " +
			"stopped, and why. What is missing is never made up.", (*demonstration).showRead},
		{"A write that the process sees", "Bytes are written from outside; then the process is asked to load them itself.",
			(*demonstration).showWrite},
		{"A forced write into read-only text", "What a debugger does to set a breakpoint. Without --force the protection of the page holds.",
			(*demonstration).showForce},
		{"A read that brings nothing into memory", "An ordinary read of memory that was never touched makes the kernel put pages " +
			"there. With --resident only what is present is read, and the page table of the process stays as it is.",
			(*demonstration).showResident},
		{"A refusal that explains itself", "Somebody who may not read the process is told which rule refused, and what would help.",
			(*demonstration).showRefusal},
	}
}

func (d *demonstration) showMaps(st *demoStep) error {
	out, complaint, code := d.run(st, "maps", d.pid())
	if code != 0 {
		return exited(code, 0, out, complaint)
	}
	m, _ := remora.As[remora.Mapper](d.target)
	var regs []remora.Region
	for reg, err := range m.Regions(d.ctx) {
		if err != nil {
			return err
		}
		regs = append(regs, reg)
	}
	for _, p := range d.parts {
		perm, line := "", ""
		for _, reg := range regs {
			if reg.Contains(p.rng.Start) && reg.Contains(p.rng.Last()) {
				perm = permText(&proc.Usage{Region: reg})
				line = fmt.Sprintf("%08x-%08x %s", uint64(reg.Start), uint64(reg.Last()+1), perm)
			}
		}
		st.say("%x-%x %-4s %3d KiB  %s", uint64(p.rng.Start), uint64(p.rng.Last()+1), perm, p.rng.Size>>10, p.what)
		if perm != p.perm || !strings.Contains(out, line) {
			return fmt.Errorf("%v has the permissions %q, not %q", p.rng, perm, p.perm)
		}
	}
	if f, missing := d.lacks["guard pages"]; missing {
		st.say("(There is no guard page among them, or it is not recognized: %s.)", f.Why)
	}
	return nil
}

// ask is a range to be read, and what is to come of it.
type ask struct {
	rng   remora.Range
	want  []byte
	cause remora.Cause // 0: none
	hides string       // the facility without which the cause stays open
}

// asks gives the ranges of showRead: each begins in good memory, and some run into what
// cannot be read.
func (d *demonstration) asks() []ask {
	var all []ask
	add := func(k specimen.Kind, off, size, good uint64, c remora.Cause, hides string) {
		for i, p := range d.parts {
			if k == specimen.Guard && p.Kind == k { // it is read into from the part before it
				p = d.parts[i-1]
			} else if p.Kind != k {
				continue
			}
			want := d.s.Contents(p.Kind, p.rng)[off : off+good]
			all = append(all, ask{remora.Range{Start: p.rng.Start + remora.Addr(off), Size: size}, want, c, hides})
			return
		}
	}
	add(specimen.Touched, 2*d.page-16, 48, 16, remora.ErrUnmapped, "")
	add(specimen.ReadOnly, 0x100, 32, 32, 0, "")
	add(specimen.ReadOnly, d.page-8, 16, 8, remora.ErrProtected, "")
	add(specimen.Untouched, 0, 64, 64, 0, "")
	add(specimen.SharedMemory, 0, 16, 16, 0, "")
	add(specimen.PrivateFile, 0, 16, 16, 0, "")
	add(specimen.FileEnd, d.page-24, 64, 24, remora.ErrBeyondEOF, "map_files")
	add(specimen.Guard, d.page-5, 16, 5, remora.ErrGuard, "guard pages")
	return all
}

func (d *demonstration) showRead(st *demoStep) error {
	asks := d.asks()
	segs := make([]remora.Seg, len(asks))
	args := []string{"read", d.pid()}
	for i, a := range asks {
		segs[i] = remora.Seg{Addr: a.rng.Start, Buf: make([]byte, a.rng.Size)}
		args = append(args, fmt.Sprintf("%v+%d", a.rng.Start, a.rng.Size))
	}
	_, _ = d.target.Memory().ReadV(d.ctx, segs) // each segment has its own result
	_, complaint, code := d.run(st, args...)
	open := map[string]bool{} // facilities that would have told a cause
	st.say("%-14s %5s %5s   %-14s %s", "from", "asked", "came", "stopped at", "because")
	for i := range segs {
		s, a := &segs[i], &asks[i]
		at, why := "", ""
		if s.Err != nil {
			at, why = (s.Addr + remora.Addr(s.N)).String(), s.Err.Error()
		}
		st.say("%-14v %5d %5d   %-14s %s", s.Addr, len(s.Buf), s.N, at, why)
		if err := a.check(s, d.lacks); err != nil {
			return err
		}
		if s.Err == remora.ErrFault {
			open[a.hides] = true
		}
		if at != "" && !strings.Contains(complaint, ":"+at+": "+why) {
			return fmt.Errorf("remora read does not tell of the fault at %s: %s", at, complaint)
		}
	}
	for name := range open {
		st.say("(One cause stays open, for %s cannot be used: %s.)", name, d.lacks[name].Why)
	}
	if code != missing.code {
		return exited(code, missing.code, "", complaint)
	}
	st.say("By hand it is a dump with ?? for each byte that is missing, these faults on stderr, and the exit code %d.", code)
	return nil
}

// check holds a result against what was to come.
func (a *ask) check(s *remora.Seg, lacks map[string]proc.Facility) error {
	want := error(nil)
	if a.cause != 0 {
		want = a.cause
	}
	if _, missing := lacks[a.hides]; missing && s.Err == remora.ErrFault {
		want = s.Err
	}
	switch {
	case s.N != len(a.want) || s.Err != want:
		return fmt.Errorf("%v: %d bytes came and then %v, not %d and %v", a.rng, s.N, s.Err, len(a.want), want)
	case !bytes.Equal(s.Buf[:s.N], a.want):
		return fmt.Errorf("%v: other bytes came than are there", a.rng)
	}
	return nil
}

// sees has the process itself load what is at an address.
func (d *demonstration) sees(a remora.Addr, want []byte) error {
	got := make([]byte, len(want))
	if err := d.s.Peek(got, a); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("the process finds %x at %v, not %x", got, a, want)
	}
	return nil
}

func (d *demonstration) showWrite(st *demoStep) error {
	p, _ := d.part(specimen.Touched)
	const text = "hello from outside"
	out, complaint, code := d.run(st, "write", d.pid(), p.rng.Start.String(), "--str", text)
	st.say("%s%s", out, complaint)
	if code != 0 {
		return exited(code, 0, out, complaint)
	}
	if err := d.sees(p.rng.Start, []byte(text)); err != nil {
		return err
	}
	st.say("The process itself loads %q there.", text)
	return nil
}

func (d *demonstration) showForce(st *demoStep) error {
	p, _ := d.part(specimen.Text)
	at := p.rng.Start + 0x10
	before := d.s.Contents(specimen.Text, p.rng)[0x10:0x11]
	breakpoint := []byte{before[0] ^ 0xff}
	if before[0] != 0xcc {
		breakpoint[0] = 0xcc
	}
	args := []string{"write", d.pid(), at.String(), "--hex", fmt.Sprintf("%02x", breakpoint)}
	out, complaint, code := d.run(st, args...)
	st.say("%s%s(exit code %d)", out, complaint, code)
	if code != missing.code {
		return exited(code, missing.code, out, complaint)
	}
	if err := d.sees(at, before); err != nil {
		return err
	}
	out, complaint, code = d.run(st, append(args, "--force")...)
	st.say("%s%s", out, complaint)
	if f, restricted := d.lacks["forced writes"]; restricted && code != 0 {
		return &cannot{f.Why + ", and ptrace does not help either"}
	}
	if code != 0 {
		return exited(code, 0, out, complaint)
	}
	if err := d.sees(at, breakpoint); err != nil {
		return err
	}
	st.say("The process itself loads %02x there.", breakpoint)
	return nil
}

// entries reads what the page table of the process says, 8 bytes a page
// (Documentation/admin-guide/mm/pagemap.rst of the kernel).
func (d *demonstration) entries(r remora.Range) (raw []byte, present int, err error) {
	f, err := os.Open("/proc/" + d.pid() + "/pagemap")
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	raw = make([]byte, 8*r.Size/d.page)
	if _, err := f.ReadAt(raw, 8*int64(uint64(r.Start)/d.page)); err != nil {
		return nil, 0, err
	}
	const bitPresent = 1 << 63
	for i := 0; i < len(raw); i += 8 {
		if binary.NativeEndian.Uint64(raw[i:])&bitPresent != 0 {
			present++
		}
	}
	return raw, present, nil
}

func (d *demonstration) showResident(st *demoStep) error {
	if d.target.Memory().Info().Ops&remora.Resident == 0 {
		return &cannot{"/proc/PID/pagemap cannot be opened"}
	}
	ranges, err := d.s.Layout(specimen.Piece{Kind: specimen.Touched, Pages: 1},
		specimen.Piece{Kind: specimen.Untouched, Pages: 2}, specimen.Piece{Kind: specimen.UnreadFile, Pages: 2})
	if err != nil {
		return err
	}
	all := remora.Between(ranges[0].Start, ranges[2].Last()+1)
	pages := int(all.Size / d.page)
	before, had, err := d.entries(all)
	if err != nil {
		return err
	}
	from := ranges[0].Last() - 15 // the last line of what is present
	span := fmt.Sprintf("%v+%d", from, uint64(all.Last()-from)+1)
	out, complaint, code := d.run(st, "read", d.pid(), span, "--resident")
	st.say("%s%s", out, complaint)
	after, has, err := d.entries(all)
	if err != nil {
		return err
	}
	if code != missing.code || !strings.Contains(complaint, remora.ErrNotPresent.Error()) {
		return exited(code, missing.code, out, complaint)
	}
	if !bytes.Equal(before, after) || had != 1 || has != 1 {
		return fmt.Errorf("the page table has changed: %d pages were present, and now %d", had, has)
	}
	st.say("Of these %d pages %d was present before, and %d is now: every entry of the page table is the same.", pages, had, has)
	out, complaint, code = d.run(st, "read", d.pid(), span, "--raw", "-o", os.DevNull)
	if code != 0 {
		return exited(code, 0, out, complaint)
	}
	_, has, err = d.entries(all)
	if err != nil {
		return err
	}
	if has != pages {
		return fmt.Errorf("after an ordinary read %d of %d pages are present", has, pages)
	}
	st.say("After an ordinary read of the same range %d are present.", has)
	return nil
}

func (d *demonstration) showRefusal(st *demoStep) error {
	p, _ := d.part(specimen.Touched)
	args := []string{"read", d.pid(), p.rng.Start.String()}
	out, code, ok := "", 0, false
	var err error
	if os.Geteuid() == 0 {
		out, code, ok = d.readByNobody(st, args)
	}
	if !ok {
		out, code, err = d.readHidden(st, args)
	}
	if err != nil {
		return err
	}
	st.say("%s(exit code %d)", out, code)
	switch {
	case code == 0 && !ok:
		return &cannot{"this program may read it even so, and cannot become somebody who may not"}
	case code != notAllowed.code:
		return exited(code, notAllowed.code, out, "")
	case !strings.Contains(out, "not permitted to read"):
		return errors.New("it does not say what was refused")
	}
	return nil
}

// readByNobody reads as somebody else, with no capabilities. ok is false where this
// cannot be had.
func (d *demonstration) readByNobody(st *demoStep, args []string) (out string, code int, ok bool) {
	const nobody = 65534
	o := &specimen.RunOptions{As: &specimen.Identity{UID: nobody, GID: nobody}}
	text, err := specimen.Run(d.ctx, o, readerJob, args...)
	end := strings.LastIndexByte(text, '\n')
	if err == nil {
		code, err = strconv.Atoi(text[end+1:])
	}
	if err != nil {
		st.say("(uid %d cannot run this program here: %v. So the process hides itself instead.)", nobody, err)
		return "", 0, false
	}
	st.typed("setpriv --reuid=65534 --regid=65534 --clear-groups " + commandLine(args))
	return text[:end], code, true
}

// readHidden has the process hide itself, and tries to read it.
func (d *demonstration) readHidden(st *demoStep, args []string) (out string, code int, err error) {
	if err := d.s.Dumpable(false); err != nil {
		return "", 0, err
	}
	st.say("The process has called prctl(PR_SET_DUMPABLE, 0).")
	out, complaint, code := d.run(st, args...)
	return out + complaint, code, d.s.Dumpable(true)
}
