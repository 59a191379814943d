// SPDX-License-Identifier: Apache-2.0

//go:build !race

package remora_test

const raceEnabled = false
