// SPDX-License-Identifier: Apache-2.0

// Package inside has tests of this module run inside guests of the laboratory
// (internal/vmlab), on kernels that are not the running one, and with settings that the
// machine of a developer should not have:
//
//   - the differential tests of compat/processvm and proc, with swap space, a pool of huge
//     pages, and each value of kernel.yama.ptrace_scope;
//   - what doctor says against what the kernel does, for each of those values and under
//     lockdown(7);
//   - forced writes under each value of proc_mem.force_override (Linux 6.12).
//
// Where kernels differ is said in docs/interfaces.md.
//
// A guest has test binaries of other packages in /bin, and this package's own, which
// plays the processes that look and are looked at: see play. One guest for each kernel
// runs all that needs no other command line.
package inside
