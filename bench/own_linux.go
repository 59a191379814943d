// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/vmcore"
)

// ownRows are about what Remora costs by itself: what it allocates, how large it is, how
// long it takes to start, and what it brings along.
func ownRows(s *site) ([]measure.Row, error) {
	path, err := s.command()
	if err != nil {
		return nil, err
	}
	if err := errors.Join(s.allocations(), s.sizes(path), s.imports()); err != nil {
		return nil, err
	}
	return []measure.Row{startRow(path)}, nil
}

// startRow is about the start of programs that then have nothing to do.
func startRow(remora string) measure.Row {
	begin := func(name string, args ...string) measure.Side {
		c := &measure.Command{Args: append([]string{name}, args...), What: func([]byte) (string, error) { return "ended", nil }}
		return measure.Side{Name: filepath.Base(name), How: c.How(), By: c}
	}
	row := measure.Row{
		Name: "start", Work: "a program is started, has nothing to do, and ends", Wide: true,
		Sides: []measure.Side{begin(remora, "version"), begin("/bin/true")},
		Goals: []measure.Goal{{Plus: 10 * time.Millisecond}},
		Why:   "Go's runtime starts its threads and its collector; /bin/true is one page of C with libc.",
	}
	row.Sides[0].Name, row.Sides[1].Name, row.Sides[1].Other = "Remora", "/bin/true", true
	for _, args := range [][]string{
		{"gdb", "-nx", "-batch"}, {"python3", "-c", "pass"}, {"drgn", "--version"}, {"crash", "--version"}, {"scanmem", "-c", "exit"},
	} {
		if path, err := exec.LookPath(args[0]); err == nil && path != "" {
			row.Sides = append(row.Sides, begin(args[0], args[1:]...))
		}
	}
	return row
}

// ownPages is how many pages lie in what allocations are counted on.
const ownPages = 1024

// allocations counts those of calls, once they are warm: there are to be none.
func (s *site) allocations() error {
	page, limit := os.Getpagesize(), 0.01
	spaces, err := s.spaces(page)
	if err != nil {
		return err
	}
	for _, space := range spaces {
		for _, count := range []int{1, 1024} {
			segs := make([]remora.Seg, count)
			for i := range segs {
				segs[i] = remora.Seg{Addr: space.at + remora.Addr(i*page), Buf: make([]byte, 8)}
			}
			n, err := mallocs(func() error {
				_, err := space.Transfer(context.Background(), remora.Read, segs)
				return err
			})
			if err != nil {
				return fmt.Errorf("%s: %w", space.name, err)
			}
			s.value(measure.Value{
				Name: fmt.Sprintf("allocations of a call, %s, ranges: %d", space.name, count), Value: n, Limit: &limit,
				How: "Transfer of ranges of 8 bytes, each on a page of its own: the mallocs of 1,000 calls (runtime.MemStats), some of which may be the runtime's, by their number",
			})
		}
	}
	return nil
}

// counted is a Space whose allocations are counted, and where its memory is.
type counted struct {
	remora.Space
	name string
	at   remora.Addr
}

// spaces gives one of each kind.
func (s *site) spaces(page int) ([]counted, error) {
	process, err := specimen.Start(context.Background(), nil)
	if err != nil {
		return nil, err
	}
	s.later(process.Close)
	mapped, err := process.Map(specimen.Touched, ownPages)
	if err != nil {
		return nil, err
	}
	live, err := proc.Open(process.Pid(), nil)
	if err != nil {
		return nil, err
	}
	s.later(live.Close)
	sparse := memtest.NewSparse(nil)
	whole := remora.Range{Start: 0x10000, Size: uint64(ownPages * page)}
	if err := sparse.Map(whole, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
		return nil, err
	}
	all := []counted{{live.Memory(), "a live process", mapped.Start}, {sparse, "memtest.Sparse", whole.Start}}
	for _, kind := range []string{"ELF", "zlib"} {
		image, err := s.image(kind)
		if err != nil {
			return nil, err
		}
		all = append(all, counted{image, "an image, " + kind, 0})
	}
	return all, nil
}

// image opens an image of some memory.
func (s *site) image(kind string) (*vmcore.Image, error) {
	const size = 4096
	random := rand.New(rand.NewPCG(5, 6))
	mem := &testimage.Physical{Pages: map[uint64]testimage.Page{}}
	for pfn := range uint64(ownPages) {
		mem.Set(pfn, bytes.Repeat([]byte{byte(random.Uint32()), byte(pfn)}, size/2))
	}
	data := (&testimage.VMCore{Mem: mem}).Bytes()
	if kind == "zlib" {
		k := testimage.NewKdump(mem)
		k.Compress = testimage.Zlib
		data = k.Bytes()
	}
	path := filepath.Join(s.TempDir(), "image")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		return nil, err
	}
	image, err := vmcore.Open(path, nil)
	if err != nil {
		return nil, err
	}
	s.later(image.Close)
	return image, nil
}

// mallocs counts those of a call that has been made before: with the collector off, which
// would empty pools, and with one processor, so that nothing else runs in between.
func mallocs(do func() error) (float64, error) {
	const calls = 1000
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var before, after runtime.MemStats
	for range 3 {
		if err := do(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&before)
	for range calls {
		if err := do(); err != nil {
			return 0, err
		}
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / calls, nil
}

// sizes tells how large the command is, and for comparison the packages of others.
func (s *site) sizes(remora string) error {
	const pkg = "github.com/remora-go/remora/cmd/remora"
	small := filepath.Join(s.TempDir(), "remora")
	if _, err := goOutput("build", "-trimpath", "-ldflags=-s -w", "-o", small, pkg); err != nil {
		return err
	}
	for _, b := range []struct{ name, how, path string }{
		{"size of remora", "go build -trimpath", remora},
		{"size of remora, stripped", "go build -trimpath -ldflags='-s -w'", small},
	} {
		info, err := os.Stat(b.path)
		if err != nil {
			return err
		}
		s.value(measure.Value{Name: b.name, How: b.how + "; it needs no other file", Value: float64(info.Size()), Unit: "B"})
	}
	for _, name := range []string{"gdb", "crash", "python3-drgn"} {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Installed-Size}", name).Output()
		kib, e := strconv.ParseFloat(string(out), 64)
		if err != nil || e != nil {
			continue // it is not there, or this is no Debian
		}
		s.value(measure.Value{Name: "size of " + name, How: "the package as Debian has it installed, without the libraries and the Python that it needs", Value: kib * 1024, Unit: "B"})
	}
	return nil
}

// imports tells what a program gets with the root package.
func (s *site) imports() error {
	const pkg = "github.com/remora-go/remora"
	out, err := goOutput("list", "-deps", "-f", "{{.Standard}} {{.ImportPath}}", pkg)
	if err != nil {
		return err
	}
	std, others := 0, -1 // the package itself is one
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "true ") {
			std++
		} else {
			others++
		}
	}
	s.value(measure.Value{Name: "packages that the root package brings, of the standard library", How: "go list -deps " + pkg, Value: float64(std)})
	s.value(measure.Value{Name: "packages that the root package brings, others", How: "go list -deps " + pkg, Value: float64(others), Limit: new(float64)})
	return nil
}

// goOutput runs the go command as the library is built: without cgo.
func goOutput(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, said.Bytes())
	}
	return out.String(), nil
}
