// SPDX-License-Identifier: Apache-2.0
#include "base/parallel.h"

#include <sched.h>

#include <algorithm>

namespace flashomni {
namespace {

// Kernels follow each other within microseconds, so workers spin this many rounds before they
// sleep; measured on 2 cores a futex wake costs 5-50 us, a spin round a few ns.
constexpr int kSpinRounds = 4000;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

int ThreadPool::default_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

ThreadPool::ThreadPool(int threads) {
  if (threads <= 0) threads = default_threads();
  workers_.reserve(size_t(threads - 1));
  for (int i = 1; i < threads; ++i) workers_.emplace_back([this, i] { work(i); });
}

ThreadPool::~ThreadPool() {
  stop_.store(true, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  for (std::thread& t : workers_) t.join();
}

void ThreadPool::drain(int worker) {
  for (;;) {
    const int64_t begin = next_.fetch_add(chunk_, std::memory_order_relaxed);
    if (begin >= items_) return;
    const int64_t end = std::min(items_, begin + chunk_);
    for (int64_t item = begin; item < end; ++item) body_(f_, item, worker);
  }
}

void ThreadPool::work(int worker) {
  uint64_t seen = 0;
  for (;;) {
    uint64_t now = epoch_.load(std::memory_order_acquire);
    for (int spin = 0; now == seen && spin < kSpinRounds; ++spin) {
      relax();
      now = epoch_.load(std::memory_order_acquire);
    }
    while (now == seen) {
      epoch_.wait(seen, std::memory_order_acquire);
      now = epoch_.load(std::memory_order_acquire);
    }
    seen = now;
    if (stop_.load(std::memory_order_relaxed)) return;
    drain(worker);
    if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
  }
}

void ThreadPool::run_erased(int64_t items, int64_t chunk, Body body, const void* f) {
  if (items <= 0) return;
  items_ = items;
  chunk_ = std::max<int64_t>(1, chunk);
  body_ = body;
  f_ = f;
  next_.store(0, std::memory_order_relaxed);
  if (workers_.empty() || items <= chunk_) {
    drain(0);
    return;
  }
  running_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  drain(0);
  int left = running_.load(std::memory_order_acquire);
  for (int spin = 0; left != 0 && spin < kSpinRounds; ++spin) {
    relax();
    left = running_.load(std::memory_order_acquire);
  }
  while (left != 0) {
    running_.wait(left, std::memory_order_acquire);
    left = running_.load(std::memory_order_acquire);
  }
}

}  // namespace flashomni
