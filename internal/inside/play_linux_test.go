// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/sys/linux"
)

// roles are what the test binary plays in a guest, when its first argument names one.
var roles = map[string]func(args []string) error{
	"target":  target,
	"look":    look,
	"parent":  parent,
	"doctors": doctors,
	"trace":   tracerRole,
}

func play(role string, args []string) int {
	if err := roles[role](args); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

// page is a page of a target.
type page struct {
	name string
	addr uint64
	prot int // of the mapping
}

const pageFill = 0x5a

// pages maps one page of each sort, and fills it.
func pages() ([]page, error) {
	all := []page{
		{"rw", 0, linux.ProtRead | linux.ProtWrite}, {"ro", 0, linux.ProtRead},
		{"none", 0, linux.ProtNone}, {"shared-ro", 0, linux.ProtRead},
	}
	size := os.Getpagesize()
	for i := range all {
		p := &all[i]
		flags, fd := linux.MapPrivate|linux.MapAnonymous, -1
		if p.name == "shared-ro" { // of a file that this process may not write
			f, err := os.CreateTemp("", "page")
			if err != nil {
				return nil, err
			}
			if err := errors.Join(f.Truncate(int64(size)), os.Chmod(f.Name(), 0o444)); err != nil {
				return nil, err
			}
			if f, err = os.Open(f.Name()); err != nil {
				return nil, err
			}
			flags, fd = linux.MapShared, int(f.Fd())
		}
		var errno linux.Errno
		if p.addr, errno = linux.MapAt(0, uint64(size), linux.ProtRead|linux.ProtWrite*bit(fd < 0), flags, fd, 0); errno != 0 {
			return nil, fmt.Errorf("mmap: %w", errno)
		}
		if fd < 0 {
			b := linux.BytesAt(p.addr, size)
			for i := range b {
				b[i] = pageFill
			}
		}
		if errno := linux.ProtectAt(p.addr, uint64(size), p.prot); errno != 0 {
			return nil, fmt.Errorf("mprotect: %w", errno)
		}
	}
	return all, nil
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

// target says where its pages are, a name and an address a line, and then for every line
// that it reads what the first eight bytes of each are.
func target(args []string) error {
	for _, a := range args {
		switch a {
		case "undumpable":
			if errno := linux.SetDumpable(false); errno != 0 {
				return errno
			}
		case "names-all": // whoever asks may trace it, says this to Yama
			if err := unix.Prctl(unix.PR_SET_PTRACER, ^uintptr(0), 0, 0, 0); err != nil {
				return err
			}
		}
	}
	all, err := pages()
	if err != nil {
		return err
	}
	for _, p := range all {
		fmt.Printf("%s 0x%x\n", p.name, p.addr)
	}
	fmt.Println("ready")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		for _, p := range all {
			if errno := linux.ProtectAt(p.addr, 8, linux.ProtRead); errno != 0 {
				return errno
			}
			fmt.Printf("%s %x\n", p.name, linux.BytesAt(p.addr, 8))
			if errno := linux.ProtectAt(p.addr, 8, p.prot); errno != 0 {
				return errno
			}
		}
		fmt.Println("done")
	}
	return in.Err()
}

// victim is a target that was started. It ends with the pipe.
type victim struct {
	cmd  *exec.Cmd
	pipe *os.File
	addr string // of the page "rw"
}

// startTarget starts one as a user.
func startTarget(uid uint32, args ...string) (*victim, error) {
	c := exec.Command("/proc/self/exe", append([]string{"target"}, args...)...)
	if os.Getuid() == 0 {
		c.SysProcAttr = linux.RunAs(uid, uid, nil)
	}
	c.Stderr = os.Stderr
	in, pipe, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	c.Stdin = in
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	v := &victim{cmd: c, pipe: pipe}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		if addr, ok := strings.CutPrefix(lines.Text(), "rw "); ok {
			v.addr = addr
		}
	}
	return v, nil
}

