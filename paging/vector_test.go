// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/remora-go/remora"
)

var update = flag.Bool("update", false, "write the results into testdata")

// A vector is a txtar archive. Its comment has the lines "format ...", "root ADDR"
// and, if need be, "half lower|upper" and "ram RANGE"; other lines are for the reader.
// Its files:
//
//	memory   "TABLE: I=RAW J-K=RAW+STEP ..." sets entries, "page RANGE" makes pages of
//	         zeros, and "fault RANGE CAUSE" takes bytes away
//	extents  what Translate gives: "ADDR: ..."
//	walk     what Walk gives, likewise, a line for each step
//	explain  what Explain says of the cause that Translate gives
//	regions  what Regions lists
//
// Flag -update writes the results into the files; what follows the colons is then to
// be checked by hand.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			v := newVector(t, ar)
			for i := range ar.Files {
				file := &ar.Files[i]
				got := v.answer(file.Name, string(file.Data))
				if d := cmp.Diff(string(file.Data), got); d != "" && !*update {
					t.Errorf("%s (-want +got):\n%s", file.Name, d)
				}
				file.Data = []byte(got)
			}
			if *update {
				if err := os.WriteFile(name, txtar.Format(ar), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type vector struct {
	t      testing.TB
	mem    *ram
	tables *Tables
	live   *Tables // the same with nothing kept
}

func newVector(t testing.TB, ar *txtar.Archive) *vector {
	v := &vector{t: t, mem: newRAM()}
	var f *Format
	var root uint64
	o := &Options{}
	for _, line := range strings.Split(string(ar.Comment), "\n") {
		key, rest, _ := strings.Cut(line, " ")
		switch key {
		case "format":
			f = v.format(strings.Fields(rest))
		case "root":
			root = v.number(rest)
		case "half":
			o.Half = map[string]Half{"lower": Lower, "upper": Upper}[rest]
		case "ram":
			r := v.span(rest)
			o.RAM = r.Contains
		}
	}
	for _, file := range ar.Files {
		if file.Name == "memory" {
			for _, line := range strings.Split(strings.TrimSpace(string(file.Data)), "\n") {
				v.remember(line)
			}
		}
	}
	v.tables = NewTables(v.mem, f, remora.Addr(root), o)
	o.Live = true
	v.live = NewTables(v.mem, f, remora.Addr(root), o)
	return v
}

func (v *vector) number(s string) uint64 {
	v.t.Helper()
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		v.t.Fatal(err)
	}
	return n
}

func (v *vector) span(s string) remora.Range {
	a, n, _ := strings.Cut(s, "+")
	return remora.Range{Start: remora.Addr(v.number(a)), Size: v.number(n)}
}

// format makes the one of a line "x86 levels=5 kernel=6.1 plain".
func (v *vector) format(words []string) *Format {
	opt := map[string]string{}
	for _, w := range words[1:] {
		key, val, _ := strings.Cut(w, "=")
		opt[key] = val
	}
	n := func(key string) uint64 { i, _ := strconv.ParseUint(opt[key], 0, 64); return i }
	has := func(key string) bool { _, ok := opt[key]; return ok }
	var k Version
	fmt.Sscanf(opt["kernel"], "%d.%d", &k.Major, &k.Minor)
	var f *Format
	var err error
	switch words[0] {
	case "x86":
		f, err = X86(X86Options{Levels: int(n("levels")), SMEMask: n("sme"), Plain: has("plain"), Kernel: k})
	case "arm64":
		f, err = ARM64(ARM64Options{PageShift: int(n("page")), VABits: int(n("va")), LPA2: has("lpa2"), PhysBits: int(n("pa")), Kernel: k})
	case "riscv":
		f, err = RISCV(RISCVOptions{VABits: int(n("va")), THead: has("thead"), Kernel: k})
	}
	return must(v.t, f, err)
}

// remember does what a line of memory says.
func (v *vector) remember(line string) {
	words := strings.Fields(line)
	switch {
	case len(words) == 0 || words[0][0] == '#':
	case words[0] == "page":
		r := v.span(words[1])
		for a := uint64(r.Start); a < uint64(r.Start)+r.Size; a += 4096 {
			v.mem.make(a)
		}
	case words[0] == "fault":
		r := v.span(words[1])
		v.mem.faults = append(v.mem.faults, fault{uint64(r.Start), uint64(r.Start) + r.Size, causeNamed(strings.Join(words[2:], " "))})
	default:
		table := v.number(strings.TrimSuffix(words[0], ":"))
		for _, w := range words[1:] {
			if w[0] == '#' {
				break
			}
			index, raw, _ := strings.Cut(w, "=")
			first, last, many := strings.Cut(index, "-")
			raw, step, _ := strings.Cut(raw, "+")
			i, n, by := v.number(first), v.number(first), uint64(0)
			if many {
				n = v.number(last)
			}
			if step != "" {
				by = v.number(step)
			}
			for k := i; k <= n; k++ {
				v.mem.set(table, int(k), v.number(raw)+(k-i)*by)
			}
		}
	}
}

func causeNamed(name string) error {
	for c := remora.ErrFault; c <= remora.ErrUnrecognized; c++ {
		if c.Error() == name {
			return c
		}
	}
	panic("no cause " + name)
}

// answer gives a file with what the tables say in place of what it has.
func (v *vector) answer(name, data string) string {
	ctx := context.Background()
	var b bytes.Buffer
	if name == "regions" {
		for r, err := range v.tables.Regions(ctx) {
			fmt.Fprintf(&b, "%v %v", r.Range, r.Perm)
			if r.Name != "" {
				b.WriteString(" " + r.Name)
			}
			if err != nil {
				fmt.Fprintf(&b, " %v", err)
			}
			b.WriteByte('\n')
		}
		return b.String()
	}
	if name == "memory" {
		return data
	}
	for _, line := range strings.SplitAfter(data, "\n") {
		text, _, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || text[0] == '#' {
			if !strings.HasPrefix(line, "\t") {
				b.WriteString(line)
			}
			continue
		}
		if strings.HasPrefix(line, "\t") {
			continue
		}
		a := remora.Addr(v.number(text))
		fmt.Fprintf(&b, "%s:", text)
		v.line(ctx, &b, name, a)
	}
	return b.String()
}

func (v *vector) line(ctx context.Context, b *bytes.Buffer, name string, a remora.Addr) {
	x := v.tables.Translate(ctx, a)
	switch name {
	case "extents":
		fmt.Fprintf(b, " %s", extentText(&x))
		if again := v.tables.Translate(ctx, a); again != x {
			v.t.Errorf("%v: first %v, then %v", a, extentText(&x), extentText(&again))
		}
		if live := v.live.Translate(ctx, a); extentText(&live) != extentText(&x) {
			v.t.Errorf("%v: kept %v, live %v", a, extentText(&x), extentText(&live))
		}
	case "explain":
		fmt.Fprintf(b, " %v", v.tables.Explain(ctx, remora.Read, a, x.Err))
	case "walk":
		for _, s := range v.tables.Walk(ctx, a) {
			fmt.Fprintf(b, "\n\t%s %v[%d] 0x%x %v", s.Name, s.Table, s.Index, s.Raw, s.Entry)
			if s.Err != nil {
				fmt.Fprintf(b, "; %v", s.Err)
			}
		}
	}
	b.WriteByte('\n')
}

func extentText(x *remora.Extent) string {
	s := fmt.Sprintf("%v+0x%x", x.Virt, x.Size)
	if x.Err == nil {
		user := "k"
		if x.Perm&remora.PermUser != 0 {
			user = "u"
		}
		return fmt.Sprintf("%s at %v %v%s level %d, 0x%x", s, x.Phys, x.Perm, user, x.Level, x.Raw)
	}
	return fmt.Sprintf("%s level %d, 0x%x, %v", s, x.Level, x.Raw, x.Err)
}
