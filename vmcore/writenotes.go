// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// order gives the byte order of the new image.
func (wr *writing) order() interface {
	binary.ByteOrder
	binary.AppendByteOrder
} {
	if wr.c.Meta.BigEndian {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// vmcoreinfo is the owner of the note with that text.
const vmcoreinfo = "VMCOREINFO"

// maxNotes bounds the notes of an image, as its readers do.
const maxNotes = 64 << 20

// notes gives the notes as they stand in the file, and where among them the text of
// VMCOREINFO lies. One is made of the text where the source has no such note.
func (wr *writing) notes() (b []byte, at, size int, err error) {
	list := wr.c.Meta.Notes
	seen := false
	for i := range list {
		seen = seen || list[i].Owner == vmcoreinfo
	}
	if text := wr.c.Meta.VMCoreInfo; !seen && text != nil {
		list = append(list[:len(list):len(list)], Note{Owner: vmcoreinfo, Desc: text})
	}
	order := wr.order()
	for _, n := range list {
		if n.Desc == nil && n.Size > 0 {
			wr.out.NotesLeft++
			continue
		}
		owner := n.Owner
		if owner != "" {
			owner += "\x00"
		}
		if len(b)+len(n.Desc)+len(owner) > maxNotes {
			return nil, 0, 0, fmt.Errorf("more than %d bytes of notes: %w", maxNotes, errors.ErrUnsupported)
		}
		b = order.AppendUint32(b, uint32(len(owner)))
		b = order.AppendUint32(b, uint32(len(n.Desc)))
		b = order.AppendUint32(b, n.Type)
		b = padded(append(b, owner...))
		if n.Owner == vmcoreinfo && size == 0 {
			at, size = len(b), len(n.Desc)
		}
		b = padded(append(b, n.Desc...))
	}
	return b, at, size, nil
}

// padded pads to 4 bytes.
func padded(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
