// SPDX-License-Identifier: Apache-2.0

package access

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/testneed"
)

// The differential test starts this test binary again in two roles: targets,
// which sit in some namespace with some credentials, and readers, which try
// process_vm_readv and /proc/PID/mem on every target. What the kernel answers
// must be what Decide says.

const roleEnv = "REMORA_ACCESS_ROLE"

// role says what a child makes of its main thread's credentials. Ids count in
// the child's user namespace; nil leaves them alone.
type role struct {
	Name       string
	NS         string // name of a namespace of the test
	UID, GID   *[3]int
	Permitted  *Caps
	Effective  *Caps
	Dumpable   int  // -1: leave it
	Unreadable bool // run from a program file that may be executed but not read
	Reader     bool
}

// hello is what a child says of itself.
type hello struct {
	TID, Dumpable int
	Addr          uint64
}

// visit is what a reader is asked to try, and report what it found.
type visit struct {
	TID  int
	Addr uint64
}

type report struct {
	VM, Mem, MemWrite syscall.Errno
	Own               []Decision // by facts that the reader gathered itself
	OwnErr            string
}

func TestMain(m *testing.M) {
	text := os.Getenv(roleEnv)
	if text == "" {
		os.Exit(m.Run())
	}
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		panic(err)
	}
	if err := r.play(); err != nil {
		fmt.Fprintln(os.Stderr, r.Name+":", err)
		os.Exit(1)
	}
}

var secret = [8]byte{1, 2, 3, 4, 5, 6, 7, 8}

// play takes the credentials on in this thread alone, and serves until stdin ends.
func (r *role) play() error {
	runtime.LockOSThread()
	if err := r.become(); err != nil {
		return err
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(hello{TID: unix.Gettid(), Dumpable: dumpable, Addr: uint64(reflect.ValueOf(&secret).Pointer())}); err != nil {
		return err
	}
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var v visit
		if err := in.Decode(&v); err != nil {
			return nil // the test is over
		}
		if err := out.Encode(v.try()); err != nil {
			return err
		}
	}
}

func set3(trap uintptr, ids *[3]int) error {
	if ids == nil {
		return nil
	}
	if _, _, e := unix.RawSyscall(trap, uintptr(ids[0]), uintptr(ids[1]), uintptr(ids[2])); e != 0 {
		return fmt.Errorf("ids %v: %w", *ids, e)
	}
	return nil
}

func (r *role) become() error {
	if err := unix.Prctl(unix.PR_SET_KEEPCAPS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := set3(unix.SYS_SETRESGID, r.GID); err != nil {
		return err
	}
	if err := set3(unix.SYS_SETRESUID, r.UID); err != nil {
		return err
	}
	if r.Permitted != nil || r.Effective != nil {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		if err := unix.Capget(&hdr, &data[0]); err != nil {
			return fmt.Errorf("capget: %w", err)
		}
		for i := range data {
			if r.Permitted != nil {
				data[i].Permitted = uint32(*r.Permitted >> (32 * i))
				data[i].Effective = data[i].Permitted
			}
			if r.Effective != nil {
				data[i].Effective = uint32(*r.Effective >> (32 * i))
			}
			data[i].Inheritable = 0
		}
		if err := unix.Capset(&hdr, &data[0]); err != nil {
			return fmt.Errorf("capset: %w", err)
		}
	}
	if r.Dumpable >= 0 {
		return unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(r.Dumpable), 0, 0, 0)
	}
	return nil
}

func (v *visit) try() report {
	var rep report
	errno := func(err error) (e syscall.Errno) { errors.As(err, &e); return e }
	b := make([]byte, 8)
	local := []unix.Iovec{{Base: &b[0], Len: 8}}
	_, err := unix.ProcessVMReadv(v.TID, local, []unix.RemoteIovec{{Base: uintptr(v.Addr), Len: 8}}, 0)
	rep.VM = errno(err)
	open := func(mode int) syscall.Errno {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/mem", v.TID), mode|unix.O_CLOEXEC, 0)
		if err == nil {
			_ = unix.Close(fd)
		}
		return errno(err)
	}
	rep.Mem, rep.MemWrite = open(unix.O_RDONLY), open(unix.O_RDWR)

	root := os.DirFS("/proc")
	facts := GatherFacts(root)
	me, err := Gather(root, unix.Gettid())
	if err == nil {
		var it Subject
		if it, err = Gather(root, v.TID); err == nil {
			for d := ProcessVM; d <= ProcMemWrite; d++ {
				rep.Own = append(rep.Own, Decide(d, me, it, facts))
			}
		}
	}
	if err != nil {
		rep.OwnErr = err.Error()
	}
	return rep
}

