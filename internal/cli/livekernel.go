// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"os"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/access"
	"github.com/remora-go/remora/vmcore"
)

// isRunningKernel says whether spec names the kernel that runs here, or something of it.
func isRunningKernel(spec string) bool {
	name, _, _ := strings.Cut(spec, "@")
	return name == "kernel"
}

// runningKernel tries the ways into the memory of the kernel that runs here. Nothing is
// written.
func runningKernel() []kernelReport {
	return []kernelReport{
		lockdownReport(),
		openReport("/proc/kcore", "the memory of the running kernel, and of all processes through it: the target kernel", nil),
		openReport("/dev/mem", "writing the memory of the running kernel", &vmcore.KcoreOptions{Write: true}),
	}
}

func openReport(name, use string, o *vmcore.KcoreOptions) kernelReport {
	r := kernelReport{Name: name, Use: use}
	img, err := vmcore.OpenKcore(o)
	if err == nil {
		img.Close()
		r.Works = true
		return r
	}
	r.Why, r.Remedy = err.Error(), "a kernel that was built with it, outside of containers"
	if refused, ok := errors.AsType[*remora.AccessError](err); ok {
		r.Why, r.Remedy = refused.Reason, refused.Remedy
	}
	return r
}

func lockdownReport() kernelReport {
	s := access.GatherSystem(os.DirFS("/"))
	r := kernelReport{Name: "no lockdown", Use: "a kernel that does not keep its own memory from root", Works: s.Lockdown == "none"}
	switch {
	case r.Works:
	case s.Lockdown == "":
		r.Why = "whether it is locked down is not known: there is no /sys/kernel/security/lockdown"
		r.Remedy = "mount securityfs on /sys/kernel/security, if this kernel has the module"
	default:
		r.Why = "it is locked down for " + s.Lockdown + " (" + s.LockdownFrom + ")"
		r.Remedy = "boot without lockdown=" + s.Lockdown + ", and without Secure Boot where that asks for it"
	}
	return r
}
