// SPDX-License-Identifier: Apache-2.0

package kernel

import "context"

func (k *Kernel) addRegisters(ctx context.Context, all []Processor) {}
func (k *Kernel) pageSize() uint64                                  { return 4096 }
