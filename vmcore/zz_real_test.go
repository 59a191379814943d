// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/remora-go/remora"
)

func realOpen(t testing.TB, o *Options, paths ...string) *Image {
	var srcs []*source
	for _, p := range paths {
		f, err := os.Open(p)
		if err != nil {
			t.Fatal(err)
		}
		st, _ := f.Stat()
		s := &source{name: p, size: st.Size(), r: f}
		var h [16]byte
		f.ReadAt(h[:], 0)
		if isFlat(h[:]) {
			t0 := time.Now()
			if s, err = unwrapFlat(s); err != nil {
				t.Fatal(err)
			}
			t.Log("flat", len(s.r.(*flat).pieces), "pieces", time.Since(t0), "lost", s.lost)
		}
		srcs = append(srcs, s)
	}
	t0 := time.Now()
	m, err := openKdumpSources(o, srcs...)
	if err != nil {
		t.Fatal(err)
	}
	var b [8]byte
	_, err = m.Memory().ReadAt(context.Background(), b[:], 0x1000)
	t.Log("open and read", time.Since(t0), err)
	return m
}

func TestReal(t *testing.T) {
	pat := os.Getenv("REAL")
	if pat == "" {
		pat = "/tmp/remora-dumps/*"
	}
	dirs, _ := filepath.Glob(pat)
	for _, d := range dirs {
		if _, err := os.Stat(d + "/kdump-zlib"); err != nil {
			continue
		}
		t.Run(filepath.Base(d), func(t *testing.T) {
			m := realOpen(t, nil, d+"/kdump-zlib")
			meta := m.Meta()
			meta.VMCoreInfo = nil
			for i := range meta.Notes {
				meta.Notes[i].Desc = nil
			}
			t.Logf("%+v", meta)
			ram, _ := os.ReadFile(d + "/ram")
			base := uint64(0)
			if strings.Contains(d, "arm64") {
				base = 0x40000000
			}
			if strings.Contains(d, "riscv") {
				base = 0x80000000
			}
			for r, err := range m.Runs(context.Background()) {
				t.Logf("%v %v zeros %v %v", r.Range, r.Err, r.Zeros, err)
			}
			t0 := time.Now()
			buf := make([]byte, 1<<20)
			same, differ, missing := 0, 0, 0
			for at := 0; at < len(ram); {
				n, err := m.Memory().ReadAt(context.Background(), buf[:min(1<<20, len(ram)-at)], remora.Addr(base+uint64(at)))
				if bytes.Equal(buf[:n], ram[at:at+n]) {
					same += n
				} else {
					differ += n
				}
				at += n
				if err != nil {
					var c remora.Cause
					errors.As(err, &c)
					if c != remora.ErrHole && c != remora.ErrNotSaved {
						t.Fatal(err)
					}
					missing += 4096
					at += 4096
				}
			}
			dt := time.Since(t0)
			t.Logf("same %d differ %d missing %d: %v %.0f MB/s", same, differ, missing, dt, float64(len(ram))/dt.Seconds()/1e6)
			t0 = time.Now()
			n := 0
			err := m.Check(context.Background(), func(e *remora.FormatError) {
				if n++; n < 20 {
					t.Log(e)
				}
			})
			t.Log("check", n, err, time.Since(t0))
			m.Close()
		})
	}
}

func TestRealFiles(t *testing.T) {
	list := os.Getenv("FILES")
	if list == "" {
		return
	}
	m := realOpen(t, nil, strings.Split(list, ",")...)
	meta := m.Meta()
	meta.VMCoreInfo = nil
	for i := range meta.Notes {
		meta.Notes[i].Desc = nil
	}
	t.Logf("%+v", meta)
	ram, _ := os.ReadFile(os.Getenv("RAM"))
	count := map[string]int{}
	buf := make([]byte, 1<<20)
	t0 := time.Now()
	for at := 0; at < len(ram); {
		n, err := m.Memory().ReadAt(context.Background(), buf[:min(1<<20, len(ram)-at)], remora.Addr(at))
		for i := 0; i < n; i += 4096 {
			if bytes.Equal(buf[i:i+4096], ram[at+i:at+i+4096]) {
				count["same"]++
			} else {
				count["differ"]++
			}
		}
		at += n
		if err != nil {
			var c remora.Cause
			errors.As(err, &c)
			count[fmt.Sprint(c)]++
			if count[fmt.Sprint(c)] < 3 {
				t.Log(err)
			}
			at += 4096
		}
	}
	t.Log(count, time.Since(t0))
	n := 0
	err := m.Check(context.Background(), func(e *remora.FormatError) {
		if n++; n < 20 {
			t.Log(e)
		}
	})
	t.Log("check", n, err, time.Since(t0))
	m.Close()
}

func BenchmarkRealFlat(b *testing.B) {
	p := "/tmp/remora-dumps/amd64-6.1/kdump-zlib"
	f, _ := os.Open(p)
	st, _ := f.Stat()
	s := &source{name: p, size: st.Size(), r: f}
	for b.Loop() {
		u, err := unwrapFlat(s)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(u.r.(*flat).pieces)), "ns/record")
	}
}

func BenchmarkRealSeq(b *testing.B) {
	m := realOpen(b, nil, "/tmp/remora-dumps/amd64-6.1/makedumpfile-zlib-1/dump")
	for _, g := range []int{1, 2} {
		b.Run(fmt.Sprint(g), func(b *testing.B) {
			b.SetBytes(1 << 28)
			for b.Loop() {
				var wait sync.WaitGroup
				for i := range g {
					wait.Go(func() {
						buf := make([]byte, 1<<20)
						for at := i * (1 << 28) / g; at < (i+1)*(1<<28)/g; at += 1 << 20 {
							m.Memory().ReadAt(context.Background(), buf, remora.Addr(at))
						}
					})
				}
				wait.Wait()
			}
		})
	}
}
