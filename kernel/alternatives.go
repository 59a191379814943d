// SPDX-License-Identifier: Apache-2.0

package kernel

// alternatives has, for members that were renamed or moved, the other names in the order
// in which they are tried, and the kernel that made the change. A key is the name that is
// asked for: that of the newest kernel known here.
var alternatives = map[string][]string{
	"address_space.i_pages":       {"address_space.page_tree"},     // 4.17
	"idr.idr_rt.xa_head":          {"idr.idr_rt.rnode"},            // 4.20
	"page.__folio_index":          {"page.index"},                  // 6.16
	"task_struct.__state":         {"task_struct.state"},           // 5.14
	"task_struct.start_boottime":  {"task_struct.real_start_time"}, // 5.5
	"task_struct.thread_info.cpu": {"task_struct.cpu"},             // 5.16
	"xa_node.slots":               {"radix_tree_node.slots"},       // 4.20
	"xarray.xa_head":              {"radix_tree_root.rnode"},       // 4.20
}
