# SPDX-License-Identifier: Apache-2.0
# Debian packages, one for each component of install.cmake, made by CPack:
#
#   cmake --workflow --preset package
#
# libgds0 is the library, libgds-dev what programs are built with, gds-tools gds-bench.
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL library development tools)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PACKAGE_DIRECTORY ${PROJECT_BINARY_DIR})
set(CPACK_PACKAGE_VENDOR gds)
set(CPACK_PACKAGE_CONTACT "The developers of gds" CACHE STRING
    "Who maintains the packages: NAME <ADDRESS>")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${PROJECT_BINARY_DIR}/core)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY ">=")

set(version "${PROJECT_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}")
set(library libgds${PROJECT_VERSION_MAJOR})

# gds_package(COMPONENT NAME SECTION DESCRIPTION)
macro(gds_package component name section description)
  string(TOUPPER ${component} upper)
  set(CPACK_DEBIAN_${upper}_PACKAGE_NAME ${name})
  set(CPACK_DEBIAN_${upper}_PACKAGE_SECTION ${section})
  set(CPACK_COMPONENT_${upper}_DESCRIPTION ${description})
  # Of packages alone: who installs by hand has the licence beside the README.
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/${name} RENAME copyright
          COMPONENT ${component} EXCLUDE_FROM_ALL)
endmacro()

gds_package(library ${library} libs "The library.")
# Loaded where they are there: a device without its driver is reported, not missed.
set(CPACK_DEBIAN_LIBRARY_PACKAGE_RECOMMENDS "libvulkan1, mesa-vulkan-drivers")

gds_package(development libgds-dev libdevel "What programs that use the library are built with.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS "${library} (= ${version})")

gds_package(tools gds-tools utils "gds-bench, which reads, checks and measures.")
set(CPACK_DEBIAN_TOOLS_PACKAGE_DEPENDS "${library} (= ${version})")
set(CPACK_DEBIAN_TOOLS_PACKAGE_SUGGESTS gnuplot-nox)

include(CPack)
