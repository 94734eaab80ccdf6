// What Swift's Glibc module leaves out: the allocator's own account.
#pragma once

#if defined(__GLIBC__) || defined(__linux__)
#include <malloc.h>

/// Bytes that are allocated now.
static inline long peat_heap_bytes(void) {
  struct mallinfo2 info = mallinfo2();
  return (long)(info.uordblks + info.hblkhd);
}
#else
static inline long peat_heap_bytes(void) { return -1; }
#endif
