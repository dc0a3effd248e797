# FLASHOMNI_TORCH_DIR: the `torch` folder of the Python environment that installs this package, or
# empty. pip builds in an isolated environment without torch, so it is looked for in the site-packages
# of the interpreter itself. torch's own CMake package is not used: it insists on a CUDA toolkit of its
# own version, of which the seam needs a few headers only.
set(FLASHOMNI_TORCH AUTO CACHE STRING "Build the torch operations: ON, OFF, or AUTO (where torch is installed)")
set(FLASHOMNI_TORCH_DIR "" CACHE PATH "The torch folder of the Python environment; empty: look for it")

set(FO_HAS_TORCH OFF)
if(NOT FLASHOMNI_TORCH)
  message(STATUS "torch operations: off (FLASHOMNI_TORCH is ${FLASHOMNI_TORCH})")
  return()
endif()
set(dir "${FLASHOMNI_TORCH_DIR}")
if(NOT dir)
  execute_process(
    COMMAND ${Python_EXECUTABLE} -c "import sysconfig; print(sysconfig.get_path('platlib', vars={'base': __import__('sys').prefix, 'platbase': __import__('sys').prefix}))"
    OUTPUT_VARIABLE site OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(dir "${site}/torch")
endif()
if(EXISTS "${dir}/version.py" AND EXISTS "${dir}/include/torch/library.h")
  set(FO_HAS_TORCH ON)
elseif(NOT FLASHOMNI_TORCH STREQUAL "AUTO")
  message(FATAL_ERROR "FLASHOMNI_TORCH is ${FLASHOMNI_TORCH}, but there is no torch in ${dir}")
endif()
if(NOT FO_HAS_TORCH)
  message(STATUS "torch operations: off (no torch in ${dir})")
  return()
endif()

file(STRINGS "${dir}/version.py" line REGEX "^__version__")
string(REGEX REPLACE ".*'(.*)'.*" "\\1" FO_TORCH_VERSION "${line}")
set(FO_TORCH_CUDA OFF)
if(FLASHOMNI_HAS_CUDA AND EXISTS "${dir}/lib/libc10_cuda.so")
  set(FO_TORCH_CUDA ON)
endif()
add_library(fo_torch INTERFACE)
target_include_directories(fo_torch SYSTEM INTERFACE "${dir}/include"
                                                     "${dir}/include/torch/csrc/api/include")
# Loaded by `import torch` before the seam is; no path of the build machine is recorded.
target_link_libraries(fo_torch INTERFACE "${dir}/lib/libtorch_cpu.so" "${dir}/lib/libc10.so")
if(FO_TORCH_CUDA)
  target_link_libraries(fo_torch INTERFACE "${dir}/lib/libc10_cuda.so" CUDA::cudart_static)
  target_include_directories(fo_torch SYSTEM INTERFACE ${CUDAToolkit_INCLUDE_DIRS})
endif()
message(STATUS "torch operations: on (torch ${FO_TORCH_VERSION} in ${dir}, CUDA ${FO_TORCH_CUDA})")