func (v *victim) end() {
	v.pipe.Close()
	_ = v.cmd.Wait()
}

// seen is what the kernel lets a process do to another.
type seen struct {
	VM, Mem, MemWrite syscall.Errno
}

// try does it.
func try(pid int, addr uint64) (s seen) {
	b := make([]byte, 8)
	_, errno := linux.VMOne(false, pid, b, addr)
	s.VM = syscall.Errno(errno)
	for mode, into := range map[int]*syscall.Errno{unix.O_RDONLY: &s.Mem, unix.O_RDWR: &s.MemWrite} {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/mem", pid), mode|unix.O_CLOEXEC, 0)
		if errors.As(err, into); err == nil {
			unix.Close(fd)
		}
	}
	return s
}

// look says on one line what the kernel lets it do to a process, and then becomes doctor
// for that one.
func look(args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	addr, err := strconv.ParseUint(args[1], 0, 64)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(try(pid, addr)); err != nil {
		return err
	}
	return unix.Exec("/bin/remora", []string{"remora", "doctor", "--json", args[0]}, os.Environ())
}

// parent is look at a child of its own.
func parent(args []string) error {
	v, err := startTarget(uint32(os.Getuid()), args...)
	if err != nil {
		return err
	}
	if _, err := unix.FcntlInt(v.pipe.Fd(), unix.F_SETFD, 0); err != nil { // the child ends with doctor
		return err
	}
	return look([]string{strconv.Itoa(v.cmd.Process.Pid), v.addr})
}

// capSysPtrace is CAP_SYS_PTRACE (linux/capability.h).
const capSysPtrace = 19

// meeting is one process that looks at another.
type meeting struct {
	Reader, Target string
	Kernel         seen
	Doctor         json.RawMessage
	Exit           int
}

// doctors has all who look meet all targets, a line of JSON each.
func doctors([]string) error {
	targets := []struct {
		name string
		uid  uint32
		args []string
	}{
		{"user", 1000, nil}, {"user, not dumpable", 1000, []string{"undumpable"}},
		{"user, names a tracer", 1000, []string{"names-all"}}, {"root", 0, nil},
	}
	readers := []struct {
		name string
		uid  uint32
		caps []uintptr
	}{{"root", 0, nil}, {"user", 1000, nil}, {"other user", 1001, nil}, {"user with CAP_SYS_PTRACE", 1000, []uintptr{capSysPtrace}}}
	for _, it := range targets {
		v, err := startTarget(it.uid, it.args...)
		if err != nil {
			return err
		}
		for _, r := range readers {
			m := meeting{Reader: r.name, Target: it.name}
			if err := m.hold(r.uid, r.caps, "look", strconv.Itoa(v.cmd.Process.Pid), v.addr); err != nil {
				return err
			}
		}
		v.end()
	}
	for _, it := range targets[:2] {
		m := meeting{Reader: "its parent", Target: it.name}
		if err := m.hold(it.uid, nil, append([]string{"parent"}, it.args...)...); err != nil {
			return err
		}
	}
	return nil
}

// hold runs who looks, and tells what came of it.
func (m *meeting) hold(uid uint32, caps []uintptr, args ...string) error {
	c := exec.Command("/proc/self/exe", args...)
	if uid != 0 {
		c.SysProcAttr = linux.RunAs(uid, uid, caps)
	}
	c.Env = []string{"HOME=/tmp"}
	out, err := c.Output()
	if failed := new(exec.ExitError); err != nil && !errors.As(err, &failed) {
		return err
	}
	first, rest, _ := strings.Cut(string(out), "\n")
	if err := json.Unmarshal([]byte(first), &m.Kernel); err != nil {
		return fmt.Errorf("%s meets %s: %w: %q", m.Reader, m.Target, err, out)
	}
	m.Doctor, m.Exit = json.RawMessage(rest), c.ProcessState.ExitCode()
	return json.NewEncoder(os.Stdout).Encode(m)
}
