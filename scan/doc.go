// SPDX-License-Identifier: Apache-2.0

// Package scan has the loops over a Memory that many callers need.
//
// Read reads ranges of any size, holes included, in pieces: what can be read comes
// as bytes, and what cannot as a hole with its cause. Nothing is made up for a hole.
//
// # Holes
//
// The first address of a hole is where a transfer stopped, so it is exact. Where it ends is
// looked up in the map after that, where the Memory's target is a remora.Mapper;
// otherwise every granule (a page) is tried. On a live target the map may change in
// between: then memory that was mapped during the read can count as part of a hole,
// but nothing is taken for readable that was not. The same holds of what is not in memory,
// with remora.Resident, where the target is a remora.Presence.
//
// # Errors, cancellation, concurrency
//
// Only faults make holes. Any other cause (the target is gone, the context ended) ends
// the loop with a *remora.Fault for the address that was reached, after all that
// came before it. Memory use is bounded whatever the ranges are. Each call is
// independent of others.
package scan
