// SPDX-License-Identifier: Apache-2.0

package access

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// CapSysRawio is what /proc/kcore and /dev/mem ask for.
const CapSysRawio Caps = 1 << 17

// System is what decides over the memory of the running kernel itself.
type System struct {
	RawIO   Answer // the caller has CAP_SYS_RAWIO in the initial user namespace
	UID     uint32 // the caller's effective one
	Release string // of the kernel; empty: not known

	Lockdown     string // "none", "integrity" or "confidentiality"; empty: not known
	LockdownFrom string // where that is written

	Config     map[string]bool // the kernel's options that count, without CONFIG_; nil: not known
	ConfigFrom string          // the file that they are from
}

// GatherSystem reads the facts from a tree like /: os.DirFS("/"). What cannot be read stays
// unknown.
func GatherSystem(root fs.FS) System {
	var s System
	if text, err := readFile(root, "proc/self/status"); err == nil {
		if st, err := ParseStatus(text); err == nil {
			s.UID, s.RawIO = st.UID.Effective, No
			if st.Effective&CapSysRawio != 0 {
				s.RawIO = Unknown
				if ns := userNS(root, "proc/self"); ns != nil {
					s.RawIO = answer(ns.initial())
				}
			}
		}
	}
	if text, err := readFile(root, "proc/sys/kernel/osrelease"); err == nil {
		s.Release = strings.TrimSpace(string(text))
	}
	s.lockdown(root)
	s.config(root)
	return s
}

// lockdown reads the state, "none [integrity] confidentiality", or what the kernel was
// started with, which is the least that it can be.
func (s *System) lockdown(root fs.FS) {
	const state = "sys/kernel/security/lockdown"
	if text, err := readFile(root, state); err == nil {
		_, rest, _ := strings.Cut(string(text), "[")
		if mode, _, ok := strings.Cut(rest, "]"); ok {
			s.Lockdown, s.LockdownFrom = mode, "/"+state
			return
		}
	}
	text, _ := readFile(root, "proc/cmdline")
	for _, f := range strings.Fields(string(text)) {
		if mode, ok := strings.CutPrefix(f, "lockdown="); ok {
			s.Lockdown, s.LockdownFrom = mode, "/proc/cmdline"
		}
	}
}

// configOptions are the options of a kernel that count.
func configOptions() []string {
	return []string{"PROC_KCORE", "DEVMEM", "STRICT_DEVMEM", "IO_STRICT_DEVMEM", "SECURITY_LOCKDOWN_LSM"}
}

// maxConfig is more than any kernel's configuration.
const maxConfig = 8 << 20

// config looks for the configuration where distributions have it.
func (s *System) config(root fs.FS) {
	names := []string{"proc/config.gz"}
	if s.Release != "" && !strings.ContainsAny(s.Release, "/\\") {
		names = append(names, "boot/config-"+s.Release, "lib/modules/"+s.Release+"/config")
	}
	for _, name := range names {
		f, err := root.Open(name)
		if err != nil {
			continue
		}
		s.Config = parseConfig(f, strings.HasSuffix(name, ".gz"))
		f.Close()
		if s.Config != nil {
			s.ConfigFrom = "/" + name
			return
		}
	}
}

// parseConfig reads lines CONFIG_NAME=y. What is not named is off.
func parseConfig(r io.Reader, packed bool) map[string]bool {
	r = io.LimitReader(r, maxConfig)
	if packed {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil
		}
		r = io.LimitReader(z, maxConfig)
	}
	found, lines := map[string]bool{}, 0
	in := bufio.NewScanner(r)
	for in.Scan() {
		line := bytes.TrimSpace(in.Bytes())
		if bytes.Contains(line, []byte("CONFIG_")) {
			lines++
		}
		name, value, ok := strings.Cut(string(line), "=")
		if name, ours := strings.CutPrefix(name, "CONFIG_"); ok && ours && value == "y" {
			for _, want := range configOptions() {
				if name == want {
					found[want] = true
				}
			}
		}
	}
	if in.Err() != nil || lines == 0 {
		return nil
	}
	return found
}

