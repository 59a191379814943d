// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/testneed"
)

// TestMain lets the test binary be the command, a target, and the command run by
// somebody else.
func TestMain(m *testing.M) {
	specimen.Main(Job(), specimen.Job{Name: "remora", Run: func(_ io.Writer, args []string) error {
		os.Exit(Main(context.Background(), args, Standard()))
		return nil
	}})
	testscript.Main(m, map[string]func(){"remora": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
		context.AfterFunc(ctx, stop)
		os.Exit(Main(ctx, os.Args[1:], Standard()))
	}})
}

// TestScripts runs testdata/script. Besides what testscript has there are:
//
//	exits CODE PROGRAM ARG...  run it, and look at its exit code
//	refused CODE ARG...        run remora so that it may not reach the specimen
//	filtered CODE ARG...       run remora where process_vm_* gives EPERM (seccomp)
//	specimen KIND:PAGES...     start a process with such memory, side by side: $pid,
//	                           and $a0, $a1... where each piece begins; $x0... in 16
//	                           digits, $m0... as maps has it
//	poke ADDR TEXT             store text there; \0 is a NUL
//	holds ADDR TEXT            the specimen itself finds it there
//	ends HOW                   exit or kill: the specimen is a zombie; gone: not even that
//	runs                       the specimen calls execve
//	stuck                      wait until somebody waits for a page of kind missing
//	resolve ADDR               bring that page
//	unmap ADDR                 the specimen unmaps that page
//	interrupt                  SIGINT for the last program in the background
//	code CODE                  look at the exit code of that program, after wait
//	core FILE [ARG...]         write a small ELF core, with the stack of a process that had
//	                           these arguments
//	image FILE KIND            write the image of a small machine with a kernel: see writeImage
//	damage FILE OFFSET TEXT    write over a part of it; with cut for TEXT it ends there
//	unchanged FILE...          these hold what they held when this was first said of them
//	fifo FILE                  make a FIFO
//	repeat N TEXT FILE         write N lines of TEXT
//	objects stdout|stderr      every line is an object with a schema
//	kthread                    $kthread is a kernel thread; without one there is no test
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// The race detector would have each program wait a second before it ends.
			env.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
			env.Values[stageKey{}] = &stage{t: env.T()}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "refused": refused, "specimen": startSpecimen, "poke": poke, "ends": ends, "runs": runs,
			"stuck": stuck, "resolve": resolve, "unmap": unmap, "interrupt": interrupt, "code": code, "core": writeCore, "repeat": repeat, "objects": objects, "kthread": kthread,
			"holds": holds, "filtered": filtered, "image": writeImage, "damage": damageFile, "unchanged": digest, "fifo": fifo,
		},
	})
}

type stageKey struct{}

// stage is what the commands of one script share.
type stage struct {
	t  testscript.T
	s  *specimen.Specimen
	bg *exec.Cmd
}

func on(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

// need takes apart arguments, all of which must be there.
func need(ts *testscript.TestScript, neg bool, args []string, n int, form string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", form)
	}
}

func number64(ts *testscript.TestScript, s string) uint64 {
	n, err := strconv.ParseUint(s, 0, 64)
	ts.Check(err)
	return n
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "exits CODE PROGRAM ARG...")
	checkCode(ts, ts.Exec(args[1], args[2:]...), args[0])
}

func checkCode(ts *testscript.TestScript, err error, want string) {
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != want {
		ts.Fatalf("exit code %d, want %s", got, want)
	}
}

// refused: root runs remora as somebody else; others hide the target from themselves.
func refused(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "refused CODE ARG...")
	o := &specimen.RunOptions{As: &specimen.Identity{UID: 65534, GID: 65534}}
	if os.Geteuid() != 0 {
		o = nil
		ts.Check(on(ts).s.Dumpable(false))
	}
	out, err := specimen.Run(context.Background(), o, "remora", args[1:]...)
	fmt.Fprint(ts.Stdout(), out)
	if err != nil {
		fmt.Fprint(ts.Stderr(), err)
	}
	checkCode(ts, err, args[0])
}

