// What becomes of memory that this process has freed. Call one of these before the first thread.
#ifndef LATHE_LAUNCHERS_FREED_MEMORY_H_
#define LATHE_LAUNCHERS_FREED_MEMORY_H_

namespace lathe {

// The process keeps it, up to a gibibyte, for its next allocations. Buckets, activations and
// temporaries of the same sizes come and go with each step: given back to the kernel each time, as
// glibc does with large blocks, they cost a page fault per 4 KiB and the zeroing of it (9 % of the
// tokens per second of two ranks on two cores). It takes 4 to 10 % more resident memory.
void KeepFreedMemory();

// Blocks of a mebibyte and more go back to the kernel at once. For runs that offload to a disk,
// which have no memory to keep: glibc, left to itself, keeps what lies between blocks in use (a
// third of such a run's resident memory).
void ReturnFreedMemory();

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_FREED_MEMORY_H_
