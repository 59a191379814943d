// SPDX-License-Identifier: Apache-2.0

// Package difftest is what random differential tests have in common: the same calls are
// made in a specimen and in a model of it, layout by layout. The environment says how:
//
//	REMORA_SEED    of all that is random; printed
//	REMORA_LAYOUT  only this layout, of that seed
//
// and, in a variable of the test's own, how many calls are made.
package difftest
