// SPDX-License-Identifier: Apache-2.0

// Package vmcore opens kernel images as physical memory: what /proc/vmcore, makedumpfile,
// QEMU, LiME and AVML write, and raw memory. It works the same on every system.
//
// # Structure
//
// An Image is a remora.Target whose Memory is physical memory, and is itself the Space
// of it. It does not know what an operating system is: package kernel finds one in it.
// Behind it is one format, chosen by the file's content or by Options.Format.
//
// # What is not there
//
// A page that an image does not hold is never zeros. There are three answers:
//
//   - ErrHole: no memory is at this physical address.
//   - ErrNotSaved: there was memory, and the one who made the image left it out.
//   - ErrTruncated: it should be in the image, and is lost: the image is incomplete,
//     or its file was cut off.
//
// ErrCorrupt is a page that is there and damaged, ErrIO a file that cannot be read.
package vmcore