func startSpecimen(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 0, "specimen KIND:PAGES...")
	s, err := specimen.Start(context.Background(), nil)
	ts.Check(err)
	ts.Defer(func() { s.Close() })
	on(ts).s = s
	ts.Setenv("pid", strconv.Itoa(s.Pid()))
	var pieces []specimen.Piece
	for _, arg := range args {
		name, pages, _ := strings.Cut(arg, ":")
		n, err := strconv.Atoi(pages)
		ts.Check(err)
		k := kindNamed(name)
		if k.String() != strings.ReplaceAll(name, "-", " ") && k.String() != name {
			ts.Fatalf("no kind %q", name)
		}
		pieces = append(pieces, specimen.Piece{Kind: k, Pages: n})
	}
	if len(pieces) == 0 {
		return
	}
	ranges, err := s.Layout(pieces...)
	if errors.Is(err, errors.ErrUnsupported) {
		lacking(ts, err)
	}
	ts.Check(err)
	for i, r := range ranges {
		ts.Setenv(fmt.Sprintf("a%d", i), r.Start.String())
		ts.Setenv(fmt.Sprintf("x%d", i), fmt.Sprintf("%016x", uint64(r.Start)))
		ts.Setenv(fmt.Sprintf("m%d", i), fmt.Sprintf("%08x", uint64(r.Start)))
	}
}

func kindNamed(name string) specimen.Kind {
	k := specimen.Hole
	for ; k < specimen.FileEnd; k++ {
		if k.String() == name || k.String() == strings.ReplaceAll(name, "-", " ") {
			break
		}
	}
	return k
}

// lacking skips a script that needs what is not there, unless everything is claimed
// to be.
func lacking(ts *testscript.TestScript, err error) {
	if testneed.All() {
		ts.Fatalf("%v", err)
	}
	on(ts).t.Skip(err)
}

// kthread finds a kernel thread: one has no command line, and PF_KTHREAD among its flags.
func kthread(ts *testscript.TestScript, _ bool, _ []string) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	ts.Check(err)
	for _, name := range names {
		text, _ := os.ReadFile(name)
		fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
		if len(fields) < 7 {
			continue // it has ended
		}
		if flags, err := strconv.ParseUint(fields[6], 10, 64); err == nil && flags&0x00200000 != 0 {
			ts.Setenv("kthread", filepath.Base(filepath.Dir(name)))
			return
		}
	}
	lacking(ts, errors.New("no kernel thread can be seen from here"))
}

func poke(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "poke ADDR TEXT")
	text := strings.ReplaceAll(args[1], `\0`, "\x00")
	ts.Check(on(ts).s.Poke([]byte(text), remora.Addr(number64(ts, args[0]))))
}

func ends(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "ends HOW")
	switch args[0] {
	case "exit":
		ts.Check(on(ts).s.Exit())
	case "kill":
		ts.Check(on(ts).s.Kill())
	case "gone":
		ts.Check(on(ts).s.Close())
	default:
		ts.Fatalf("no such end: %s", args[0])
	}
}

func runs(ts *testscript.TestScript, _ bool, _ []string) { ts.Check(on(ts).s.Exec()) }

// hang is how long a script waits for what must happen.
const hang = time.Minute

func stuck(ts *testscript.TestScript, _ bool, _ []string) {
	for deadline := time.Now().Add(hang); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_, _, ok, err := on(ts).s.Waiter()
		ts.Check(err)
		if ok {
			on(ts).bg = newest(ts)
			return
		}
	}
	ts.Fatalf("nobody waits")
}

// newest is the program that was last started in the background.
func newest(ts *testscript.TestScript) *exec.Cmd {
	all := ts.BackgroundCmds()
	if len(all) == 0 {
		ts.Fatalf("nothing runs in the background")
	}
	return all[len(all)-1]
}

func resolve(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "resolve ADDR")
	ts.Check(on(ts).s.Resolve(make([]byte, os.Getpagesize()), remora.Addr(number64(ts, args[0]))))
}

func unmap(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "unmap ADDR")
	ts.Check(on(ts).s.Unmap(remora.Range{Start: remora.Addr(number64(ts, args[0])), Size: uint64(os.Getpagesize())}))
}

func interrupt(ts *testscript.TestScript, _ bool, _ []string) {
	on(ts).bg = newest(ts)
	ts.Check(on(ts).bg.Process.Signal(os.Interrupt))
}

func code(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "code CODE")
	if got := strconv.Itoa(on(ts).bg.ProcessState.ExitCode()); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

func repeat(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "repeat N TEXT FILE")
	text := strings.Repeat(args[1]+"\n", int(number64(ts, args[0])))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(text), 0o600))
}
