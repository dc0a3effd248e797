// SPDX-License-Identifier: Apache-2.0
//
// A small pool of worker threads. Work is handed out item by item from a counter, so which thread
// runs an item varies, but an item's result must not depend on it: kernels split outputs, never
// sums. (Not OpenMP: the pool is the caller's to size and own, and ThreadSanitizer understands it.)
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace flashomni {

class ThreadPool {
 public:
  // `threads` workers including the calling thread; 0 = default_threads().
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls body(item, worker) for item in [0, items), worker in [0, size()); returns when all are
  // done. `chunk` items are taken at a time. One run at a time; not reentrant.
  template <class F>
  void run(int64_t items, const F& body, int64_t chunk = 1) {
    run_erased(
        items, chunk,
        [](const void* f, int64_t item, int worker) { (*static_cast<const F*>(f))(item, worker); },
        &body);
  }

  // Cores this process may use (its affinity mask), at least 1.
  static int default_threads();

 private:
  using Body = void (*)(const void*, int64_t, int);
  void run_erased(int64_t items, int64_t chunk, Body body, const void* f);
  void work(int worker);
  void drain(int worker);

  std::vector<std::thread> workers_;
  std::atomic<uint64_t> epoch_{0};  // increments with every run and at the end
  std::atomic<int> running_{0};     // workers that have not finished the current run
  std::atomic<bool> stop_{false};
  // The current run; written before epoch_ is released.
  alignas(64) std::atomic<int64_t> next_{0};
  int64_t items_ = 0;
  int64_t chunk_ = 1;
  Body body_ = nullptr;
  const void* f_ = nullptr;
};

}  // namespace flashomni
