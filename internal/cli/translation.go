// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
	"github.com/remora-go/remora/target"
)

// translation is the Result of vtop: it walks while it prints.
type translation struct {
	ctx    context.Context
	kernel *target.Kernel
	tables *paging.Tables
	lower  *paging.Tables // for addresses of the lower half, where a root has but one; nil: tables
	how    string         // the tables were found
	own    bool           // they are the kernel's
	addrs  []remora.Addr
}

var _ Streamer = (*translation)(nil)

// Close closes the image.
func (r *translation) Close() error { return r.kernel.Close() }

// walked is what became of one address.
type walked struct {
	Address  string      `json:"address"`
	Tables   string      `json:"tables"` // their form
	Root     string      `json:"root"`
	How      string      `json:"found_by,omitempty"`
	Levels   []walkLevel `json:"levels"`
	Physical string      `json:"physical,omitempty"`
	PageSize uint64      `json:"page_size,omitempty"`
	Perm     string      `json:"perm,omitempty"`
	User     bool        `json:"user"`
	Linear   string      `json:"linear,omitempty"`  // by formula: why not by tables
	Missing  string      `json:"missing,omitempty"` // why there is no physical address

	kind paging.Kind
	err  error
}

// walkLevel is one level on the way.
type walkLevel struct {
	Level int    `json:"level"`
	Name  string `json:"name"`
	Table string `json:"table"`
	Index int    `json:"index"`
	Entry string `json:"entry_at"`
	Raw   string `json:"raw,omitempty"` // none if it could not be read
	Kind  string `json:"kind,omitempty"`
	Type  *uint8 `json:"swap_type,omitempty"`
	Off   string `json:"swap_offset,omitempty"`
	Text  string `json:"text"`
}

// walk translates one address.
func (r *translation) walk(va remora.Addr) *walked {
	tables := r.tables
	if r.lower != nil && va < 1<<63 {
		tables = r.lower
	}
	w := &walked{Address: va.String(), Tables: r.tables.Format().String(), Root: tables.Root().String(), How: r.how, Levels: []walkLevel{}}
	for _, s := range tables.Walk(r.ctx, va) {
		l := walkLevel{Level: s.Level, Name: s.Name, Table: s.Table.String(), Index: s.Index, Entry: s.At.String()}
		if s.Entry.Size == 0 && s.Err != nil { // it could not be read
			l.Text = "cannot be read"
		} else {
			l.Raw, l.Kind, l.Text = fmt.Sprintf("0x%016x", s.Raw), s.Entry.Kind.String(), s.Entry.String()
			w.kind = s.Entry.Kind
		}
		switch s.Entry.Kind {
		case paging.KindSwap, paging.KindMigration, paging.KindPoison, paging.KindDevice, paging.KindMarker:
			l.Type, l.Off = &s.Entry.Type, fmt.Sprintf("%#x", s.Entry.Offset)
		}
		w.Levels = append(w.Levels, l)
		w.PageSize = s.Entry.Size
	}
	e := tables.Translate(r.ctx, va)
	if w.err = e.Err; w.err != nil {
		w.PageSize = 0
		if r.own && errors.Is(w.err, remora.ErrNoTable) {
			if l := r.kernel.Translate(r.ctx, va); l.Err == nil {
				w.Physical, w.Perm, w.Linear, w.err = (l.Phys + (va - l.Virt)).String(), l.Perm.String(), w.err.Error(), nil
				return w
			}
		}
		if !errors.Is(w.err, remora.ErrNoTable) { // that one says all there is to say
			w.err = tables.Explain(r.ctx, remora.Read, va, w.err)
		}
		w.Missing = w.err.Error()
		return w
	}
	w.Physical, w.Perm, w.User = (e.Phys + (va - e.Virt)).String(), e.Perm.String(), e.Perm&remora.PermUser != 0
	return w
}

// Text prints a table for each address.
func (r *translation) Text(out io.Writer) error {
	return r.each(func(w *walked) error {
		var b strings.Builder
		if w.Address == r.addrs[0].String() {
			fmt.Fprintf(&b, "%s, root %s", w.Tables, w.Root)
			if w.How != "" {
				fmt.Fprintf(&b, " (%s)", harmless(w.How))
			}
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\n%s\n", w.Address)
		for _, l := range w.Levels {
			raw := l.Raw
			if raw == "" {
				raw = strings.Repeat("?", 18)
			}
			fmt.Fprintf(&b, "  %-3s %4d  table %-14s entry %-14s %s  %s\n", l.Name, l.Index, l.Table, l.Entry, raw, harmless(l.Text))
		}
		if w.err != nil {
			fmt.Fprintf(&b, "  no memory: %s\n", harmless(w.Missing))
		} else if w.Linear != "" {
			fmt.Fprintf(&b, "  physical %s, by formula and not by page tables: %s\n", w.Physical, harmless(w.Linear))
		} else {
			fmt.Fprintf(&b, "  physical %s, page of %s, %s, %s\n", w.Physical, sizeText(w.PageSize), w.Perm, w.whose())
		}
		_, err := io.WriteString(out, b.String())
		return err
	})
}

// whose says who may use the page.
func (w *walked) whose() string {
	switch {
	case w.kind == paging.KindProtNone:
		return "no access allowed (PROT_NONE)"
	case w.User:
		return "user"
	}
	return "kernel"
}

// sizeText writes a size in the largest unit of which it is a multiple.
func sizeText(n uint64) string {
	units := []string{"bytes", "KiB", "MiB", "GiB", "TiB"}
	i := 0
	for ; i < len(units)-1 && n != 0 && n%1024 == 0; i++ {
		n /= 1024
	}
	return strconv.FormatUint(n, 10) + " " + units[i]
}

// Lines gives an object for each address.
func (r *translation) Lines(emit func(any) error) error {
	return r.each(func(w *walked) error { return emit(w) })
}

// each walks to all addresses. The error names those without memory.
func (r *translation) each(show func(*walked) error) error {
	var missing []error
	for _, a := range r.addrs {
		w := r.walk(a)
		if r.ctx.Err() != nil {
			return context.Cause(r.ctx)
		}
		if err := show(w); err != nil {
			return err
		}
		if w.err != nil {
			missing = append(missing, &remora.Fault{Space: r.kernel.Info().Name, Addr: a, Err: w.err})
		}
	}
	return errors.Join(missing...)
}
