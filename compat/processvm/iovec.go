// SPDX-License-Identifier: Apache-2.0

package processvm

import "github.com/remora-go/remora"

// Iovec is an element of a vector, as struct iovec of a 64-bit program: 16 bytes.
type Iovec struct {
	Base uint64 // address of the first byte, in the caller or in the other process
	Len  uint64 // bytes
}

// IOVMax is the largest number of elements in a vector (UIO_MAXIOV, R4).
const IOVMax = 1024

// MaxRW is the largest number of bytes that one call moves where a page has 4,096
// (MAX_RW_COUNT, R11).
const MaxRW = 0x7ffff000

// Args are the arguments of the system call as they are in the registers.
type Args struct {
	PID     uint64 // the lower 32 bits count, as a signed number (R1)
	Lvec    uint64 // address of the caller's vector, in the caller's memory
	Liovcnt uint64 // its elements; the lower 32 bits count (R3)
	Rvec    uint64 // address of the other process's vector, in the caller's memory too
	Riovcnt uint64
	Flags   uint64 // must be 0 (R2)
}

// Total gives the number of bytes in a vector, or what fits into 64 bits.
func Total(vec []Iovec) uint64 {
	var sum uint64
	for i := range vec {
		if sum+vec[i].Len < sum {
			return ^uint64(0)
		}
		sum += vec[i].Len
	}
	return sum
}

// At gives the address of byte n of a vector. It is that behind the last one when the
// vector has n bytes or less.
func At(vec []Iovec, n uint64) remora.Addr {
	var end remora.Addr
	for i := range vec {
		if n < vec[i].Len {
			return remora.Addr(vec[i].Base + n)
		}
		n -= vec[i].Len
		if vec[i].Len > 0 {
			end = remora.Addr(vec[i].Base + vec[i].Len)
		}
	}
	return end
}

func operation(write bool) remora.Op {
	if write {
		return remora.Write
	}
	return remora.Read
}
