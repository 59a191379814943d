// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/sys/linux"
)

// What this program is besides its tests, where it is called so.
const (
	waitName  = "waits" // its name: prints a line, and waits for the end of its input
	showName  = "show"  // its first argument: see show
	churnName = "churn" // the same: see churn
)

func TestMain(m *testing.M) {
	switch {
	case os.Args[0] == waitName:
		fmt.Println("ready")
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case len(os.Args) == 3 && os.Args[1] == showName:
		fmt.Fprintln(os.Stderr, show(os.Args[2]))
		os.Exit(1)
	case len(os.Args) == 2 && os.Args[1] == churnName:
		fmt.Fprintln(os.Stderr, churn())
		os.Exit(1)
	}
	specimen.Main(specimen.Job{Name: "stranger", Run: stranger})
	os.Exit(m.Run())
}

// stranger looks at a process of somebody else: what it gets is written out.
func stranger(out io.Writer, args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	h, err := Open("", "", "", os.O_RDONLY, "")
	if err != nil {
		return err
	}
	defer h.Close()
	p, err := h.GetProc(context.Background(), pid)
	if err != nil {
		return err
	}
	n, uread := h.URead(context.Background(), make([]byte, 8), 0x1000)
	_, _, getcmd := h.GetCmd(context.Background(), p, nil)
	var a, b *Error
	if !errors.As(uread, &a) || !errors.As(getcmd, &b) {
		return fmt.Errorf("%v, %v: want two of *Error", uread, getcmd)
	}
	_, err = fmt.Fprintf(out, "%d %s %s %v", n, a.Errno.Name(), b.Errno.Name(), errors.Is(uread, errno.EACCES))
	return err
}

// openRunningSystem opens it by one of its names.
func openRunningSystem(t testing.TB, o *Options, flag int) *Handle {
	t.Helper()
	h, err := OpenWith(t.Context(), o, "", "/dev/kmem", "", flag, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func getProc(t testing.TB, h *Handle, pid int) *Proc {
	t.Helper()
	p, err := h.GetProc(t.Context(), pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// show prints where it keeps a text, and the text as it is then for each line of its input
// that is "show". At "exec" it begins anew, with that as the text.
func show(text string) error {
	b := []byte(text)
	fmt.Printf("%p\n", b)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "show":
			fmt.Printf("%s\n", b)
		case "exec":
			os.Args[2] = "exec"
			return linux.ExecSelf()
		}
	}
	return io.EOF
}

// churn starts one process after another, each of which ends at once. Its only argument
// and its only variable are the same number.
func churn() error {
	for i := 0; ; i++ {
		number := strconv.Itoa(i)
		c := exec.Cmd{Path: "/proc/self/exe", Args: []string{waitName, number}, Env: []string{"NUMBER=" + number}}
		if err := c.Run(); err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("started")
		}
	}
}

// startWaiting starts a process with these arguments and environment. It waits for its
// input, which ends with the test.
func startWaiting(t testing.TB, args, env []string) int {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), self)
	c.Args = append([]string{waitName}, args...)
	c.Env = env
	if env == nil {
		c.Env = []string{}
	}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		c.Wait()
	})
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}

// procStrings reads a file of NUL-terminated strings of a process.
func procStrings(t testing.TB, pid int, name string) ([]string, error) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil || len(b) == 0 {
		return []string{}, err
	}
	return strings.Split(strings.TrimSuffix(string(b), "\x00"), "\x00"), nil
}

// descriptors counts the open files of this process.
func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

// processNumbers lists /proc.
func processNumbers(t testing.TB) map[int]bool {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	all := map[int]bool{}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all[pid] = true
		}
	}
	return all
}
