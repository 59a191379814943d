// SPDX-License-Identifier: Apache-2.0

package proc

// Facility is something that a kernel, or a filter around this process, may or may
// not have.
type Facility struct {
	Name   string // FacilityVM or another short name
	Use    string // what it is good for here
	Works  bool
	Why    string // where it does not work: what was found
	Remedy string // what would help, or what is used instead
}

// FacilityVM is the Name of process_vm_readv(2) and process_vm_writev(2).
const FacilityVM = "process_vm_readv"
