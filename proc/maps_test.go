// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
)

// texts gives the files of a txtar archive that end so, by name.
func texts(t testing.TB, archive, suffix string) map[string]string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + archive)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, file := range strings.Split("\n"+string(b), "\n-- ")[1:] {
		name, text, ok := strings.Cut(file, " --\n")
		if !ok {
			t.Fatalf("%s: no end of the name in %q", archive, file)
		}
		if name, ok := strings.CutSuffix(name, suffix); ok {
			m[name] = strings.TrimSuffix(text, "\n") + "\n"
		}
	}
	if len(m) == 0 {
		t.Fatalf("%s holds no %s", archive, suffix)
	}
	return m
}

// all collects a sequence up to its first error.
func all[T any](seq iter.Seq2[T, error]) (list []T, err error) {
	for v, e := range seq {
		if e != nil {
			return list, e
		}
		list = append(list, v)
	}
	return list, nil
}

// show is the form of the .want files.
func show(r remora.Region) string {
	kind, link := "private", "linked"
	if r.Shared {
		kind = "shared"
	}
	if r.Deleted {
		link = "deleted"
	}
	return fmt.Sprintf("%v %v %s 0x%x %d:%d %d %s %q\n", r.Range, r.Perm, kind, r.Offset, r.Major, r.Minor, r.Inode, link, r.Name)
}

// line writes a region as the kernel does.
func line(r remora.Region) string {
	kind, name := "p", strings.ReplaceAll(r.Name, "\n", `\012`)
	if r.Shared {
		kind = "s"
	}
	if r.Deleted {
		name += " (deleted)"
	}
	head := fmt.Sprintf("%08x-%08x %v%s %08x %02x:%02x %d ", uint64(r.Start), uint64(r.Start)+r.Size, r.Perm, kind, r.Offset, r.Major, r.Minor, r.Inode)
	if name == "" {
		return head + "\n"
	}
	return fmt.Sprintf("%-72s %s\n", head, name)
}

func TestParseMaps(t *testing.T) {
	want := texts(t, "maps.txtar", ".want")
	for name, text := range texts(t, "maps.txtar", ".maps") {
		t.Run(name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"at once":      strings.NewReader(text),
				"byte by byte": iotest.OneByteReader(strings.NewReader(text)),
				"data and EOF": iotest.DataErrReader(strings.NewReader(text)),
				"no last \\n":  strings.NewReader(strings.TrimSuffix(text, "\n")),
			} {
				regions, err := all(ParseMaps(r))
				if err != nil {
					t.Fatalf("%s: %v", how, err)
				}
				var got strings.Builder
				for _, reg := range regions {
					got.WriteString(show(reg))
				}
				if diff := cmp.Diff(want[name], got.String()); diff != "" {
					t.Errorf("%s: -want +got:\n%s", how, diff)
				}
			}
		})
	}
}

const good = "00010000-00011000 r--p 00000000 08:01 1                                  /a\n"

