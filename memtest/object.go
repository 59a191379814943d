// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"bytes"
	"maps"
	"sync"
)

// blockSize is the unit in which an Object keeps its bytes.
const blockSize = 4096

// Object is what mappings share: a file, or shared anonymous memory. It has an
// end: a page that lies wholly beyond it cannot be accessed (ErrBeyondEOF), while
// the rest of the last page is memory like any other (R41, R42).
type Object struct {
	size uint64

	mu     sync.Mutex
	blocks map[uint64][]byte // by number; missing ones are zeros
}

// NewObject gives an object of size bytes, all zeros.
func NewObject(size uint64) *Object {
	return &Object{size: size, blocks: map[uint64][]byte{}}
}

// end is the first offset that a mapping with such pages cannot access.
func (o *Object) end(pageSize uint64) uint64 {
	return (o.size + pageSize - 1) &^ (pageSize - 1)
}

// read fills p from off.
func (o *Object) read(p []byte, off uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(p) > 0 {
		at := off % blockSize
		n := min(uint64(len(p)), blockSize-at)
		if b := o.blocks[off/blockSize]; b != nil {
			copy(p[:n], b[at:])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+n
	}
}

// write stores p at off.
func (o *Object) write(p []byte, off uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(p) > 0 {
		at := off % blockSize
		b := o.blocks[off/blockSize]
		if b == nil {
			b = make([]byte, blockSize)
			o.blocks[off/blockSize] = b
		}
		n := copy(b[at:], p)
		p, off = p[n:], off+uint64(n)
	}
}

func (o *Object) clone() *Object {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := &Object{size: o.size, blocks: maps.Clone(o.blocks)}
	for no, b := range c.blocks {
		c.blocks[no] = bytes.Clone(b)
	}
	return c
}
