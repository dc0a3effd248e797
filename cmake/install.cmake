# `cmake --install` and find_package(flashomni): the public headers, the library layers that need
# nothing but the standard library and Highway, and the command.
include(CMakePackageConfigHelpers)

set(FO_INSTALLED flashomni_base flashomni_core flashomni_strategies flashomni_cpu flashomni)
if(FLASHOMNI_HAS_CUDA)
  list(APPEND FO_INSTALLED flashomni_cuda)
endif()
install(TARGETS ${FO_INSTALLED}
        EXPORT flashomni-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/flashomni DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT flashomni-targets NAMESPACE flashomni::
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flashomni)
configure_package_config_file(
  cmake/flashomni-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/flashomni-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flashomni)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/flashomni-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/flashomni-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/flashomni-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/flashomni)
if(FLASHOMNI_BUILD_TOOLS)
  install(TARGETS flashomni_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  install(DIRECTORY models/ DESTINATION ${CMAKE_INSTALL_DATADIR}/flashomni/models)
endif()
