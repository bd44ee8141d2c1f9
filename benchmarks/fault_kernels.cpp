// Kernels of a doubling (floating [n] to the same) that fail, each in its own way, and one that does not. Not what the policy lets pass.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>
namespace ffi = tvm::ffi;

static ffi::Tensor doubled(ffi::TensorView x) {
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device());
  const float* in = static_cast<const float*>(x.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  const int64_t step = x.stride(0);
  for (int64_t i = 0; i < x.size(0); ++i) to[i] = 2 * in[i * step];
  return out;
}
static void fill(int file) {
  static const std::string piece(1 << 20, 'x');
  for (int i = 0; i < 60; ++i)
    if (write(file, piece.data(), piece.size()) < 0) break;
}
ffi::Tensor right(ffi::TensorView x) { return doubled(x); }
ffi::Tensor segmentation_fault(ffi::TensorView x) { *reinterpret_cast<volatile int*>(8) = 1; return doubled(x); }
ffi::Tensor aborts(ffi::TensorView x) { abort(); return doubled(x); }
ffi::Tensor endless(ffi::TensorView x) { for (volatile int i = 0;; i = i + 1) {} return doubled(x); }
ffi::Tensor out_of_memory(ffi::TensorView x) {
  for (int i = 0; i < 200; ++i) {
    char* volatile block = new char[1 << 30];
    memset(block, 1, 1 << 30);
  }
  return doubled(x);
}
ffi::Tensor fork_bomb(ffi::TensorView x) { for (;;) fork(); return doubled(x); }
ffi::Tensor thread_bomb(ffi::TensorView x) {
  pthread_attr_t small;
  pthread_attr_init(&small);
  pthread_attr_setstacksize(&small, 1 << 16);
  for (int i = 0; i < 100000; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, &small, [](void*) -> void* { for (;;) pause(); return nullptr; }, nullptr)) break;
  }
  for (;;) pause();
  return doubled(x);
}
ffi::Tensor disk_filled(ffi::TensorView x) {
  for (int i = 0; i < 4096; ++i) {
    const int file = open(("part" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600);
    fill(file);
    close(file);
  }
  return doubled(x);
}
ffi::Tensor disk_filled_unnamed(ffi::TensorView x) {
  for (int i = 0; i < 200; ++i) {
    fill(open("part", O_CREAT | O_WRONLY, 0600));
    unlink("part");
  }
  for (;;) pause();
  return doubled(x);
}
ffi::Tensor gigabyte_on_stderr(ffi::TensorView x) {
  const std::string line(1 << 20, 'x');
  for (int i = 0; i < 1024; ++i)
    if (write(2, line.data(), line.size()) < 0) break;
  return doubled(x);
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(right, right);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(segmentation_fault, segmentation_fault);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(aborts, aborts);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(endless, endless);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(out_of_memory, out_of_memory);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fork_bomb, fork_bomb);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(thread_bomb, thread_bomb);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(disk_filled, disk_filled);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(disk_filled_unnamed, disk_filled_unnamed);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(gigabyte_on_stderr, gigabyte_on_stderr);