// child is a running role.
type child struct {
	role
	hello
	in  *json.Encoder
	out *json.Decoder
	subject,
	raw Subject // with, and without what Gather alone cannot know
}

// world holds the namespaces and the copies of the program.
type world struct {
	t          *testing.T
	exe        string
	unreadable string
	holder     map[string]int // pid of a process in the namespace of that name
	info       map[string]*Namespace
}

func newWorld(t *testing.T) *world {
	dir, err := os.MkdirTemp("", "access")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, exe: filepath.Join(dir, "prog"), unreadable: filepath.Join(dir, "unreadable"), holder: map[string]int{}, info: map[string]*Namespace{}}
	for name, mode := range map[string]os.FileMode{w.exe: 0o755, w.unreadable: 0o711} {
		if err := os.WriteFile(name, text, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	w.holder[""] = os.Getpid()
	w.info[""] = w.describe("")
	return w
}

// hold makes a user namespace below another: cat runs in it until the test ends, however it does.
func (w *world) hold(name, parent string, uid uint32, attr *syscall.SysProcAttr) {
	cmd := exec.Command("cat")
	if attr == nil { // made by uid itself, which becomes root in it
		cmd = exec.Command("unshare", "-U", "-r", "cat")
		attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	if parent != "" {
		cmd.Args = append([]string{"nsenter", fmt.Sprintf("--user=/proc/%d/ns/user", w.holder[parent]), "-S", fmt.Sprint(uid), "-G", fmt.Sprint(uid)}, cmd.Args...)
		cmd.Path, attr = "/usr/bin/nsenter", nil
	}
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	w.holder[name] = cmd.Process.Pid
	for { // unshare needs a moment to map its ids and run cat
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		if err != nil {
			w.t.Fatalf("namespace %s: %v", name, err)
		}
		if string(comm) == "cat\n" {
			break
		}
		runtime.Gosched()
	}
	w.info[name] = w.describe(name)
	if w.info[name].ID == w.info[parent].ID {
		w.t.Fatalf("namespace %s was not made", name)
	}
}

// describe asks the kernel for what Gather cannot: owner and parent (ioctl_ns(2)).
func (w *world) describe(name string) *Namespace {
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/user", w.holder[name]), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.describeFD(fd)
}

func (w *world) describeFD(fd int) *Namespace {
	defer unix.Close(fd)
	const nsGetParent, nsGetOwner = 0xb702, 0xb704
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		w.t.Fatal(err)
	}
	owner, err := unix.IoctlGetUint32(fd, nsGetOwner)
	if err != nil {
		w.t.Fatal(err)
	}
	n := &Namespace{ID: st.Ino, Owner: owner, OwnerKnown: true}
	if n.ID != InitUserNS {
		up, err := unix.IoctlRetInt(fd, nsGetParent)
		if err != nil {
			w.t.Fatal(err)
		}
		n.Parent = w.describeFD(up)
	}
	return n
}

func (w *world) start(r role) *child {
	text, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	exe := w.exe
	if r.Unreadable {
		exe = w.unreadable
	}
	cmd := exec.Command(exe)
	if r.NS != "" { // as root of the namespace, from which the role goes on
		cmd = exec.Command("nsenter", fmt.Sprintf("--user=/proc/%d/ns/user", w.holder[r.NS]), "-S", "0", "-G", "0", exe)
	}
	cmd.Env = append(os.Environ(), roleEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	c := &child{role: r, in: json.NewEncoder(in), out: json.NewDecoder(out)}
	if err := c.out.Decode(&c.hello); err != nil {
		w.t.Fatalf("%s: %v", r.Name, err)
	}
	w.facts(c)
	return c
}

// facts gathers, and then fills in the whole truth, holding it against what was gathered.
func (w *world) facts(c *child) {
	s, err := Gather(os.DirFS("/proc"), c.TID)
	if err != nil {
		w.t.Fatalf("%s: %v", c.Name, err)
	}
	c.raw = s
	ns, mem := w.info[c.NS], w.info[c.NS]
	if c.Unreadable {
		mem = w.info[""]
	}
	if s.UserNS == nil || s.UserNS.ID != ns.ID {
		w.t.Errorf("%s: gathered namespace %+v, it is %d", c.Name, s.UserNS, ns.ID)
	}
	if s.MemoryNS != nil && s.MemoryNS.ID != mem.ID && s.Dumpable != Yes {
		w.t.Errorf("%s: gathered memory namespace %d, it is %d", c.Name, s.MemoryNS.ID, mem.ID)
	}
	dumpable := answer(c.hello.Dumpable == 1)
	if s.Dumpable != Unknown && s.Dumpable != dumpable {
		w.t.Errorf("%s: gathered dumpable %v, it is %v", c.Name, s.Dumpable, dumpable)
	}
	s.UserNS, s.MemoryNS, s.Dumpable = ns, mem, dumpable
	c.subject = s
}

func ids(r, e, s int) *[3]int { return &[3]int{r, e, s} }
func caps(c Caps) *Caps       { return &c }

const (
	capNetRaw  Caps = 1 << 13
	capNetBind Caps = 1 << 10
)

// roles are the credentials that occur, as targets and as readers.
func roles() []role {
	none, one := caps(0), ids(1000, 1000, 1000)
	user := func(name string, uid, gid *[3]int, permitted *Caps, dumpable int) role {
		return role{Name: name, UID: uid, GID: gid, Permitted: permitted, Dumpable: dumpable}
	}
	list := []role{
		user("root", nil, nil, nil, -1),
		user("root, not dumpable", nil, nil, nil, 0),
		user("root, no capabilities", nil, nil, none, 1),
		user("root, no capabilities, as left by that", nil, nil, none, -1),
		{Name: "root, all permitted, none effective", Effective: none, Dumpable: 1},
		user("user", one, one, none, 1),
		user("user, as left by setuid", one, one, none, -1),
		user("user, not dumpable", one, one, none, 0),
		user("user, CAP_SYS_PTRACE", one, one, caps(CapSysPtrace), 1),
		user("user, CAP_SYS_PTRACE and CAP_DAC_OVERRIDE", one, one, caps(CapSysPtrace|CapDACOverride), 1),
		user("user, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH", one, one, caps(CapSysPtrace|CapDACReadSearch), 1),
		user("user, CAP_NET_RAW", one, one, caps(capNetRaw), 1),
		{Name: "user, CAP_NET_RAW permitted, not effective", UID: one, GID: one, Permitted: caps(capNetRaw), Effective: none, Dumpable: 1},
		user("user, CAP_NET_RAW and another", one, one, caps(capNetRaw|capNetBind), 1),
		user("user, other gid", one, ids(1001, 1001, 1001), none, 1),
		user("user, effective uid differs", ids(1000, 1001, 1000), one, none, 1),
		user("user, real uid differs", ids(1001, 1000, 1000), one, none, 1),
		user("user, saved uid differs", ids(1000, 1000, 1001), one, none, 1),
		user("user, saved gid differs", one, ids(1000, 1000, 1001), none, 1),
		user("user, effective gid differs", one, ids(1000, 1001, 1000), none, 1),
		user("other user", ids(1001, 1001, 1001), ids(1001, 1001, 1001), none, 1),
		user("nobody", ids(65534, 65534, 65534), ids(65534, 65534, 65534), none, 1),
		{Name: "user of an unreadable program", Unreadable: true, UID: one, GID: one, Permitted: none, Dumpable: -1},
		{Name: "root of a", NS: "a", Dumpable: -1},
		{Name: "root of a, not dumpable", NS: "a", Dumpable: 0},
		{Name: "root of a, no capabilities", NS: "a", Permitted: none, Dumpable: 1},
		{Name: "root of a, of an unreadable program", NS: "a", Unreadable: true, Dumpable: -1},
		{Name: "root of b", NS: "b", Dumpable: -1},
		{Name: "root of c", NS: "c", Dumpable: -1},
		{Name: "root of c, of an unreadable program", NS: "c", Unreadable: true, Dumpable: -1},
		{Name: "user of c", NS: "c", UID: ids(5, 5, 5), GID: ids(5, 5, 5), Permitted: none, Dumpable: 1},
		{Name: "user of c, not dumpable", NS: "c", UID: ids(5, 5, 5), GID: ids(5, 5, 5), Permitted: none, Dumpable: 0},
		{Name: "root of z", NS: "z", Dumpable: -1},
		{Name: "root of z, not dumpable", NS: "z", Dumpable: 0},
		{Name: "root of a below a", NS: "aa", Dumpable: -1},
		{Name: "root of a below a, not dumpable", NS: "aa", Dumpable: 0},
		{Name: "root of a below c", NS: "cc", Dumpable: -1},
	}
	return list
}

// want is what the kernel must answer for a verdict.
func want(d Door, v Verdict) syscall.Errno {
	switch {
	case v == Absent:
		return unix.ESRCH
	case v == Refused && d == ProcessVM:
		return unix.EPERM
	case v == Refused:
		return unix.EACCES
	}
	return 0
}

// emptyMem says whether this kernel opens /proc/PID/mem of who has no memory, for nothing
// to be read there: later ones give ESRCH (proc_mem_open in fs/proc/base.c).
func emptyMem(t *testing.T) bool {
	t.Helper()
	f, err := os.Open("/proc/2/mem")
	if err != nil {
		return false
	}
	defer f.Close()
	if n, err := f.ReadAt(make([]byte, 1), 4096); n != 0 || err != io.EOF {
		t.Errorf("a kernel thread's memory: %d, %v", n, err)
	}
	return true
}

// zombie is a process that has exited and was not waited for.
func (w *world) zombie(t *testing.T) int {
	t.Helper()
	cmd := exec.Command(w.exe, "-test.run=^$")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, &info, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid
}

// namesNobody says whether all that is open is whom the target has named to Yama
// (PR_SET_PTRACER). No role names anybody.
func namesNobody(d Decision) bool {
	step, _ := d.First()
	return d.Verdict == Undecided && step.Rule == RuleYama
}

// lacksPrograms says whether this system has what namespaces are made with.
func (w *world) lacksPrograms() error {
	for _, name := range []string{"cat", "unshare", "nsenter"} {
		if _, err := exec.LookPath(name); err != nil {
			return err
		}
	}
	return nil
}

// holdAll makes the namespaces.
func (w *world) holdAll() {
	w.hold("a", "", 1000, nil)
	w.hold("b", "", 1000, nil)
	mapping := func(outside int) *syscall.SysProcAttr {
		m := []syscall.SysProcIDMap{{ContainerID: 0, HostID: outside, Size: 1000}}
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: m, GidMappings: m}
	}
	w.hold("c", "", 0, mapping(100000))
	w.hold("z", "", 0, mapping(0))
	w.hold("aa", "a", 0, nil)
	w.hold("cc", "c", 0, nil)
}

// TestKernelAgreesWithDecide holds the rules R51-R58 against the running kernel: every
// reader tries every target.
func TestKernelAgreesWithDecide(t *testing.T) {
	testneed.Root(t)
	w := newWorld(t)
	list := roles()
	if lack := w.lacksPrograms(); lack == nil {
		w.holdAll()
	} else if t.Log("no user namespaces: ", lack); testneed.All() {
		t.Fatal(lack)
	} else {
		list = slices.DeleteFunc(list, func(r role) bool { return r.NS != "" })
	}

	empty := emptyMem(t)
	agrees := func(d Decision, got syscall.Errno) bool {
		return want(d.Door, d.Verdict) == got || empty && d.Verdict == Absent && d.Door != ProcessVM && got == 0
	}
	facts := GatherFacts(os.DirFS("/proc"))
	var targets, readers []*child
	for _, r := range list {
		targets = append(targets, w.start(r))
		r.Reader = true
		readers = append(readers, w.start(r))
	}
	kernelThread := &child{role: role{Name: "a kernel thread"}, hello: hello{TID: 2, Addr: 4096}}
	dead := &child{role: role{Name: "a zombie"}, hello: hello{TID: w.zombie(t), Addr: 4096}}
	w.facts(kernelThread)
	w.facts(dead)
	targets = append(targets, kernelThread, dead)

	var total, allowed int
	var undecided [2]int // with facts as gathered by root, by the reader itself
	gathered := func(by int, pair string, dec Decision, got syscall.Errno, simple bool) {
		step, _ := dec.First()
		switch {
		case dec.Verdict != Undecided:
			if !agrees(dec, got) {
				t.Errorf("%s: the kernel says %v, what was gathered says %v", pair, got, dec)
			}
		case namesNobody(dec):
			if want(dec.Door, Refused) != got {
				t.Errorf("%s: the kernel says %v, and no target has named anybody: %v", pair, got, dec)
			}
		case simple && step.Rule != RuleDumpable:
			t.Errorf("%s: without namespaces only Dumpable may be unknown: %v", pair, dec)
		default:
			undecided[by]++
		}
	}
	for _, r := range readers {
		for _, it := range append(targets, r) { // r: itself
			if err := r.in.Encode(visit{TID: it.TID, Addr: it.Addr}); err != nil {
				t.Fatal(err)
			}
			var rep report
			if err := r.out.Decode(&rep); err != nil {
				t.Fatalf("%s: %v", r.Name, err)
			}
			if rep.VM == unix.EFAULT { // permitted: permission is tested first (R18)
				t.Errorf("%s -> %s: EFAULT at %#x", r.Name, it.Name, it.Addr)
			}
			for d, got := range []syscall.Errno{rep.VM, rep.Mem, rep.MemWrite} {
				door := Door(d)
				pair := fmt.Sprintf("%s -> %s by %v", r.Name, it.Name, door)
				total++
				if got == 0 {
					allowed++
				}
				dec := Decide(door, r.subject, it.subject, facts)
				if namesNobody(dec) {
					dec.Verdict = Refused
				}
				if dec.Verdict == Undecided || !agrees(dec, got) {
					t.Errorf("%s: the kernel says %v, Decide: %v", pair, got, dec)
				}
				simple := r.NS == "" && it.NS == ""
				gathered(0, pair+", by root", Decide(door, r.raw, it.raw, facts), got, simple)
				if rep.OwnErr != "" {
					t.Fatalf("%s: the reader cannot gather: %s", pair, rep.OwnErr)
				}
				gathered(1, pair+", by the reader", rep.Own[d], got, simple)
			}
		}
	}
	t.Logf("%d questions, %d allowed; undecided by what root gathered: %d, by what the reader gathered: %d", total, allowed, undecided[0], undecided[1])
	if least := total / 20; total < 120 || facts.Yama < 3 && allowed < least || allowed > total*19/20 {
		t.Errorf("%d questions, %d allowed: too few of one kind", total, allowed)
	}
	if undecided[0] > total/5 || undecided[1] > total/2 {
		t.Errorf("undecided: %v of %d", undecided, total)
	}
}

// TestKernelRefusalIsExplained holds the explanation, not only the verdict, on a live pair.
func TestKernelRefusalIsExplained(t *testing.T) {
	testneed.Root(t)
	w := newWorld(t)
	target := w.start(role{Name: "target", UID: ids(1000, 1000, 1000), GID: ids(1000, 1000, 1000), Permitted: caps(0), Dumpable: 0})
	reader := w.start(role{Name: "reader", UID: ids(1000, 1000, 1000), GID: ids(1000, 1000, 1000), Permitted: caps(0), Dumpable: 1})
	s, ok := Decide(ProcessVM, reader.raw, target.raw, GatherFacts(os.DirFS("/proc"))).First()
	if !ok || s.Rule != RuleDumpable || !strings.Contains(s.Text, "PR_SET_DUMPABLE") || !strings.Contains(s.Remedy, "setcap cap_sys_ptrace") {
		t.Errorf("%+v", s)
	}
}
