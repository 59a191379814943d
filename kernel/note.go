// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"

	"github.com/remora-go/remora"
)

// A kernel keeps the note of its VMCOREINFO at the beginning of pages of its own
// (crash_save_vmcoreinfo_init in the kernel's kernel/vmcore_info.c), for the machine's
// dumps. Copies of its text elsewhere are not taken for it.
const (
	noteName = "VMCOREINFO\x00"
	noteHead = 12                               // namesz, descsz, type
	noteText = noteHead + (len(noteName)+3)&^3  // where the text begins
	mostNote = 64 << 10                         // bytes of text: a page, of whatever size
	notePage = 4096                             // the least that it is aligned to
	noteSeen = noteText + len("OSRELEASE=") + 2 // of it, what is looked at first
)

// isNote says whether b begins with the note, and gives the size of its text.
func isNote(b []byte) (size int, ok bool) {
	if len(b) < noteSeen {
		return 0, false
	}
	le := binary.LittleEndian
	size = int(le.Uint32(b[4:]))
	return size, le.Uint32(b) == uint32(len(noteName)) && le.Uint32(b[8:]) == 0 && size > 0 && size <= mostNote &&
		string(b[noteHead:noteHead+len(noteName)]) == noteName
}

// readNote reads the note at a physical address, nil if there is none, or it cannot be
// read whole.
func readNote(ctx context.Context, phys remora.Space, at remora.Addr) *VMCoreInfo {
	head := make([]byte, noteSeen)
	if !readPhys(ctx, phys, at, head) {
		return nil
	}
	size, ok := isNote(head)
	if !ok {
		return nil
	}
	text := make([]byte, size)
	if !readPhys(ctx, phys, at+remora.Addr(noteText), text) {
		return nil
	}
	return noteInfo(text)
}

// noteInfo reads a text that should be VMCOREINFO, nil if it is something else.
func noteInfo(text []byte) *VMCoreInfo {
	v := ParseVMCoreInfo(text)
	if v.Release() == "" || len(v.Problems) > len(v.Lines)/4 {
		return nil
	}
	return v
}

// ReadVMCoreInfo reads what a user has of VMCOREINFO: the text, or the note with the text.
// It is nil for what is neither.
func ReadVMCoreInfo(b []byte) *VMCoreInfo {
	if size, ok := isNote(b); ok {
		b = b[noteText:min(len(b), noteText+size)]
	}
	return noteInfo(b)
}

// readPhys fills b from a physical address, or says that it could not.
func readPhys(ctx context.Context, phys remora.Space, at remora.Addr, b []byte) bool {
	segs := [1]remora.Seg{{Addr: at, Buf: b}}
	_, err := phys.Transfer(ctx, remora.Read, segs[:])
	return err == nil
}

// trace is something in memory that may lead to a kernel.
type trace struct {
	at   remora.Addr
	note bool // VMCOREINFO; otherwise the tokens of kallsyms for the digits
}

// digits are the tokens for the characters '0' to '9' in the token table of kallsyms. They
// stand for themselves, as each of them is in the names of symbols.
const digits = "0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00"

// traces looks for both.
func traces(at remora.Addr, b []byte, own int) (all []trace) {
	for i := int(-at & (notePage - 1)); i < own; i += notePage {
		if _, ok := isNote(b[i:]); ok {
			all = append(all, trace{at + remora.Addr(i), true})
		}
	}
	for i := range matches(b, own, digits) {
		all = append(all, trace{at + remora.Addr(i), false})
	}
	return all
}

// matches gives where text begins in the first own bytes of b.
func matches(b []byte, own int, text string) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := 0; i < own; i++ {
			n := bytes.Index(b[i:], []byte(text))
			if n < 0 || i+n >= own {
				return
			}
			if i += n; !yield(i) {
				return
			}
		}
	}
}
