// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

// datum is the Result of struct with an address.
type datum struct {
	Type    string     `json:"type"`
	From    string     `json:"found_by"`
	Address string     `json:"address"` // that was given
	Value   datumField `json:"value"`
}

// datumField is a value, or a member.
type datumField struct {
	Name    string       `json:"name,omitempty"`
	Type    string       `json:"type"`
	Address string       `json:"address"`
	Size    uint64       `json:"size"`
	Bits    uint8        `json:"bits,omitempty"`
	Value   any          `json:"value,omitempty"`
	Number  *number      `json:"number,omitempty"` // of an enumeration
	Symbol  string       `json:"symbol,omitempty"` // that a pointer points to
	Members []datumField `json:"members,omitempty"`
	More    uint64       `json:"more,omitempty"` // members that are left out
	Missing string       `json:"missing,omitempty"`

	d *btf.Datum
}

// newDatum reads what is at an address.
func newDatum(ctx context.Context, k *target.Kernel, d kernel.Type, m btf.Member, a remora.Addr, text string, elements int) (Result, error) {
	types, err := k.Types(ctx)
	if err != nil {
		return nil, err
	}
	v, err := d.In.Read(ctx, k.Memory(), a, m, &btf.DatumOptions{Elements: elements})
	if err != nil {
		return nil, err
	}
	f := datumFiller{ctx: ctx, k: k}
	r := &datum{Type: text, From: types.How(), Address: a.String(), Value: f.fill(v)}
	return r, f.missing()
}

// datumFiller gathers what is missing, and knows the names of addresses.
type datumFiller struct {
	ctx     context.Context
	k       *target.Kernel
	symbols *kernel.Symbols
	asked   bool
	errs    []error
	more    int
}

// maxFaults is how many places are told of by themselves.
const maxFaults = 8

func (f *datumFiller) missing() error {
	if f.more != 0 {
		f.errs = append(f.errs, fmt.Errorf("and %d members more that cannot be read", f.more))
	}
	return errors.Join(f.errs...)
}

func (f *datumFiller) fill(v *btf.Datum) datumField {
	o := datumField{Name: v.Name, Type: v.Decl, Address: v.Addr.String(), Size: v.Size, Bits: v.Bits, More: v.More, d: v}
	switch {
	case v.Err != nil:
		o.Missing = v.Err.Error()
		if len(f.errs) < maxFaults {
			f.errs = append(f.errs, v.Err)
		} else {
			f.more++
		}
	case v.Group:
	case v.Ptr:
		o.Value, o.Symbol = v.Text, f.symbol(remora.Addr(v.N))
	case v.Number != "" && v.Number != v.Text:
		n := number(v.Number)
		o.Value, o.Number = v.Text, &n
	case v.Number != "":
		o.Value = number(v.Number)
	default:
		o.Value = v.Text
	}
	for i := range v.Members {
		o.Members = append(o.Members, f.fill(&v.Members[i]))
	}
	return o
}

// causeText is the cause alone: the rest is on stderr.
func causeText(err error) string {
	if c, ok := errors.AsType[remora.Cause](err); ok {
		return c.Error()
	}
	return err.Error()
}

// farFromSymbol is more than anything with a symbol has.
const farFromSymbol = 16 << 20

// symbol names what is at an address of the kernel's image or of a module.
func (f *datumFiller) symbol(a remora.Addr) string {
	if a < 1<<63 {
		return ""
	}
	if !f.asked {
		f.asked = true
		f.symbols, _ = f.k.Symbols(f.ctx) // without them there are no names
	}
	if f.symbols == nil {
		return ""
	}
	s, err := f.symbols.At(f.ctx, a)
	if err != nil || s.Name == "" || a-s.Addr >= farFromSymbol {
		return ""
	}
	name := s.Name
	if a != s.Addr {
		name += fmt.Sprintf("+%#x", uint64(a-s.Addr))
	}
	if s.Module != "" {
		name += " [" + s.Module + "]"
	}
	return name
}

// Text prints the values as C writes an initializer.
func (r *datum) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "/* %s at %s */\n", harmless(r.Type), r.Value.Address)
	r.Value.write(&b, 0)
	b.WriteString("\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func (o *datumField) write(b *strings.Builder, depth int) {
	switch {
	case o.Missing != "":
		fmt.Fprintf(b, "?? /* %s */", harmless(causeText(o.d.Err)))
	case o.d.Group:
		o.writeGroup(b, depth)
	case o.d.Quoted:
		fmt.Fprintf(b, "\"%s\"", strings.ReplaceAll(harmless(o.d.Text), `"`, `\"`))
	case o.d.Text == o.d.Number && o.d.N >= 1<<32 && o.d.Number[0] != '-':
		fmt.Fprintf(b, "%#x", o.d.N) // flags and addresses, more often than not
	default:
		b.WriteString(harmless(o.d.Text))
		if o.Symbol != "" {
			fmt.Fprintf(b, " <%s>", harmless(o.Symbol))
		}
	}
}

// writeGroup prints members one a line, and elements that are no groups in one line.
func (o *datumField) writeGroup(b *strings.Builder, depth int) {
	tabs := strings.Repeat("\t", depth)
	flat := true
	for i := range o.Members {
		m := &o.Members[i]
		flat = flat && m.Name == "" && !m.d.Group && !m.d.Ptr && m.Missing == ""
	}
	if flat {
		b.WriteString("{")
		for i := range o.Members {
			if i > 0 {
				b.WriteString(", ")
			}
			o.Members[i].write(b, depth)
		}
		if o.More != 0 {
			fmt.Fprintf(b, "/* and %d more */", o.More)
		}
		b.WriteString("}")
		return
	}
	b.WriteString("{\n")
	for i := range o.Members {
		m := &o.Members[i]
		b.WriteString(tabs + "\t")
		if m.Name != "" {
			fmt.Fprintf(b, ".%s = ", harmless(m.Name))
		}
		m.write(b, depth+1)
		b.WriteString(",\n")
	}
	if o.More != 0 {
		fmt.Fprintf(b, "%s\t/* and %d more */\n", tabs, o.More)
	}
	b.WriteString(tabs + "}")
}
