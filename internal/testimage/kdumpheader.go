// SPDX-License-Identifier: Apache-2.0

package testimage

import "bytes"

// subField is a field of the sub header: the version that brought it, and how wide
// it is. A size of 0 is as wide as an address.
type subField struct {
	name  string
	since int
	size  int
}

func subFields() []subField {
	return []subField{
		{"phys_base", 1, 0},
		{"dump_level", 1, 4},
		{"split", 2, 4},
		{"start_pfn", 2, 0},
		{"end_pfn", 2, 0},
		{"offset_vmcoreinfo", 3, 8},
		{"size_vmcoreinfo", 3, 0},
		{"offset_note", 4, 8},
		{"size_note", 4, 0},
		{"offset_eraseinfo", 5, 8},
		{"size_eraseinfo", 5, 0},
		{"start_pfn_64", 6, 8},
		{"end_pfn_64", 6, 8},
		{"max_mapnr_64", 6, 8},
	}
}

// subSize is the length of the sub header of this version.
func (k *Kdump) subSize() int64 {
	_, end := k.subLayout(0, nil)
	return end
}

// subLayout places the fields of the sub header from off.
func (k *Kdump) subLayout(off int64, values map[string]uint64) (fields []Field, end int64) {
	start := off
	align := int64(4)
	if !k.Narrow || !k.Packed {
		align = 8
	}
	for _, f := range subFields() {
		if f.since > k.Version {
			break
		}
		size := f.size
		if size == 0 {
			size = k.wordSize()
		}
		if size == 8 {
			off = start + roundUp(off-start, align)
		}
		fields = append(fields, Field{f.name, off, size, values[f.name], k.BigEndian})
		off += int64(size)
	}
	return fields, start + roundUp(off-start, align)
}

func roundUp(n, align int64) int64 { return (n + align - 1) / align * align }

// mainLayout places the integers of the main header.
func (k *Kdump) mainLayout(l *KdumpLayout) []Field {
	word := k.wordSize()
	fields := []Field{{"header_version", 8, 4, uint64(k.Version), k.BigEndian}}
	off := roundUp(12+6*65, int64(word))
	put := func(name string, size int, value uint64) {
		fields = append(fields, Field{name, off, size, value, k.BigEndian})
		off += int64(size)
	}
	put("tv_sec", word, k.Sec)
	put("tv_usec", word, k.Usec)
	put("status", 4, uint64(k.Status))
	put("block_size", 4, uint64(l.BlockSize))
	put("sub_hdr_size", 4, uint64(l.Bitmap/l.BlockSize-1))
	put("bitmap_blocks", 4, uint64(l.BitmapBlocks))
	put("max_mapnr", 4, k.maxMapNr())
	put("total_ram_blocks", 4, 0)
	put("device_blocks", 4, 0)
	put("written_blocks", 4, uint64(l.End/l.BlockSize))
	put("current_cpu", 4, 0)
	put("nr_cpus", 4, uint64(k.NrCPUs))
	return fields
}

// headers writes the main header and the sub header.
func (k *Kdump) headers(s *sink, l *KdumpLayout, notes int) {
	main := make([]byte, 464)
	copy(main, "KDUMP   ")
	if k.DiskDump {
		copy(main, "DISKDUMP")
	}
	for i, name := range k.Utsname {
		copy(main[12+65*i:][:65], name)
	}
	s.write(main, 0)
	values := map[string]uint64{
		"phys_base": k.PhysBase, "dump_level": uint64(k.DumpLevel), "max_mapnr_64": k.maxMapNr(),
		"offset_note": uint64(l.Notes), "size_note": uint64(notes),
		"offset_eraseinfo": uint64(l.Erase), "size_eraseinfo": uint64(len(k.EraseInfo)),
	}
	if len(k.EraseInfo) == 0 {
		values["offset_eraseinfo"] = 0
	}
	if notes == 0 {
		values["offset_note"] = 0
	}
	if l.VMCoreInfo != 0 && !k.InNotesOnly {
		values["offset_vmcoreinfo"], values["size_vmcoreinfo"] = uint64(l.VMCoreInfo), uint64(len(k.VMCoreInfo))
	}
	if k.Split {
		values["split"] = 1
		values["start_pfn"], values["end_pfn"] = k.StartPFN, k.EndPFN
		values["start_pfn_64"], values["end_pfn_64"] = k.StartPFN, k.EndPFN
	}
	sub, end := k.subLayout(l.SubHeader, values)
	if k.Garbage {
		s.write(bytes.Repeat([]byte{0xa5}, int(max(0, l.SubHeader+104-end))), end)
	}
	l.Fields = append(k.mainLayout(l), sub...)
	for i := range l.Fields {
		f := &l.Fields[i]
		if v, ok := k.Lie[f.Name]; ok {
			f.Value = v
		}
		s.write(f.bytes(f.Value), f.Off)
	}
	s.grow(l.Bitmap)
}
