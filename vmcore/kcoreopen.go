// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// KcoreOptions say how the memory of the running system is opened. Nil is the same as the
// zero KcoreOptions.
type KcoreOptions struct {
	// Write opens /dev/mem besides, through which Linux lets physical memory be written
	// where it was built to. Most kernels were not (CONFIG_STRICT_DEVMEM), and a kernel
	// that is locked down never does. Open fails then, with a *remora.AccessError that
	// says which it is.
	Write bool
}

// OpenKcore opens the physical memory of the running system, through /proc/kcore, as an
// Image that is Live. It is for Linux since 4.11, and for root with CAP_SYS_RAWIO: what
// refuses is said by a *remora.AccessError. See the package comment for what it can tell.
func OpenKcore(o *KcoreOptions) (*Image, error) {
	if o == nil {
		o = &KcoreOptions{}
	}
	return openKcore(o)
}

// infoAt takes VMCOREINFO from where /sys/kernel/vmcoreinfo says that its note is: "ADDRESS
// SIZE", the physical address and the bytes, both hexadecimal. /proc/kcore has had the note
// itself since Linux 4.19.
func (k *kcore) infoAt(text string) {
	bad := func(why string) {
		k.notes.bad(&remora.FormatError{File: "/sys/kernel/vmcoreinfo", Want: "the address and the size of a note", Got: why, Err: remora.ErrCorrupt})
	}
	var at, size uint64
	if n, err := fmt.Sscanf(strings.TrimSpace(text), "%x %x", &at, &size); n != 2 {
		bad(fmt.Sprintf("%.40q (%v)", text, err))
		return
	}
	if size > maxDesc {
		bad(fmt.Sprintf("a note of %d bytes", size))
		return
	}
	b := make([]byte, size)
	for n := 0; n < len(b); {
		got, err := k.Move(context.Background(), remora.Read, remora.Addr(at)+remora.Addr(n), b[n:])
		if n += got; got == 0 {
			bad(fmt.Sprintf("0x%x, where memory cannot be read (%v)", at+uint64(n), errors.Join(err)))
			return
		}
	}
	for note, err := range elfcore.NotesIn(b, 0, k.base.file.Order(), k.name) {
		if err != nil {
			bad(err.Error())
			return
		}
		if note.Owner == vmcoreinfo {
			x := Note{Owner: note.Owner, Type: note.Type, Offset: -1, Size: note.Size, Desc: b[note.Off:][:note.Size]}
			if err := k.notes.take(&source{name: k.name}, x, k.base.file.Order(), k.base.file.Machine); err != nil {
				bad(err.Error())
			}
			return
		}
	}
	bad("no note VMCOREINFO there")
}
