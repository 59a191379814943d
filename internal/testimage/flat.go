// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"encoding/binary"
	"math/rand/v2"
)

// FlatOptions say how a file is flattened. The zero ones give ascending records
// of up to 4096 bytes and the end record.
type FlatOptions struct {
	Seed      uint64
	Max       int  // bytes of the longest record; 4096 when 0
	Shuffle   bool // records in any order
	Rewrite   int  // so many records more, first, of other bytes that later ones overwrite
	SkipZeros bool // bytes that are zeros at the end of a record are in none
	NoEnd     bool // no end record
	Cut       int  // so many bytes less at the end
}

// FlatRecord is one record of a flattened file.
type FlatRecord struct {
	Off  int64
	Size int64 // that the record claims; len(Data) when 0
	Data []byte
}

// Flatten gives payload as a flattened file.
func Flatten(payload []byte, o FlatOptions) []byte {
	b := FlatBytes(FlatRecords(payload, o), !o.NoEnd)
	return b[:len(b)-o.Cut]
}

// FlatRecords cuts payload into records.
func FlatRecords(payload []byte, o FlatOptions) []FlatRecord {
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	most := o.Max
	if most == 0 {
		most = 4096
	}
	var all []FlatRecord
	for at := 0; at < len(payload); {
		n := min(1+rng.IntN(most), len(payload)-at)
		data := payload[at : at+n]
		for o.SkipZeros && at+n < len(payload) && len(data) > 0 && data[len(data)-1] == 0 {
			data = data[:len(data)-1]
		}
		if len(data) > 0 {
			all = append(all, FlatRecord{Off: int64(at), Data: data})
		}
		at += n
	}
	if o.Shuffle {
		rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	}
	var early []FlatRecord
	for range o.Rewrite {
		// Only where a record will be: a gap would keep these bytes.
		over := all[rng.IntN(len(all))]
		from := rng.IntN(len(over.Data))
		junk := make([]byte, 1+rng.IntN(len(over.Data)-from))
		fillNoise(rng, junk)
		early = append(early, FlatRecord{Off: over.Off + int64(from), Data: junk})
	}
	return append(early, all...)
}

// FlatBytes gives a flattened file of these records.
func FlatBytes(records []FlatRecord, end bool) []byte {
	be := binary.BigEndian
	b := make([]byte, 16, 4096)
	copy(b, "makedumpfile")
	b = be.AppendUint64(b, 1) // type
	b = be.AppendUint64(b, 1) // version
	b = b[:4096]
	for _, r := range records {
		size := r.Size
		if size == 0 {
			size = int64(len(r.Data))
		}
		b = be.AppendUint64(b, uint64(r.Off))
		b = be.AppendUint64(b, uint64(size))
		b = append(b, r.Data...)
	}
	if end {
		b = be.AppendUint64(b, ^uint64(0))
		b = be.AppendUint64(b, ^uint64(0))
	}
	return b
}
