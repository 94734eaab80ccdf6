// What Swift has no word for: hints to the processor's caches. They change speed, never results.
#pragma once

/// Asks for a cache line that will be read and written soon.
static inline void peat_prefetch_for_writing(const void *place) { __builtin_prefetch(place, 1, 3); }

/// Asks for a cache line that will be read soon.
static inline void peat_prefetch(const void *place) { __builtin_prefetch(place, 0, 3); }

/// Says that a loop waits for another thread.
static inline void peat_pause(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}
