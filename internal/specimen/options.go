// SPDX-License-Identifier: Apache-2.0

package specimen

import "io"

// Options says how a specimen is started. Nil is the same as the zero Options.
type Options struct {
	Seed uint64    // of Pattern
	As   *Identity // nil: as this process
}

// Identity says as whom a process runs. Only root can choose it.
type Identity struct {
	UID, GID     uint32
	Capabilities []uintptr // the numbers of those that it has (capabilities(7))
}

// Job is a function that Run can run in a process of its own. What it writes to out
// is what Run gives; an error makes Run fail.
type Job struct {
	Name string
	Run  func(out io.Writer, args []string) error
}

// RunOptions says how a job is run. Nil is the same as the zero RunOptions.
type RunOptions struct {
	As       *Identity // nil: as this process
	RefuseVM int       // the number of the error that process_vm_* then give (seccomp(2)); 0: no filter
}
