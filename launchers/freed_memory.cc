#include "lathe/launchers/freed_memory.h"

#include <malloc.h>

namespace lathe {

void KeepFreedMemory() {
  constexpr int kLarge = 1 << 30;
  mallopt(M_MMAP_THRESHOLD, kLarge);
  mallopt(M_TRIM_THRESHOLD, kLarge);
  // Arenas other than the main one give large blocks back whatever is set.
  mallopt(M_ARENA_MAX, 1);
}

void ReturnFreedMemory() {
  // Set once, glibc does not raise it any more by the sizes that it sees.
  mallopt(M_MMAP_THRESHOLD, 1 << 20);
}

}  // namespace lathe
