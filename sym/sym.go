// SPDX-License-Identifier: Apache-2.0

// Package sym holds tables of symbols: names of addresses.
package sym

import "github.com/remora-go/remora"

// Symbol is one name of an address.
type Symbol struct {
	Addr   remora.Addr
	Size   uint64 // bytes, 0: not known
	Name   string
	Type   byte   // the letter of nm(1)
	Module string // that it belongs to, "" for the kernel itself or a program
}
