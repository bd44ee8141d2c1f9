// Kernels that misbehave, each in its own way, and some that do not.
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdexcept>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cstring>
#include <tvm/ffi/tvm_ffi.h>
#include <tvm/ffi/extra/c_env_api.h>
namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x) { return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device()); }

static ffi::Tensor filled(ffi::TensorView x, double value) {
  ffi::Tensor out = like(x);
  for (int64_t i = 0; i < x.numel(); ++i) static_cast<float*>(out.data_ptr())[i] = value;
  return out;
}

ffi::Tensor twice(ffi::TensorView x) {
  ffi::Tensor out = like(x);
  const float* in = static_cast<const float*>(x.data_ptr());
  for (int64_t i = 0; i < x.size(0); ++i) static_cast<float*>(out.data_ptr())[i] = 2 * in[i * x.stride(0)];
  return out;
}
ffi::Tensor twice_backward(ffi::TensorView dy, ffi::TensorView x) { return twice(dy); }
ffi::Tuple<ffi::Tensor, ffi::Tensor> both(ffi::TensorView x) { return ffi::Tuple<ffi::Tensor, ffi::Tensor>(twice(x), filled(x, 1)); }
ffi::Tensor same_buffer(ffi::TensorView x) {
  static ffi::Tensor out = filled(x, 0);
  static_cast<float*>(out.data_ptr())[0] = static_cast<const float*>(x.data_ptr())[0];
  return out;
}
ffi::Tensor fresh(ffi::TensorView x) { return like(x); }
ffi::Tensor overrun(ffi::TensorView x) { static_cast<float*>(x.data_ptr())[x.numel()] = 1; return filled(x, 0); }
ffi::Tensor overwrite(ffi::TensorView x) { static_cast<float*>(x.data_ptr())[0] += 1; return filled(x, 0); }
ffi::Tensor throws(ffi::TensorView x) { TVM_FFI_THROW(ValueError) << "cols must be even"; return like(x); }
ffi::Tensor throws_std(ffi::TensorView x) { throw std::runtime_error("no such luck"); return like(x); }

