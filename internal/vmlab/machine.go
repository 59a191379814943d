// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"fmt"
	"os"
	"strings"
)

// Machine is a kernel and what it runs on.
type Machine struct {
	Kernel       string // a name of Kernels
	MiB          int    // of memory; 0 is 256
	FiveLevels   bool   // amd64: 5-level paging
	NoKASLR      bool
	NoVMCOREINFO bool   // no vmcoreinfo device, so QEMU's dumps lack that note; riscv64 has none
	CPU          string // of QEMU's, where not "max"
	Options      string // more for the kernel's command line
}

// DefaultMiB is the memory of a guest: enough for every kernel here, and an image of it
// is read in an instant.
const DefaultMiB = 256

// cpus is how many processors a guest has.
const cpus = 2

// Machines gives those that tests of images go over: one of each architecture, and with
// REMORA_IMAGES=all every kernel and every variant.
func Machines() []Machine {
	if os.Getenv("REMORA_IMAGES") != "all" {
		return []Machine{{Kernel: AMD64v6_1}, {Kernel: ARM64v6_1}, {Kernel: RISCV64v7_2}}
	}
	var all []Machine
	for _, k := range Kernels() {
		all = append(all, Machine{Kernel: k.Name})
		if k.Arch == "amd64" {
			all = append(all, Machine{Kernel: k.Name, FiveLevels: true})
		}
	}
	const withoutLPA2 = "max,lpa2=off,pauth-impdef=on"
	return append(all,
		Machine{Kernel: AMD64v6_1, NoKASLR: true},
		Machine{Kernel: AMD64v6_1, NoVMCOREINFO: true},
		Machine{Kernel: AMD64v6_12, NoKASLR: true, NoVMCOREINFO: true, FiveLevels: true},
		Machine{Kernel: AMD64v6_1, Options: "pti=on"},
		Machine{Kernel: AMD64v6_1, MiB: bigMiB},
		Machine{Kernel: AMD64v7_2, MiB: bigMiB, FiveLevels: true},
		Machine{Kernel: ARM64v6_1, CPU: "cortex-a72", NoKASLR: true},
		Machine{Kernel: ARM64v7_2, CPU: "cortex-a72"},
		Machine{Kernel: ARM64v7_2, CPU: withoutLPA2},
		Machine{Kernel: RISCV64v7_2, Options: "no4lvl"}, // Sv39
	)
}

// Crashes gives those that tests of /proc/vmcore go over, for OpenCrash: one, and with
// REMORA_IMAGES=all each series of amd64.
func Crashes() []Machine {
	if os.Getenv("REMORA_IMAGES") != "all" {
		return []Machine{{Kernel: AMD64v6_1}}
	}
	return []Machine{{Kernel: AMD64v6_1}, {Kernel: AMD64v6_12, FiveLevels: true}, {Kernel: AMD64v6_17},
		{Kernel: AMD64v7_2, FiveLevels: true}}
}

// bigMiB is more than 4 GiB, so that a PC has memory above its hole for devices.
const bigMiB = 5 << 10

func (m Machine) String() string {
	parts := []string{m.Kernel}
	if m.MiB != 0 {
		parts = append(parts, fmt.Sprintf("%dMiB", m.MiB))
	}
	if m.FiveLevels {
		parts = append(parts, "la57")
	}
	if m.NoKASLR {
		parts = append(parts, "nokaslr")
	}
	if m.NoVMCOREINFO {
		parts = append(parts, "novmcoreinfo")
	}
	if m.CPU != "" {
		parts = append(parts, m.CPU)
	}
	if m.Options != "" {
		parts = append(parts, strings.ReplaceAll(m.Options, " ", "-"))
	}
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("/ ,", r) {
			return '_'
		}
		return r
	}, strings.Join(parts, "-"))
}

func (m Machine) mib() int {
	if m.MiB == 0 {
		return DefaultMiB
	}
	return m.MiB
}

// emulator is QEMU's program for an architecture.
func emulator(arch string) string {
	return "qemu-system-" + map[string]string{"amd64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64"}[arch]
}

// cpu gives QEMU's -cpu.
func (m Machine) cpu(arch string) string {
	switch {
	case m.CPU != "":
		return m.CPU
	case arch == "amd64":
		// QEMU 7.2 gets the flags of a cmpxchg16b without lock wrong; half of the boots
		// of 6.12, whose allocator lives by it, end in a fault.
		return map[bool]string{false: "max,-cx16,la57=off", true: "max,-cx16"}[m.FiveLevels]
	case arch == "arm64":
		return "max,pauth-impdef=on" // a hash that is quick to emulate
	case arch == "riscv64":
		return "rv64"
	}
	return "max"
}

// commandLine gives the kernel's. It says nothing that the kernel would not do anyway,
// but for where it talks and what becomes of it when it dies.
func (m Machine) commandLine(arch, mode string) string {
	console := "ttyS0"
	if arch == "arm64" {
		console = "ttyAMA0"
	}
	line := "console=" + console + " panic=-1 remora.mode=" + mode
	if m.NoKASLR {
		line += " nokaslr"
	}
	return strings.TrimSpace(line + " " + m.Options)
}

// disk is a virtio disk of a guest, backed by a raw file.
type disk struct{ serial, file string }

// anonymousRAM is in place of a file's name: memory that QEMU shares with nobody.
const anonymousRAM = "anonymous"

// backend gives the object that is the guest's memory: a file, or anonymousRAM.
func (m Machine) backend(ram string) string {
	if ram == anonymousRAM {
		return fmt.Sprintf("memory-backend-ram,id=ram,size=%dM", m.mib())
	}
	return fmt.Sprintf("memory-backend-file,id=ram,size=%dM,mem-path=%s,share=on", m.mib(), ram)
}

// arguments gives QEMU's, for a guest whose files are in a directory.
func (m Machine) arguments(arch, ram, socket string, disks []disk) []string {
	board := map[string]string{"amd64": "pc", "arm64": "virt,gic-version=3", "riscv64": "virt"}[arch]
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-accel", "tcg",
		"-M", board + ",memory-backend=ram",
		"-cpu", m.cpu(arch),
		"-smp", fmt.Sprint(cpus),
		"-m", fmt.Sprint(m.mib()),
		"-object", m.backend(ram),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-qmp", "unix:" + socket + ",server=on,wait=off",
	}
	if !m.NoVMCOREINFO && arch != "riscv64" { // its fw_cfg cannot tell QEMU anything
		args = append(args, "-device", "vmcoreinfo")
	}
	for _, d := range disks {
		args = append(args,
			"-drive", fmt.Sprintf("file=%s,format=raw,if=none,id=%s,cache=unsafe", d.file, d.serial),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,serial=%s", d.serial, d.serial))
	}
	return args
}
