# SPDX-License-Identifier: Apache-2.0
# What is needed from outside. Optional parts are found here too, and a line says
# what was left out and what would bring it in.
include(CheckIncludeFile)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LIBURING REQUIRED IMPORTED_TARGET liburing>=2.3)
find_package(ZLIB REQUIRED)
find_package(Threads REQUIRED)

if(BUILD_TESTING)
  pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
endif()
