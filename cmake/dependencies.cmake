# SPDX-License-Identifier: Apache-2.0
# What is needed from outside. Optional parts are found here too, and a line says
# what was left out and what would bring it in.
include(CheckIncludeFile)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBURING REQUIRED IMPORTED_TARGET liburing>=2.3)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)

option(GDS_PROBES "Trace points for bpftrace and perf, where sys/sdt.h is installed" ON)
check_include_file(sys/sdt.h GDS_HEADER_SDT)
if(GDS_PROBES AND NOT GDS_HEADER_SDT)
  message(STATUS "gds: no trace points: sys/sdt.h (systemtap-sdt-dev) is missing")
endif()

if(BUILD_TESTING)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
endif()
