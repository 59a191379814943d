// SPDX-License-Identifier: Apache-2.0

//go:build !peers

package play

// Delve is nil: this was built without it. To have it takes the tag peers and peers.mod, so
// that Remora's own go.mod does not name it.
func Delve() map[string]Verb { return nil }
