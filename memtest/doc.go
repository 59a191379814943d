// SPDX-License-Identifier: Apache-2.0

// Package memtest is for those who write a remora.Space: a suite that holds any
// Space against the contract, and a reference Space to compare with and to wrap.
//
// # Structure
//
// TestSpace runs the 14 rules of remora.Space as 14 subtests. TestWrapper does the
// like for what wraps a remora.Target. A Sparse is an address space of pages in
// which every kind of page can be laid out. A Sample is a Sparse with a random
// layout and the fixture that describes it, which is what the test of a wrapper
// starts from.
//
// # Writing a fixture
//
// A fixture is a fresh Space and a list of areas: runs of addresses with what lies
// there and what an access to them comes to. The areas need not cover the target.
// The suite asks only about what they cover, so the more kinds of memory they hold,
// the more is tested: memory that can be read and written, in a run of 256 bytes at
// least; a hole directly behind it; and what Info claims. A Space that claims Force
// needs an area where it matters, one that claims Resident an area that is absent.
//
//	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
//		child := startChild(t)
//		space := open(t, child.Pid)
//		return memtest.Fixture{
//			Space: space,
//			Areas: []memtest.Area{
//				{Range: child.heap, Data: child.pattern, Fault: memtest.Guarded(remora.PermRead | remora.PermWrite)},
//				{Range: child.hole, Fault: memtest.Always(remora.ErrUnmapped)},
//			},
//			Peek:  child.Peek,
//			Close: space.Close,
//		}
//	}, memtest.Want{
//		Info:  remora.Info{Ops: remora.StopAtFault, PtrSize: 8, Granule: 4096, Last: 1<<47 - 1, Writable: true, Live: true},
//		Lacks: memtest.Lacks{Top: "a process has no memory there", Large: "not worth a child of that size"},
//	})
//
// Peek must not go through the Space: it is how the suite sees a write that went
// astray. Data is what Peek shows at first, also where Transfer may not read.
//
// A test of very many fixtures need not try everything on each: see Want.Part. With
// "go test -short" each tries about a third.
//
// Where a fixture cannot have what a rule needs, Want.Lacks must say why, field by
// field; a lack without a reason fails, and so does a reason without a lack.
//
// # Contexts
//
// The suite's contexts count how often they are looked at, by Err or by Done, and
// some end in mid-call. A Space that derives a context of its own from them, or
// asks Done only once, is not seen to look, and fails rule 11.
//
// # Concurrency
//
// Fixtures are made and used one after another, each by several goroutines.
// TestSpace must not run beside other tests, as rule 12 counts the allocations of
// the whole process. Under the race detector that rule is not measured.
package memtest
