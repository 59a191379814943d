// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// asSubject is the argument of this program as a process in a guest whose memory is
// looked at, and which says what is in it.
const asSubject = "subject"

// isSubject says whether this is that.
func isSubject() bool { return slices.Contains(os.Args, asSubject) }

// What a subject has.
const (
	subjectBytes = 1 << 20
	subjectSeed  = 0x5eed
	subjectWord  = "a word of the subject"
)

// beSubject answers the lines of the standard input until it ends.
func beSubject(t *testing.T) {
	all, err := unix.Mmap(-1, 0, subjectBytes+4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mlock(all); err != nil {
		t.Fatal(err)
	}
	memory, word := all[:subjectBytes], all[subjectBytes:]
	witness.Fill(memory, subjectSeed)
	copy(word, subjectWord)
	fmt.Printf("subject %d %p\n", os.Getpid(), &all[0])
	calm := func() {}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch in.Text() {
		case "sum":
			fmt.Printf("sum %x\n", sha256.Sum256(memory))
		case "word":
			s, _, _ := bytes.Cut(word, []byte{0})
			fmt.Printf("word %s\n", s)
		case "name":
			var u unix.Utsname
			if err := unix.Uname(&u); err != nil {
				t.Fatal(err)
			}
			fmt.Printf("name %s\n", unix.ByteSliceToString(u.Nodename[:]))
		case "churn":
			calm = churn()
			fmt.Println("churn")
		case "calm":
			calm()
			fmt.Println("calm")
		case "processes":
			fmt.Println("processes " + processes())
		}
	}
}

// churn maps, fills and unmaps memory all the time, and writes files.
func churn() (calm func()) {
	stop := make(chan struct{})
	var tasks sync.WaitGroup
	for i := range 2 {
		tasks.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				b, err := unix.Mmap(-1, 0, 24<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
				if err != nil {
					continue
				}
				for at := 0; at < len(b); at += 4096 {
					b[at] = byte(n)
				}
				unix.Munmap(b)
				os.WriteFile(fmt.Sprintf("/tmp/churn%d", i), b2(n), 0o600)
			}
		})
	}
	return sync.OnceFunc(func() { close(stop); tasks.Wait() })
}

func b2(n int) []byte { return bytes.Repeat([]byte{byte(n)}, 1<<20) }

// processes gives what /proc lists, as PID:NAME. Kernel threads have names there that are
// longer than those of other tasks.
func processes() string {
	entries, _ := os.ReadDir("/proc")
	var all []string
	for _, e := range entries {
		if name, err := os.ReadFile("/proc/" + e.Name() + "/comm"); err == nil && e.Name()[0] <= '9' {
			name = bytes.TrimSpace(name)
			all = append(all, e.Name()+":"+string(name[:min(len(name), 15)]))
		}
	}
	return strings.Join(all, " ")
}

// subject is such a process, as the test sees it.
type subject struct {
	g     *liveGuest
	p     *vmlab.Started
	pid   int
	base  remora.Addr
	lines int
}

// startSubject starts one in a guest that carries this program.
func startSubject(g *liveGuest, test string) *subject {
	g.t.Helper()
	p, err := g.Start(g.t.Context(), "/bin/target.test", "-test.run=^"+test+"$", asSubject)
	if err != nil {
		g.t.Fatal(err)
	}
	s := &subject{g: g, p: p}
	var base uint64
	if _, err := fmt.Sscanf(s.next(g.t, "subject"), "%d 0x%x", &s.pid, &base); err != nil {
		g.t.Fatal(err)
	}
	s.base = remora.Addr(base)
	return s
}

// ask gives the subject a line, and its answer.
func (s *subject) ask(t *testing.T, line string) string {
	t.Helper()
	if err := s.p.Tell(t.Context(), line+"\n"); err != nil {
		t.Fatal(err)
	}
	return s.next(t, line)
}

// next waits for the next line that it prints, which is to begin so.
func (s *subject) next(t *testing.T, begins string) string {
	t.Helper()
	for range 600 {
		r, err := s.p.Output(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if all := strings.SplitAfter(r.Stdout, "\n"); len(all) > s.lines+1 {
			line := all[s.lines]
			s.lines++
			rest, ok := strings.CutPrefix(line, begins)
			if !ok {
				t.Fatalf("the subject says %q, and not %q", line, begins)
			}
			return strings.TrimSpace(rest)
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("the subject does not say %q", begins)
	return ""
}

// printLog prints what syslog(2) gives, without the priorities.
func printLog(t *testing.T) {
	const readAll = 3 // SYSLOG_ACTION_READ_ALL
	b := make([]byte, 1<<20)
	n, err := unix.Klogctl(readAll, b)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b[:n])) {
		_, text, _ := strings.Cut(line, ">")
		fmt.Print(text)
	}
}
