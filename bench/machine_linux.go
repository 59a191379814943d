// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"github.com/remora-go/remora/bench/internal/report"
)

// machine tells what the benchmark runs on.
func machine() []report.Fact {
	hypervisor := "no"
	if strings.Contains(line("/proc/cpuinfo", "flags"), " hypervisor") {
		hypervisor = "yes"
	}
	return []report.Fact{
		{Name: "processor", Is: line("/proc/cpuinfo", "model name")},
		{Name: "processors", Is: fmt.Sprint(runtime.NumCPU())},
		{Name: "virtual", Is: hypervisor},
		{Name: "memory", Is: line("/proc/meminfo", "MemTotal")},
		{Name: "huge pages", Is: first("/sys/kernel/mm/transparent_hugepage/enabled")},
		{Name: "system", Is: strings.Trim(line("/etc/os-release", "PRETTY_NAME"), `"`)},
		{Name: "kernel", Is: first("/proc/sys/kernel/osrelease") + ", " + runtime.GOARCH},
	}
}

// versions tells what else has a part in it. Of what is not there it says so.
func versions() []report.Fact {
	all := []report.Fact{{Name: "go", Is: runtime.Version()}}
	for _, v := range []struct{ name, command string }{
		{"Remora", "git describe --always --dirty"},
		{"cc", "cc --version"},
		{"libc", "ldd --version"},
		{"python3", "python3 --version"},
		{"gdb", "gdb --version"},
		{"drgn", "drgn --version"},
		{"crash", "crash --version"},
		{"libkdumpfile", "dpkg-query -W -f ${Version} libkdumpfile-dev"},
		{"libdeflate", "dpkg-query -W -f ${Version} libdeflate-dev"},
		{"scanmem", "dpkg-query -W -f ${Version} scanmem"},
		{"QEMU", "qemu-system-x86_64 --version"},
	} {
		words := strings.Fields(v.command)
		out, err := exec.Command(words[0], words[1:]...).Output()
		is := "none"
		if err == nil {
			is = opening(string(out))
		}
		all = append(all, report.Fact{Name: v.name, Is: is})
	}
	return all
}

// line gives what stands in a file behind a name and a colon or an equals sign.
func line(path, name string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for text := range strings.Lines(string(data)) {
		i := strings.IndexAny(text, ":=")
		if i > 0 && strings.TrimSpace(text[:i]) == name {
			return strings.TrimSpace(text[i+1:])
		}
	}
	return "unknown"
}

// first gives the first line of a file.
func first(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return opening(string(data))
}

// opening gives the first line of a text in which something stands.
func opening(text string) string {
	for l := range strings.Lines(text) {
		if l = strings.TrimSpace(l); l != "" {
			return l
		}
	}
	return ""
}