func TestParseMapsRefusesMalformedText(t *testing.T) {
	const hex, dec = "a hexadecimal number", "a decimal number"
	for _, c := range []struct {
		name, line string
		col        int64
		want, got  string
	}{
		{"empty line", "\n", 0, hex, "the end of the line"},
		{"not a number", "xyz-1 r--p 0 0:0 0\n", 0, hex, `"xyz-1"`},
		{"capital digits", "ABC-FFF r--p 0 0:0 0\n", 0, hex, `"ABC-FFF"`},
		{"no dash", "1000 2000 r--p 0 0:0 0\n", 4, "- after the start address", `" 2000 r--p 0 0:0 0"`},
		{"no end", "1000-", 5, hex, "the end of the line"},
		{"empty region", "1000-1000 r--p 0 0:0 0\n", 5, "an end above the start", `"1000"`},
		{"end below start", "2000-1000 r--p 0 0:0 0\n", 5, "an end above the start", `"1000"`},
		{"65 bits", "1000-10000000000000000 r--p 0 0:0 0\n", 5, "a number of at most 64 bits", `"10000000000000000"`},
		{"short permissions", "1000-2000 r-x\n", 10, "permissions such as r-xp", `"r-x"`},
		{"bad permission", "1000-2000 rxwp 0 0:0 0\n", 10, "permissions such as r-xp", `"rxwp"`},
		{"bad sharing", "1000-2000 r-xq 0 0:0 0\n", 10, "permissions such as r-xp", `"r-xq"`},
		{"no offset", "1000-2000 r-xp\n", 14, "a space", "the end of the line"},
		{"no colon", "1000-2000 r-xp 0 0 0\n", 18, ": between the device numbers", `" 0"`},
		{"wide device", "1000-2000 r-xp 0 100000000:0 0\n", 17, "a device number of at most 32 bits", `"100000000:0"`},
		{"no inode", "1000-2000 r-xp 0 0:0 \n", 21, dec, "the end of the line"},
		{"wide inode", "1000-2000 r-xp 0 0:0 18446744073709551616\n", 21, "a number of at most 64 bits", `"18446744073709551616"`},
		{"name against inode", "1000-2000 r-xp 0 0:0 1/a\n", 22, "a space", `"/a"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			list, err := all(ParseMaps(strings.NewReader(good + c.line)))
			if len(list) != 1 {
				t.Errorf("%d regions before the error, want 1", len(list))
			}
			var f *remora.FormatError
			if !errors.As(err, &f) {
				t.Fatalf("error %v, want a *FormatError", err)
			}
			cause := remora.ErrCorrupt
			if !strings.HasSuffix(c.line, "\n") {
				cause = remora.ErrTruncated
			}
			want := remora.FormatError{File: "maps", Offset: int64(len(good)) + c.col, Want: c.want, Got: c.got, Err: cause}
			if diff := cmp.Diff(want, *f, cmp.Comparer(func(a, b error) bool { return a == b })); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if _, _, ferr := FindRegion(strings.NewReader(good+c.line), remora.MaxAddr, nil); ferr == nil || ferr.Error() != err.Error() {
				t.Errorf("FindRegion says %v, ParseMaps %v", ferr, err)
			}
		})
	}
}

func TestParseMapsOfALongName(t *testing.T) {
	name := "/" + strings.Repeat("d/", 400_000)
	list, err := all(ParseMaps(strings.NewReader(good + "1000-2000 r--p 0 0:0 1 " + name + "\n" + good)))
	if err != nil || len(list) != 3 || list[1].Name != name {
		t.Fatalf("%d regions, %v", len(list), err)
	}
	list, err = all(ParseMaps(strings.NewReader(good + "1000-2000 r--p 0 0:0 1 " + strings.Repeat("x", maxLine) + "\n" + good)))
	var f *remora.FormatError
	if len(list) != 1 || !errors.As(err, &f) || f.Offset != int64(len(good)) {
		t.Fatalf("%d regions, %v", len(list), err)
	}
}

func TestParseMapsGivesReadErrors(t *testing.T) {
	broken := errors.New("broken")
	list, err := all(ParseMaps(io.MultiReader(strings.NewReader(good+"0001"), iotest.ErrReader(broken))))
	if len(list) != 1 || !errors.Is(err, broken) {
		t.Errorf("%d regions, %v", len(list), err)
	}
	if _, _, err := FindRegion(iotest.ErrReader(broken), 0, nil); !errors.Is(err, broken) {
		t.Errorf("FindRegion: %v", err)
	}
	if _, err := all(ParseMaps(lazy{})); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a reader that never moves: %v", err)
	}
}

type lazy struct{}

func (lazy) Read([]byte) (int, error) { return 0, nil }

func TestParseMapsNamesTheFile(t *testing.T) {
	_, err := all(ParseMaps(named{strings.NewReader("?")}))
	if err == nil || !strings.HasPrefix(err.Error(), "/proc/7/maps: ") {
		t.Error(err)
	}
}

type named struct{ io.Reader }

func (named) Name() string { return "/proc/7/maps" }

func TestParseMapsStopsWhenTheCallerDoes(t *testing.T) {
	n := 0
	for range ParseMaps(strings.NewReader(strings.Repeat(good, 5))) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d regions", n)
	}
}

func TestFindRegion(t *testing.T) {
	text := texts(t, "maps.txtar", ".maps")["x86-64"]
	hole := func(start, end remora.Addr) remora.Region { return remora.Region{Range: remora.Between(start, end)} }
	for _, c := range []struct {
		name  string
		text  string
		a     remora.Addr
		found bool
		want  remora.Region
	}{
		{"below the first region", text, 0, false, hole(0, 0x55970c651000)},
		{"last byte before it", text, 0x55970c650fff, false, hole(0, 0x55970c651000)},
		{"its first byte", text, 0x55970c651000, true, remora.Region{Range: remora.Range{Start: 0x55970c651000, Size: 0x2000}, Perm: remora.PermRead, Major: 254, Inode: 247026}},
		{"its last byte", text, 0x55970c652fff, true, remora.Region{Range: remora.Range{Start: 0x55970c651000, Size: 0x2000}, Perm: remora.PermRead, Major: 254, Inode: 247026}},
		{"between two regions", text, 0x55970c658000, false, hole(0x55970c658000, 0x55970e7be000)},
		{"above 2^63", text, 0xffffffffff600800, true, remora.Region{Range: remora.Range{Start: 0xffffffffff600000, Size: 0x1000}, Perm: remora.PermExec}},
		{"after the last region", text, remora.MaxAddr, false, hole(0xffffffffff601000, 0)},
		{"nothing is mapped", "", 5, false, remora.Region{Range: remora.Range{Size: 1<<64 - 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, size := range []int{0, findBuf, 4096} {
				got, found, err := FindRegion(strings.NewReader(c.text), c.a, make([]byte, size))
				if err != nil || found != c.found {
					t.Fatalf("buffer of %d: found %v, error %v", size, found, err)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("buffer of %d: -want +got:\n%s", size, diff)
				}
			}
		})
	}
}

func TestFindRegionAllocatesNothing(t *testing.T) {
	text := texts(t, "maps.txtar", ".maps")["x86-64"] + "ffffffffff700000-ffffffffff800000 r--p 00000000 00:00 0 " + strings.Repeat("n", 5000) + "\n"
	r, buf := strings.NewReader(text), make([]byte, findBuf)
	if n := testing.AllocsPerRun(100, func() {
		for _, a := range []remora.Addr{0, 0x7f8febd2b000, 0xffffffffff700000, remora.MaxAddr} {
			r.Reset(text)
			if _, _, err := FindRegion(r, a, buf); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseMapsAllocatesOnlyNames(t *testing.T) {
	text := strings.Repeat(good, 1000) // one name over and over
	r := strings.NewReader(text)
	if n := testing.AllocsPerRun(20, func() {
		r.Reset(text)
		for _, err := range ParseMaps(r) {
			if err != nil {
				t.Fatal(err)
			}
		}
	}); n > 5 { // the buffer, the name and the iterator
		t.Errorf("%v allocations for 1,000 lines", n)
	}
}
