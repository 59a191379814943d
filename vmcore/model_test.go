// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

const page = 4096

// inMemory is a file in memory.
func inMemory(name string, b []byte) vmcore.File {
	return vmcore.File{Name: name, Size: int64(len(b)), R: bytes.NewReader(b)}
}

// newImage opens an image in memory, which must succeed.
func newImage(t testing.TB, b []byte, o *vmcore.Options) *vmcore.Image {
	t.Helper()
	m, err := vmcore.New([]vmcore.File{inMemory("image", b)}, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// saveFile writes a file of the test.
func saveFile(t testing.TB, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// openImage writes an image to a file and opens that.
func openImage(t testing.TB, b []byte, o *vmcore.Options) *vmcore.Image {
	t.Helper()
	m, err := vmcore.Open(saveFile(t, b), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// causes are what a page that is not there comes to.
var causes = map[testimage.Class]error{
	testimage.Excluded: remora.ErrNotSaved,
	testimage.Lost:     remora.ErrTruncated,
	testimage.Hole:     remora.ErrHole,
}

// compare reads every page from 0 to a few behind the last one, alone and all at once, and
// wants what mem says, and that Runs tells the same.
func compare(t *testing.T, m *vmcore.Image, mem *testimage.Physical) {
	t.Helper()
	ctx := context.Background()
	size := uint64(mem.Size())
	runs := map[uint64]vmcore.Run{}
	for r, err := range m.Runs(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Size > 1<<40 {
			continue // what an incomplete image may have lost
		}
		for a := uint64(r.Start) / size; a <= uint64(r.Last())/size; a++ {
			runs[a] = r
		}
	}
	buf := make([]byte, size)
	for pfn := range mem.End() + 3 {
		want, class := mem.Page(pfn)
		a := remora.Addr(pfn * size)
		n, err := m.Memory().ReadAt(ctx, buf, a)
		r, listed := runs[pfn]
		switch {
		case class == testimage.Saved && (err != nil || !bytes.Equal(buf, want)):
			t.Fatalf("page %d: %d bytes, %v", pfn, n, err)
		case class != testimage.Saved && (n != 0 || !errors.Is(err, causes[class])):
			t.Fatalf("page %d, %v: %d bytes, %v", pfn, class, n, err)
		case listed != (class != testimage.Hole) || listed && !errors.Is(r.Err, causes[class]):
			t.Fatalf("page %d, %v: run %v", pfn, class, r)
		}
		if class != testimage.Saved {
			continue
		}
		if fault, ok := errors.AsType[*remora.Fault](err); ok && fault.Addr != a {
			t.Fatalf("page %d: %v", pfn, err)
		}
	}
	wholeRuns(t, m, mem)
}

// wholeRuns reads across all borders: from somewhere in the middle of each run of RAM to
// its end and beyond.
func wholeRuns(t *testing.T, m *vmcore.Image, mem *testimage.Physical) {
	t.Helper()
	size := uint64(mem.Size())
	for r := range mem.All() {
		if r.Class != testimage.Saved || r.End-r.First > 1<<14 {
			continue
		}
		want := make([]byte, 0, (r.End-r.First)*size)
		for pfn := r.First; pfn < r.End; pfn++ {
			b, _ := mem.Page(pfn)
			want = append(want, b...)
		}
		skip := min(int(size)/3, len(want)-1)
		got := make([]byte, len(want)-skip+100)
		_, next := mem.Page(r.End)
		n, err := m.Memory().ReadAt(context.Background(), got, remora.Addr(r.First*size)+remora.Addr(skip))
		if n != len(want)-skip || !bytes.Equal(got[:n], want[skip:]) || !errors.Is(err, causes[next]) {
			t.Fatalf("pages %d-%d: %d of %d bytes, %v", r.First, r.End, n, len(want)-skip, err)
		}
	}
}

// damages gives what Check finds.
func damages(t *testing.T, m *vmcore.Image) []*remora.FormatError {
	t.Helper()
	var all []*remora.FormatError
	if err := m.Check(context.Background(), func(bad *remora.FormatError) { all = append(all, bad) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// whole wants a FormatError that says all it should.
func whole(t *testing.T, err error, file string) {
	t.Helper()
	bad, ok := errors.AsType[*remora.FormatError](err)
	if !ok || bad.File != file || bad.Want == "" || bad.Got == "" || bad.Offset < 0 || bad.Err == nil {
		t.Errorf("not a whole FormatError: %v", err)
	}
}

// counting counts what is read of a file.
type counting struct {
	r     io.ReaderAt
	calls int
	bytes int64
}

func (c *counting) ReadAt(b []byte, off int64) (int, error) {
	n, err := c.r.ReadAt(b, off)
	c.calls++
	c.bytes += int64(n)
	return n, err
}
