// SPDX-License-Identifier: Apache-2.0

// Package compat has the four interfaces that Remora is true to, one package each:
//
//	processvm  process_vm_readv and process_vm_writev of Linux, and the kernel's engine
//	           under them (process_vm_rw, core, single_vec, pages)
//	rwmem      proc_rwmem, proc_readmem and proc_writemem of FreeBSD
//	kvm        libkvm of illumos
//
// docs/interfaces.md says of each original function which one is ours, and of each rule
// which test tries it.
package compat