// option says whether the kernel was built with an option.
func (s *System) option(name string) Answer {
	if s.Config == nil {
		return Unknown
	}
	return answer(s.Config[name])
}

// What else leads to the memory of a kernel that refuses: from outside of it.
const fromOutside = "the memory can be had from outside of the kernel: by the stub of a debugger (gdb:), or of a guest from its host (qemu:)"

// Kcore says why /proc/kcore refuses to be opened, and what would help (open_kcore in
// fs/proc/kcore.c). file: its owner and mode refuse. The Rule of the Step means nothing.
func (s *System) Kcore(file bool) Step {
	step := Step{Passed: No}
	switch {
	case file || s.RawIO == No:
		step.Text, step.Remedy = s.noRawIO("/proc/kcore")
	case s.Lockdown == "confidentiality":
		step.Text = "the kernel is locked down for confidentiality (" + s.LockdownFrom + "), which refuses /proc/kcore"
		step.Remedy = "boot without lockdown=confidentiality; or " + fromOutside
	default:
		step.Text = "CAP_SYS_RAWIO is there, so that the kernel must be locked down for confidentiality, or a module of security refuses" + s.unseen()
		step.Remedy = "look at /sys/kernel/security/lockdown and in the audit log; or " + fromOutside
	}
	return step
}

func (s *System) noRawIO(file string) (text, remedy string) {
	switch {
	case s.RawIO == Yes:
		text = fmt.Sprintf("the owner and mode of %s refuse uid %d", file, s.UID)
	case s.RawIO == Unknown:
		text = fmt.Sprintf("%s is for CAP_SYS_RAWIO in the initial user namespace, which cannot be told here", file)
	default:
		text = fmt.Sprintf("%s is for root with CAP_SYS_RAWIO in the initial user namespace; this program has uid %d and does not have it", file, s.UID)
	}
	return text, "run as root outside of containers"
}

// unseen says that the state of lockdown cannot be seen.
func (s *System) unseen() string {
	if s.Lockdown != "" {
		return " (lockdown is " + s.Lockdown + " by " + s.LockdownFrom + ")"
	}
	return " (there is no /sys/kernel/security/lockdown to tell: securityfs may not be mounted)"
}

// DevMem says why /dev/mem refuses. opened: it could be opened, and refused a page of RAM.
// file: its owner and mode refuse (open_port and read_mem in drivers/char/mem.c).
func (s *System) DevMem(file, opened bool) Step {
	step := Step{Passed: No}
	switch {
	case opened:
		step.Text = "this kernel lets nobody reach RAM through /dev/mem (CONFIG_STRICT_DEVMEM" + s.by("STRICT_DEVMEM") + ")"
		step.Remedy = fromOutside + "; no setting of a running kernel changes it"
	case file || s.RawIO == No:
		step.Text, step.Remedy = s.noRawIO("/dev/mem")
	case s.Lockdown == "integrity" || s.Lockdown == "confidentiality":
		step.Text = "the kernel is locked down for " + s.Lockdown + " (" + s.LockdownFrom + "), which refuses /dev/mem"
		step.Remedy = fromOutside
	default:
		step.Text = "CAP_SYS_RAWIO is there, so that the kernel must be locked down, or a module of security refuses" + s.unseen()
		step.Remedy = "look at /sys/kernel/security/lockdown and in the audit log; or " + fromOutside
	}
	return step
}

// by says what the configuration says of an option.
func (s *System) by(name string) string {
	switch s.option(name) {
	case Yes:
		return "=y in " + s.ConfigFrom
	case No:
		return ", though " + s.ConfigFrom + " does not have it"
	}
	return ""
}

// Missing says why there is no file /proc/kcore or /dev/mem.
func (s *System) Missing(name, option string) string {
	switch s.option(option) {
	case No:
		return fmt.Sprintf("there is no %s: this kernel was built without CONFIG_%s (%s)", name, option, s.ConfigFrom)
	case Yes:
		return fmt.Sprintf("there is no %s, though this kernel was built with CONFIG_%s (%s): a container or sandbox hides it", name, option, s.ConfigFrom)
	}
	return fmt.Sprintf("there is no %s: this kernel was built without CONFIG_%s, or a container or sandbox hides it", name, option)
}