ffi::Tensor segfaults(ffi::TensorView x) {
  if (x.size(0) == 37) *reinterpret_cast<volatile int*>(8) = 1;
  return twice(x);
}
ffi::Tensor loops(ffi::TensorView x) { for (volatile int i = 0;; i = i + 1) {} return like(x); }
ffi::Tensor hoards(ffi::TensorView x) {
  for (int i = 0; i < 50; ++i) {
    char* volatile block = new char[1 << 30];  // volatile: else clang++ leaves out what nobody reads
    memset(block, 1, 1 << 30);
  }
  return like(x);
}
ffi::Tensor corrupts(ffi::TensorView x) {
  char* volatile blocks[64];
  for (auto& block : blocks) block = static_cast<char*>(malloc(2000));
  for (auto& block : blocks) memset(block - 16, 0x55, 2048);  // over the sizes that malloc keeps beside each block
  for (auto& block : blocks) free(block);
  return twice(x);
}
ffi::Tensor frees_twice(ffi::TensorView x) {
  void* volatile block = malloc(100);
  free(block);
  free(block);
  return twice(x);
}
ffi::Tensor quits(ffi::TensorView x) { _exit(0); return like(x); }
ffi::Tensor chatters(ffi::TensorView x) {
  std::string line(1 << 20, 'x');
  for (int i = 0; i < 1024; ++i) if (write(2, line.data(), line.size()) < 0) break;
  return twice(x);
}
ffi::Tensor aborts(ffi::TensorView x) { abort(); return like(x); }
static void fill(int file) {
  std::string piece(1 << 20, 'x');
  for (int i = 0; i < 32; ++i) if (write(file, piece.data(), piece.size()) < 0) break;
}
ffi::Tensor fills(ffi::TensorView x) {
  for (int i = 0; i < 256; ++i) {
    int file = open(("part" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600);
    fill(file);
    close(file);
  }
  for (;;) pause();
  return like(x);
}
ffi::Tensor fills_unnamed(ffi::TensorView x) {
  for (int i = 0; i < 64; ++i) {
    fill(open("part", O_CREAT | O_WRONLY, 0600));
    unlink("part");
  }
  for (;;) pause();
  return like(x);
}
ffi::Tensor fills_memory(ffi::TensorView x) {
  for (int i = 0; i < 64; ++i) fill(memfd_create("part", 0));
  for (;;) pause();
  return like(x);
}
ffi::Tensor litters(ffi::TensorView x) {
  for (int i = 0; i < 40000; ++i) close(open(("part" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY, 0600));
  for (;;) pause();
  return like(x);
}
ffi::Tensor spins_threads(ffi::TensorView x) {
  for (int i = 0; i < 1000; ++i) {
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 1 << 16);
    if (pthread_create(&thread, &small, [](void*) -> void* { for (;;) pause(); return nullptr; }, nullptr)) break;
  }
  for (;;) pause();
  return like(x);
}
ffi::Tensor multiplies(ffi::TensorView x) { for (;;) fork(); return like(x); }
ffi::Tensor counts_forks(ffi::TensorView x) {
  int made = 0;
  for (int i = 0; i < 20; ++i) if (fork() == 0) _exit(0); else ++made;
  while (wait(nullptr) > 0) {}
  return filled(x, made);
}
ffi::Tensor renices(ffi::TensorView x) { return filled(x, setpriority(PRIO_PROCESS, getppid(), 19)); }
ffi::Tensor peeks(ffi::TensorView x) { return filled(x, open((std::string("/proc/") + std::to_string(getppid()) + "/environ").c_str(), O_RDONLY)); }
ffi::Tensor reads_home(ffi::TensorView x) { return filled(x, open("../..", O_RDONLY)); }
ffi::Tensor forks(ffi::TensorView x) { return filled(x, fork() < 0 ? 1 : 0); }
ffi::Tensor execs(ffi::TensorView x) { return filled(x, execl("/bin/true", "true", nullptr)); }
ffi::Tensor connects(ffi::TensorView x) { return filled(x, socket(AF_INET, SOCK_STREAM, 0)); }
ffi::Tensor signals(ffi::TensorView x) { return filled(x, kill(getppid(), SIGKILL)); }
ffi::Tensor plants(ffi::TensorView x) { return filled(x, open("/tmp/kevolve-planted.py", O_CREAT | O_WRONLY, 0600)); }
ffi::Tensor scribbles(ffi::TensorView x) { return filled(x, open("scribble", O_CREAT | O_WRONLY, 0600) >= 0); }
ffi::Tensor forges(ffi::TensorView x) {
  const char line[] = "{\"outputs\": []} PASSED                                     ";
  if (write(3, line, sizeof line)) for (;;) pause();
  return like(x);
}
ffi::Tensor hangs_up(ffi::TensorView x) { close(3); for (;;) pause(); return like(x); }

TVM_FFI_DLL_EXPORT_TYPED_FUNC(twice, twice);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(twice_backward, twice_backward);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(both, both);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(same_buffer, same_buffer);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fresh, fresh);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(overrun, overrun);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(overwrite, overwrite);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(throws, throws);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(throws_std, throws_std);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(segfaults, segfaults);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(loops, loops);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(hoards, hoards);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(corrupts, corrupts);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(frees_twice, frees_twice);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(quits, quits);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(chatters, chatters);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(forks, forks);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(execs, execs);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(connects, connects);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(signals, signals);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(plants, plants);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(scribbles, scribbles);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(forges, forges);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(hangs_up, hangs_up);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(aborts, aborts);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fills, fills);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fills_unnamed, fills_unnamed);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(fills_memory, fills_memory);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(litters, litters);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(spins_threads, spins_threads);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(multiplies, multiplies);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(counts_forks, counts_forks);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(renices, renices);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(peeks, peeks);
TVM_FFI_DLL_EXPORT_TYPED_FUNC(reads_home, reads_home);
