// SPDX-License-Identifier: Apache-2.0
#include "python/csrc/torch/seam.h"

#include <map>

#if FLASHOMNI_TORCH_CUDA
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include "cuda/device_memory.h"
#endif

namespace flashomni::python {

void torch_check(const char* op, const Status& status) {
  if (status.ok()) return;
  const std::string message = std::string("flashomni::") + op + ": " + status.message();
  if (status.code() == StatusCode::kInvalidArgument) TORCH_CHECK_VALUE(false, message);
  if (status.code() == StatusCode::kUnsupported) TORCH_CHECK_NOT_IMPLEMENTED(false, message);
  TORCH_CHECK(false, message);
}

at::Tensor with_unit_rows(const at::Tensor& t) {
  const int64_t last = t.dim() - 1;
  return last < 0 || t.size(last) <= 1 || t.stride(last) == 1 ? t : t.contiguous();
}

at::Tensor to_activation(const at::Tensor& t) {
  return with_unit_rows(t.device().is_cpu() ? t.to(at::kFloat) : t);
}

namespace {

DType dtype_of(const char* op, const char* name, const at::Tensor& t) {
  switch (t.scalar_type()) {
    case at::kFloat:
      return DType::kF32;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kHalf:
      return DType::kF16;
    case at::kByte:
    case at::kBool:
      return DType::kU8;
    case at::kInt:
      return DType::kI32;
    case at::kLong:
      return DType::kI64;
    default:
      TORCH_CHECK_NOT_IMPLEMENTED(false, "flashomni::", op, ": dtype of ", name, " is ",
                                  t.scalar_type(), ", wanted float32, bfloat16 or float16");
  }
}

#if FLASHOMNI_TORCH_CUDA
constexpr const char* kDevices = "cpu and cuda";
#else
constexpr const char* kDevices =
    "cpu only: for GPUs, build it where nvcc 12.8 or newer and a CUDA build of torch are found";
#endif

std::shared_ptr<SharedBackend> backend_for(const char* op, const c10::Device& device) {
  if (device.is_cpu()) return torch_take(op, shared_backend("cpu", 0));
#if FLASHOMNI_TORCH_CUDA
  if (device.is_cuda()) {
    const c10::DeviceIndex before = c10::cuda::current_device();
    TORCH_CHECK(before == device.index(), "flashomni::", op,
                ": tensors are on cuda:", int(device.index()),
                ", but the current device is cuda:", int(before),
                "; use torch.cuda.set_device or `with torch.cuda.device(...)`");
    return torch_take(op, shared_backend("cuda", device.index()));
  }
#endif
  torch_check(op, unsupported("tensors are on " + device.str() + ", this build has " + kDevices));
  return nullptr;
}

}  // namespace

Device::Device(const char* op, const at::Tensor& like)
    : op_(op), device_(like.device()), shared_(backend_for(op, like.device())) {}

TensorView Device::view(const char* name, const at::Tensor& t) const {
  TORCH_CHECK_VALUE(t.device() == device_, "flashomni::", op_, ": ", name, " is on ",
                    t.device().str(), ", wanted ", device_.str());
  TORCH_CHECK_VALUE(t.dim() <= TensorView::kMaxRank, "flashomni::", op_, ": ", name, " has ",
                    t.dim(), " dimensions, wanted at most 4");
  TensorView v;
  v.data = t.data_ptr();
  v.dtype = dtype_of(op_, name, t);
  v.rank = static_cast<int>(t.dim());
  for (int i = 0; i < v.rank; ++i) {
    v.shape[i] = t.size(i);
    v.stride[i] = t.stride(i);
  }
  return v;
}

Exec Device::exec(size_t workspace_bytes) {
  Exec e;
#if FLASHOMNI_TORCH_CUDA
  if (device_.is_cuda()) e.stream = c10::cuda::getCurrentCUDAStream(device_.index()).stream();
#endif
  if (workspace_bytes > 0) {
    if (!workspace_.defined() || static_cast<size_t>(workspace_.numel()) < workspace_bytes) {
      workspace_ = at::empty({static_cast<int64_t>(workspace_bytes)},
                             at::TensorOptions().dtype(at::kByte).device(device_));
    }
  }
  if (workspace_.defined()) {
    e.workspace = workspace_.data_ptr();
    e.workspace_bytes = static_cast<size_t>(workspace_.numel());
  }
  return e;
}

namespace {

struct Weights {
  std::mutex mutex;
  std::map<int64_t, std::shared_ptr<const PackedWeight>> by_id;
  int64_t next = 1;
};

Weights& weights() {
  static auto& made = *new Weights;
  return made;
}

}  // namespace

int64_t register_weight(std::shared_ptr<const PackedWeight> weight) {
  Weights& w = weights();
  const std::scoped_lock lock(w.mutex);
  w.by_id[w.next] = std::move(weight);
  return w.next++;
}

void unregister_weight(int64_t id) {
  Weights& w = weights();
  const std::scoped_lock lock(w.mutex);
  w.by_id.erase(id);
}

Result<std::shared_ptr<const PackedWeight>> find_weight(int64_t id) {
  Weights& w = weights();
  const std::scoped_lock lock(w.mutex);
  const auto it = w.by_id.find(id);
  if (it != w.by_id.end()) return it->second;
  return not_found("no packed weight " + std::to_string(id) + ": its PackedWeight was closed");
}

#if FLASHOMNI_TORCH_CUDA
namespace {

// From torch's own pool, which gives back what it only keeps before it says that nothing is left,
// and counts what the engine holds (torch.cuda.memory_allocated).
void* torch_allocate(size_t bytes) {
  try {
    void* memory = c10::cuda::CUDACachingAllocator::raw_alloc(bytes);
    // A block that work on the current stream still reads may come back at once; here it is used on
    // any stream. Long-lived memory is allocated before a run, never within.
    c10::cuda::getCurrentCUDAStream().synchronize();
    return memory;
  } catch (const std::exception&) {
    return nullptr;
  }
}

void torch_release(void* memory) {
  try {
    c10::cuda::CUDACachingAllocator::raw_delete(memory);
  } catch (const std::exception&) {  // at the end of a process, when torch's pool is gone
  }
}

}  // namespace

const cuda::DeviceMemory kTorchMemory = {torch_allocate, torch_release};
#endif

}  // namespace flashomni::python

TORCH_LIBRARY(flashomni, m) {
#if FLASHOMNI_TORCH_CUDA
  flashomni::cuda::use_device_memory(flashomni::python::kTorchMemory);
#endif
  m.set_python_module("flashomni.torch_ops.fakes");
  flashomni::python::define_functional(m);
  flashomni::python::define_session(m);
}

TORCH_LIBRARY_IMPL(flashomni, CPU, m) {
  flashomni::python::implement_functional(m);
  flashomni::python::implement_session(m);
}

#if FLASHOMNI_TORCH_CUDA
TORCH_LIBRARY_IMPL(flashomni, CUDA, m) {
  flashomni::python::implement_functional(m);
  flashomni::python::implement_session(m);
}
#endif
