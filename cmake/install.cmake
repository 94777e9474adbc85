# SPDX-License-Identifier: Apache-2.0
# What is installed: the headers, the library, what finds it (pkg-config, CMake), the
# programs, their man pages, and the documents that must or should go along, each with
# its component, which packages.cmake makes a package of. tests/package/ holds this list
# against a real installation.
include(CMakePackageConfigHelpers)

set(GDS_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/gds)

# Both ways to find the library reckon from where they lie, so that a tree that was
# installed can be moved.
file(RELATIVE_PATH GDS_PC_TO_PREFIX
     ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" GDS_PC_TO_PREFIX ${GDS_PC_TO_PREFIX})
configure_file(cmake/gds.pc.in gds.pc @ONLY)
configure_package_config_file(cmake/gds-config.cmake.in gds-config.cmake
                              INSTALL_DESTINATION ${GDS_CMAKE_DIR})
# Before 1.0 a new minor version may break what the last one promised.
write_basic_package_version_file(gds-config-version.cmake COMPATIBILITY SameMinorVersion)

install(TARGETS gds EXPORT gds-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
                COMPONENT library NAMELINK_COMPONENT development)
install(EXPORT gds-targets NAMESPACE gds:: DESTINATION ${GDS_CMAKE_DIR} COMPONENT development)
install(FILES ${PROJECT_BINARY_DIR}/gds-config.cmake
              ${PROJECT_BINARY_DIR}/gds-config-version.cmake
        DESTINATION ${GDS_CMAKE_DIR} COMPONENT development)
install(FILES ${PROJECT_BINARY_DIR}/gds.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
        COMPONENT development)
install(FILES include/gds/gds.h include/gds/backend.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/gds COMPONENT development)

if(TARGET gds-bench)
  install(TARGETS gds-bench RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT tools)
endif()

# docs/ makes those of the interface, and says where they go.
install(FILES docs/man/gds-bench.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT tools)

install(FILES LICENSE README.md CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR}
        COMPONENT development OPTIONAL)
