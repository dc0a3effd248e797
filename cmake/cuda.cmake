# FLASHOMNI_CUDA and, where it comes out as on, FLASHOMNI_HAS_CUDA, the CUDA language and toolkit, and
# fo_cuda_objects. CUDA 12.8 is the oldest whose ptxas keeps our Hopper kernels free of spills.
set(FLASHOMNI_CUDA AUTO CACHE STRING
    "Build the CUDA backend: ON, OFF, or AUTO (where nvcc 12.8 or newer is found)")
set_property(CACHE FLASHOMNI_CUDA PROPERTY STRINGS AUTO ON OFF)
set(FO_LEAST_CUDA 12.8)

set(FLASHOMNI_HAS_CUDA OFF)
if(NOT FLASHOMNI_CUDA)
  set(reason "FLASHOMNI_CUDA is ${FLASHOMNI_CUDA}")
elseif(FLASHOMNI_SANITIZE AND FLASHOMNI_CUDA STREQUAL "AUTO")
  set(reason "not in builds with sanitizers")
else()
  find_program(FLASHOMNI_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH ENV CUDA_HOME /usr/local/cuda
               PATH_SUFFIXES bin DOC "CUDA compiler")
  if(FLASHOMNI_NVCC)
    execute_process(COMMAND ${FLASHOMNI_NVCC} --version OUTPUT_VARIABLE text ERROR_QUIET)
    string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" found "${text}")
    set(version "${CMAKE_MATCH_1}")
    if(version VERSION_GREATER_EQUAL FO_LEAST_CUDA)
      set(FLASHOMNI_HAS_CUDA ON)
    else()
      set(reason "${FLASHOMNI_NVCC} is CUDA ${version}, wanted ${FO_LEAST_CUDA} or newer")
    endif()
  else()
    set(reason "no nvcc found")
  endif()
  if(NOT FLASHOMNI_HAS_CUDA AND NOT FLASHOMNI_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "FLASHOMNI_CUDA is ${FLASHOMNI_CUDA}, but ${reason}")
  endif()
endif()

if(NOT FLASHOMNI_HAS_CUDA)
  message(STATUS "CUDA backend: off (${reason})")
  return()
endif()
message(STATUS "CUDA backend: on (${FLASHOMNI_NVCC}, CUDA ${version})")

set(CMAKE_CUDA_COMPILER ${FLASHOMNI_NVCC})
# Each library names its own: an older CMake does not know 90a.
set(CMAKE_CUDA_ARCHITECTURES OFF)
enable_language(CUDA)
# Nor does it know how to ask a newer nvcc for C++20.
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
find_package(CUDAToolkit ${FO_LEAST_CUDA} REQUIRED)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
# So that the installed command finds cuBLASLt where the build found it.
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)

# fo_cuda_objects(<name> [STRICT] SOURCES ... CODE ...): kernels as the object library
# flashomni_<name>, for every -gencode value in CODE. What ptxas says of each kernel is kept beside
# its object; with STRICT, spills and serialised products end the build.
function(fo_cuda_objects name)
  cmake_parse_arguments(ARG "STRICT" "" "SOURCES;CODE" ${ARGN})
  set(target flashomni_${name})
  add_library(${target} OBJECT ${ARG_SOURCES})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR}/include
                                               ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PRIVATE CUDA::toolkit)
  set_target_properties(${target} PROPERTIES CUDA_STANDARD 20 CUDA_ARCHITECTURES OFF)
  set(launcher ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/scripts/check_ptxas.py)
  if(ARG_STRICT)
    list(APPEND launcher --strict)
  endif()
  list(APPEND launcher --)
  set_target_properties(${target} PROPERTIES CUDA_COMPILER_LAUNCHER "${launcher}")
  # 2810: nvcc 13 reports [[nodiscard]] values that are in fact assigned.
  set(options -O3 -DNDEBUG -lineinfo --expt-relaxed-constexpr -Xptxas=-v -diag-suppress=2810
              -Xcompiler=-Wall,-Wextra,-Wno-missing-field-initializers)
  foreach(code ${ARG_CODE})
    list(APPEND options -gencode=${code})
  endforeach()
  if(FLASHOMNI_WERROR)
    list(APPEND options -Werror=all-warnings)
  endif()
  target_compile_options(${target} PRIVATE ${options})
endfunction()
