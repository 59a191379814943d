// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
)

// Kallsyms is the table of symbols in a kernel's image, as scripts/kallsyms.c of some
// version writes it.
type Kallsyms struct {
	Symbols  []KallsymsSymbol
	Encoding string // "absolute", "base", "percpu" or "place"
	Order    string // "old": until 6.3, "new": since 6.4, "7.0"
	Seqs     int    // bytes of each number in the order of names; 0: there are none
	Wide     bool   // markers of 64 bits
	Plain    bool   // lengths of one byte
}

// KallsymsSymbol is a symbol.
type KallsymsSymbol struct {
	Addr uint64
	Type byte
	Name string
}

// KallsymsOrders are the orders that there are.
func KallsymsOrders() []string { return []string{"old", "new", "7.0"} }

// KallsymsEncodings are the encodings that there are.
func KallsymsEncodings() []string { return []string{"absolute", "base", "percpu", "place"} }

// Put gives the tables as they lie in memory from address at on, and where each is, by
// the name of its variable.
func (k *Kallsyms) Put(at uint64) (memory []byte, places map[string]uint64) {
	w := &kallsymsWriter{at: at, align: 8, places: map[string]uint64{}}
	if k.Order == "7.0" {
		w.align = 4
	}
	tokens, names, markers := k.compress()
	base := k.base()
	offsets := func() {
		name := "kallsyms_offsets"
		if k.Encoding == "absolute" {
			name = "kallsyms_addresses"
		}
		w.begin(name)
		for i, s := range k.Symbols {
			w.b = k.offset(w.b, w.at+uint64(len(w.b)), base, i, s)
		}
		if k.Encoding == "base" || k.Encoding == "percpu" {
			w.begin("kallsyms_relative_base")
			w.b = binary.LittleEndian.AppendUint64(w.b, base)
		}
	}
	seqs := func() {
		if k.Seqs != 0 {
			w.begin("kallsyms_seqs_of_names")
			w.b = append(w.b, k.seqs()...)
		}
	}
	if k.Order == "old" {
		offsets()
	}
	w.begin("kallsyms_num_syms")
	w.b = binary.LittleEndian.AppendUint32(w.b, uint32(len(k.Symbols)))
	w.begin("kallsyms_names")
	w.b = append(w.b, names...)
	w.begin("kallsyms_markers")
	for _, m := range markers {
		if k.Wide {
			w.b = binary.LittleEndian.AppendUint64(w.b, uint64(m))
		} else {
			w.b = binary.LittleEndian.AppendUint32(w.b, uint32(m))
		}
	}
	if k.Order == "old" {
		seqs()
	}
	w.begin("kallsyms_token_table")
	var index []byte
	start := len(w.b)
	for _, t := range tokens {
		index = binary.LittleEndian.AppendUint16(index, uint16(len(w.b)-start))
		w.b = append(append(w.b, t...), 0)
	}
	w.begin("kallsyms_token_index")
	w.b = append(w.b, index...)
	if k.Order != "old" {
		offsets()
		seqs()
	}
	return w.b, w.places
}

// kallsymsWriter puts tables one behind the other.
type kallsymsWriter struct {
	at     uint64
	align  uint64
	b      []byte
	places map[string]uint64
}

func (w *kallsymsWriter) begin(name string) {
	w.b = pad(w.b, w.align)
	w.places[name] = w.at + uint64(len(w.b))
}

// base is the lowest address that is an address.
func (k *Kallsyms) base() uint64 {
	base := ^uint64(0)
	for _, s := range k.Symbols {
		if k.Encoding != "percpu" || s.Addr >= 1<<63 {
			base = min(base, s.Addr)
		}
	}
	return base
}

// offset writes the address of a symbol whose place is at place.
func (k *Kallsyms) offset(b []byte, place, base uint64, i int, s KallsymsSymbol) []byte {
	off := uint64(0)
	switch k.Encoding {
	case "absolute":
		return binary.LittleEndian.AppendUint64(b, s.Addr)
	case "base":
		off = s.Addr - base
	case "percpu":
		if off = s.Addr; s.Addr >= 1<<63 {
			off = base - 1 - s.Addr
		}
	case "place":
		off = s.Addr - place
	default:
		panic(fmt.Sprintf("kallsyms cannot be written as %q", k.Encoding))
	}
	if n := int64(off); k.Encoding == "base" && off > 1<<32-1 || k.Encoding != "base" && n != int64(int32(n)) {
		panic(fmt.Sprintf("symbol %d at %#x is too far away from the others", i, s.Addr))
	}
	return binary.LittleEndian.AppendUint32(b, uint32(off))
}

// seqs gives the numbers of the symbols in the order of names.
func (k *Kallsyms) seqs() (b []byte) {
	order := make([]int, len(k.Symbols))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(k.Symbols[i].Name, k.Symbols[j].Name) })
	for _, no := range order {
		for i := k.Seqs - 1; i >= 0; i-- {
			b = append(b, byte(no>>(8*i)))
		}
	}
	return b
}

// compress makes tokens of what is frequent, and writes the names by them.
func (k *Kallsyms) compress() (tokens [256]string, names []byte, markers []int) {
	var used [256]bool
	pairs := map[string]int{}
	for _, s := range k.Symbols {
		text := string(s.Type) + s.Name
		for i := range len(text) {
			used[text[i]] = true
			if i > 0 {
				pairs[text[i-1:i+1]]++
			}
		}
	}
	var often []string
	for p, n := range pairs {
		if n > 1 {
			often = append(often, p)
		}
	}
	slices.SortFunc(often, func(a, b string) int { return cmp.Or(cmp.Compare(pairs[b], pairs[a]), cmp.Compare(a, b)) })
	number := map[string]byte{}
	for i := range tokens {
		switch {
		case used[i]:
			tokens[i] = string([]byte{byte(i)})
		case len(often) > 0:
			tokens[i], often = often[0], often[1:]
			number[tokens[i]] = byte(i)
		default: // as kernels have them that use fewer: nothing
		}
	}
	for i, s := range k.Symbols {
		if i%256 == 0 {
			markers = append(markers, len(names))
		}
		var one []byte
		for text := string(s.Type) + s.Name; text != ""; {
			if t, ok := number[text[:min(2, len(text))]]; ok {
				one, text = append(one, t), text[2:]
			} else {
				one, text = append(one, text[0]), text[1:]
			}
		}
		switch n := len(one); {
		case n < 0x80 || k.Plain && n <= 0xff:
			names = append(names, byte(n))
		case !k.Plain && n <= 0x3fff:
			names = append(names, byte(n)|0x80, byte(n>>7))
		default:
			panic(fmt.Sprintf("symbol %d has too long a name", i))
		}
		names = append(names, one...)
	}
	return tokens, names, markers
}
