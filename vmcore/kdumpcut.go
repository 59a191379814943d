// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"errors"

	"github.com/remora-go/remora"
)

// cutTail is how much in front of the data is looked at for the last descriptors, besides
// a page of zeros.
const cutTail = 4 << 10

// cutOff says what p lacks at its end, nil if that is nothing that two small reads tell:
// one of the first descriptor, one of those in front of the data that it points to. No
// header says how many descriptors there are, and to count bits takes all of a bitmap.
//
// makedumpfile and QEMU put a page of zeros first, and let all pages of zeros point there:
// data of the first page begin where the descriptors end, or a page behind.
func (k *kdump) cutOff(p *kdumpPart) error {
	at := k.head.descOff()
	if at < p.src.size && p.src.size < at+kdumpDescSize {
		return p.src.cut(at, "a page descriptor")
	}
	var raw [kdumpDescSize]byte
	if p.src.load(raw[:], at) != nil {
		return nil // there need be no descriptor
	}
	first := k.parseDesc(raw[:], at)
	if !k.plausible(p, &first, raw[:]) {
		return nil
	}
	if first.off > p.src.size {
		return asError(k.badDesc(p, &first))
	}
	table := (first.off - at) / kdumpDescSize * kdumpDescSize
	buf := make([]byte, min(table, (k.head.block+cutTail)/kdumpDescSize*kdumpDescSize))
	from := at + table - int64(len(buf))
	if p.src.load(buf, from) != nil {
		return nil
	}
	end, last := int64(0), kdumpDesc{}
	for i := 0; i < len(buf); i += kdumpDescSize {
		d := k.parseDesc(buf[i:], from+int64(i))
		if k.plausible(p, &d, buf[i:]) && d.off >= first.off && d.off+int64(d.size) > end {
			end, last = d.off+int64(d.size), d
		}
	}
	if end == 0 {
		return nil
	}
	return asError(k.badDesc(p, &last))
}

// plausible says whether d, which raw may be, is a descriptor of a page that was written.
func (k *kdump) plausible(p *kdumpPart, d *kdumpDesc, raw []byte) bool {
	_, err := k.judge(p, d)
	return d.off > 0 && !errors.Is(err, remora.ErrCorrupt) && d.off < kdumpMaxData && k.head.order.Uint64(raw[16:]) == 0
}

// asError is bad, or an error that is nil.
func asError(bad *remora.FormatError) error {
	if bad == nil {
		return nil
	}
	return bad
}
