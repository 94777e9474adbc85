# SPDX-License-Identifier: Apache-2.0
# How everything is compiled. Warnings become errors through
# CMAKE_COMPILE_WARNING_AS_ERROR, which the presets set and a packager's build
# does not: a newer compiler must not break it.
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "Kind of build" FORCE)
endif()

add_compile_options(-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes
                    -Wpointer-arith -Wformat=2 -Wundef -Wno-unused-parameter)
add_compile_definitions(_GNU_SOURCE)

if(GDS_SANITIZE)
  # The shared library then needs the sanitizer's runtime, which only a program
  # that is built alike brings along: -Wl,-z,defs is left out for that reason.
  add_compile_options(-fsanitize=${GDS_SANITIZE} -fno-sanitize-recover=all
                      -fno-omit-frame-pointer)
  add_link_options(-fsanitize=${GDS_SANITIZE})
else()
  add_link_options(-Wl,-z,defs -Wl,--as-needed)
endif()
