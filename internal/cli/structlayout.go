// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/remora-go/remora/btf"
	"github.com/remora-go/remora/kernel"
)

// layout is the Result of struct without an address.
type layout struct {
	Type    string        `json:"type"`
	From    string        `json:"found_by"` // where the types were found
	Module  string        `json:"module,omitempty"`
	Offset  uint64        `json:"offset"` // of a member that was asked for, in TYPE
	Size    uint64        `json:"size"`
	Bit     *uint8        `json:"bit,omitempty"` // of a bit field
	Bits    uint8         `json:"bits,omitempty"`
	Members []layoutField `json:"members,omitempty"`
	Values  []layoutValue `json:"values,omitempty"` // of an enumeration
	Padding uint64        `json:"padding_bits,omitempty"`

	top   *btf.Layout
	alias string // the name of a type that is another one's
}

// layoutField is a member.
type layoutField struct {
	Name    string        `json:"name"`
	Type    string        `json:"type"`
	Offset  uint64        `json:"offset"`
	Size    uint64        `json:"size"`
	Bit     *uint8        `json:"bit,omitempty"`
	Bits    uint8         `json:"bits,omitempty"`
	Hole    uint64        `json:"hole_bits,omitempty"` // before it
	Members []layoutField `json:"members,omitempty"`
	Padding uint64        `json:"padding_bits,omitempty"`
}

type layoutValue struct {
	Name  string `json:"name"`
	Value number `json:"value"`
}

// newLayout makes the layout of a type or of one of its members.
func newLayout(ctx context.Context, types *kernel.Types, d kernel.Type, m btf.Member, text string) (Result, error) {
	top, err := d.In.LayoutAt(ctx, m)
	if err != nil {
		return nil, err
	}
	r := &layout{Type: text, From: types.How(), Offset: top.Off, Size: top.Size, Bits: top.Bits, Padding: top.Padding, top: top}
	if d.In != types.BTF() {
		r.Module = d.In.Name()
	}
	if top.Bits != 0 {
		r.Bit = &top.Bit
	}
	if r.Members, err = layoutFields(ctx, d.In, top); err != nil {
		return nil, err
	}
	if d.Kind == btf.Typedef && m.Type == d.ID {
		r.alias = d.Name
		if top.Decl, err = d.In.Decl(ctx, d.Ref, d.Name); err != nil {
			return nil, err
		}
	}
	values, err := d.In.Values(ctx, top.Type)
	for _, v := range values {
		r.Values = append(r.Values, layoutValue{v.Name, number(v.Text(top.Type))})
	}
	return r, err
}

func layoutFields(ctx context.Context, in *btf.Types, l *btf.Layout) (all []layoutField, err error) {
	for i := range l.Members {
		m := &l.Members[i]
		f := layoutField{Name: m.Name, Offset: m.Off, Size: m.Size, Bits: m.Bits, Hole: m.Hole, Padding: m.Padding, Type: m.TypeText}
		if m.Bits != 0 {
			f.Bit = &m.Bit
		}
		if f.Members, err = layoutFields(ctx, in, m); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// Text prints the layout as a declaration, with offsets and sizes in remarks.
func (r *layout) Text(w io.Writer) error {
	var b strings.Builder
	if r.Module != "" {
		fmt.Fprintf(&b, "/* of module %s */\n", harmless(r.Module))
	}
	if r.alias != "" {
		b.WriteString("typedef ")
	}
	switch {
	case len(r.Values) != 0:
		fmt.Fprintf(&b, "%s {\n", harmless(r.top.Type.Keyword()))
		for _, v := range r.Values {
			fmt.Fprintf(&b, "\t%s = %s,\n", harmless(v.Name), v.Value)
		}
		fmt.Fprintf(&b, "\n\t/* size: %d */\n}%s;\n", r.Size, spaced(r.alias))
	case r.top.Open:
		r.writeOpen(&b)
	case r.top.Name != "":
		writeRow(&b, r.top, 0)
	default:
		fmt.Fprintf(&b, "%s; /* size: %d */\n", harmless(r.top.Decl), r.Size)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// remarkColumn is where the offsets begin.
const remarkColumn = 56

// writeOpen prints the outermost structure.
func (r *layout) writeOpen(b *strings.Builder) {
	fmt.Fprintf(b, "%s {\n", harmless(r.top.Type.Keyword()))
	holes, lost := writeMembers(b, r.top, 0)
	fmt.Fprintf(b, "\n\t/* size: %d, members: %d */\n", r.Size, len(r.top.Members))
	if holes != 0 {
		fmt.Fprintf(b, "\t/* holes: %d, sum of holes: %s */\n", holes, bitsText(lost))
	}
	if r.Padding != 0 {
		fmt.Fprintf(b, "\t/* padding: %s */\n", bitsText(r.Padding))
	}
	name := r.alias
	if r.top.Name != "" {
		name = r.top.Name
		fmt.Fprintf(b, "\t/* offset: %d */\n", r.Offset)
	}
	fmt.Fprintf(b, "}%s;\n", spaced(name))
}

func spaced(name string) string {
	if name == "" {
		return ""
	}
	return " " + harmless(name)
}

// writeMembers prints members, with the holes between them.
func writeMembers(b *strings.Builder, l *btf.Layout, depth int) (holes int, lost uint64) {
	tabs := strings.Repeat("\t", depth+1)
	for i := range l.Members {
		m := &l.Members[i]
		if m.Hole != 0 {
			if i > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(b, "%s/* XXX %s hole */\n\n", tabs, bitsText(m.Hole))
			holes, lost = holes+1, lost+m.Hole
		}
		writeRow(b, m, depth+1)
	}
	return holes, lost
}

// writeRow prints a member, and the members of one that is written out.
func writeRow(b *strings.Builder, l *btf.Layout, depth int) {
	tabs := strings.Repeat("\t", depth)
	if !l.Open {
		decl := harmless(l.Decl)
		if l.Bits != 0 {
			decl += fmt.Sprintf(":%d", l.Bits)
		}
		writeRemark(b, l, tabs+decl+";", remarkColumn-7*depth)
		return
	}
	head, _, _ := strings.Cut(l.Type.Keyword(), " ")
	fmt.Fprintf(b, "%s%s {\n", tabs, head)
	writeMembers(b, l, depth)
	writeRemark(b, l, tabs+"}"+spaced(l.Name)+";", remarkColumn-7*depth)
}

// writeRemark puts the offset and the size behind a declaration.
func writeRemark(b *strings.Builder, l *btf.Layout, text string, width int) {
	if l.Bits != 0 {
		fmt.Fprintf(b, "%-*s /* %5d:%2d %2d */\n", width, text, l.Off, l.Bit, l.Size)
		return
	}
	fmt.Fprintf(b, "%-*s /* %5d %5d */\n", width, text, l.Off, l.Size)
}

func bitsText(n uint64) string {
	if n%8 == 0 {
		return fmt.Sprintf("%d bytes", n/8)
	}
	return fmt.Sprintf("%d bits", n)
}
