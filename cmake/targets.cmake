# fo_library(<name> SOURCES ... LINK ... PRIVATE_LINK ...): one layer of src/ as a static library
# called flashomni_<name>, exported as flashomni::<name>.
function(fo_compile_options target)
  # No contraction: a*b+c rounds twice unless the code says fma, so that the same expression gives
  # the same bits in every translation unit and on every instruction set.
  # gcc 12 reports -Wrestrict inside std::string operator+ (its bug 105651).
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wshadow -Wnon-virtual-dtor
                                           -Wno-missing-field-initializers
                                           $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
                                           -ffp-contract=off)
  if(FLASHOMNI_WERROR)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
  if(FLASHOMNI_FUZZ)
    target_compile_options(${target} PRIVATE -fsanitize=fuzzer-no-link)
  endif()
  if(FLASHOMNI_SANITIZE)
    target_compile_options(${target} PRIVATE -fsanitize=${FLASHOMNI_SANITIZE}
                                             -fno-omit-frame-pointer -fno-sanitize-recover=all)
    target_link_options(${target} PUBLIC -fsanitize=${FLASHOMNI_SANITIZE})
  endif()
endfunction()

# For code that is never hot, such as the command line's options and tests: it is mostly templates of
# headers, which take half as long again, or longer, to compile with full optimisation.
function(fo_quick_compile target)
  target_compile_options(${target} PRIVATE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-O1>)
  if(FLASHOMNI_SANITIZE)
    target_compile_options(${target} PRIVATE -O0)
  endif()
endfunction()

function(fo_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  set(target flashomni_${name})
  add_library(${target} STATIC ${ARG_SOURCES})
  add_library(flashomni::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_include_directories(
    ${target}
    PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>
    PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${target} PUBLIC ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
  fo_compile_options(${target})
endfunction()

# Every .cc below the current folder's <dir> (new files are picked up at the next build).
macro(fo_sources variable dir)
  file(GLOB_RECURSE ${variable} CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${dir}/*.cc)
endmacro()
