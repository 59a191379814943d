// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"context"
	"strconv"
	"strings"
)

const (
	maxDecl   = 1000 // bytes of a declaration
	maxSteps  = 500  // types that it goes through
	maxProtos = 4    // functions that take functions that take functions
)

// Decl writes the declaration of something of a type as C has it: "char comm[16]", or
// without a name the type alone: "struct list_head *". What is too long ends in "...".
func (t *Types) Decl(ctx context.Context, id ID, name string) (string, error) {
	w := declarer{t: t, ctx: ctx}
	return w.decl(id, name, 0)
}

// declarer writes one declaration.
type declarer struct {
	t     *Types
	ctx   context.Context
	steps int
}

func (w *declarer) decl(id ID, name string, protos int) (string, error) {
	front := "" // modifiers of what comes next
	tight := false
	for ; w.steps < maxSteps && len(name) < maxDecl; w.steps++ {
		d, err := w.t.Type(w.ctx, id)
		if err != nil {
			return "", err
		}
		switch d.Kind {
		case TypeTag, DeclTag, Var:
			id = d.Ref
			continue
		case Const, Volatile, Restrict:
			front += map[Kind]string{Const: "const ", Volatile: "volatile ", Restrict: "restrict "}[d.Kind]
			id = d.Ref
			continue
		case Pointer:
			name = "*" + front + name
			front, tight, id = "", true, d.Ref
			continue
		case Array:
			if tight {
				name = "(" + name + ")"
			}
			name += "[" + strconv.FormatUint(uint64(d.Count), 10) + "]"
			tight, id = false, d.Ref
			continue
		case FuncProto:
			if tight {
				name = "(" + name + ")"
			}
			params, err := w.params(d, protos)
			if err != nil {
				return "", err
			}
			name += "(" + params + ")"
			tight, id = false, d.Ref
			continue
		}
		word := d.Keyword()
		if d.Name == "" {
			word += " {...}"
		}
		return shorten(joined(front+word, name)), nil
	}
	return shorten(joined("...", name)), nil
}

// joined puts a name behind a type.
func joined(typ, name string) string {
	if name == "" || name[0] == '[' {
		return typ + name
	}
	return typ + " " + name
}

func shorten(s string) string {
	if len(s) > maxDecl {
		return s[:maxDecl] + "..."
	}
	return s
}

// Keyword is a type as a declaration names it: "struct list_head".
func (d Type) Keyword() string {
	word := ""
	switch {
	case d.Kind == Struct, d.Kind == Forward && !d.Union:
		word = "struct"
	case d.Kind == Union, d.Kind == Forward:
		word = "union"
	case d.Kind == Enum, d.Kind == Enum64:
		word = "enum"
	default:
		return d.Name
	}
	return joined(word, d.Name)
}

// params writes the parameters of a function.
func (w *declarer) params(d Type, protos int) (string, error) {
	if protos++; protos > maxProtos {
		return "...", nil
	}
	var all []string
	for i := range d.Count {
		name, id, err := d.owner.param(w.ctx, d, i)
		if err != nil {
			return "", err
		}
		if id == 0 && i == d.Count-1 {
			all = append(all, "...")
			break
		}
		p, err := w.decl(id, name, protos)
		if err != nil {
			return "", err
		}
		all = append(all, p)
	}
	if len(all) == 0 {
		return "void", nil
	}
	return shorten(strings.Join(all, ", ")), nil
}

func (t *Types) param(ctx context.Context, d Type, i uint32) (string, ID, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b, _, err := t.types.at(ctx, d.at+8*i, 8)
	if err != nil {
		return "", 0, err
	}
	name, err := t.text(ctx, t.order.Uint32(b))
	return name, ID(t.order.Uint32(b[4:])), err
}

// Value is a value of an enumeration. One of a Signed type is negative where it is as
// an int64.
type Value struct {
	Name string
	N    uint64
}

// Text gives the number, for values of d.
func (v Value) Text(d Type) string { return decimal(v.N, d.Signed) }

// Values gives the values of an Enum or Enum64.
func (t *Types) Values(ctx context.Context, d Type) ([]Value, error) {
	if d.Kind != Enum && d.Kind != Enum64 {
		return nil, nil
	}
	o := d.owner
	o.mu.Lock()
	defer o.mu.Unlock()
	step := uint32(8)
	if d.Kind == Enum64 {
		step = 12
	}
	b, _, err := o.types.at(ctx, d.at, step*d.Count)
	if err != nil {
		return nil, err
	}
	all := make([]Value, d.Count)
	for i := range all {
		raw := b[uint32(i)*step:]
		if all[i].Name, err = o.text(ctx, o.order.Uint32(raw)); err != nil {
			return nil, err
		}
		low := o.order.Uint32(raw[4:])
		switch {
		case d.Kind == Enum64:
			all[i].N = uint64(o.order.Uint32(raw[8:]))<<32 | uint64(low)
		case d.Signed:
			all[i].N = uint64(int64(int32(low)))
		default:
			all[i].N = uint64(low)
		}
	}
	return all, nil
}
