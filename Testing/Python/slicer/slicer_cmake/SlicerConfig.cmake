# A minimal stand-in for an installed Slicer's CMake package: it copies and installs what the real
# macros copy and install (checked with the real ones), and compiles nothing.
#
# - scripts and resources keep their relative path, below lib/Slicer-X.Y/qt-scripted-modules;
# - SCRIPTS is mandatory, a script without ending gets .py, a missing file stops the build;
# - the whole qt-scripted-modules folder of the build is what gets installed.
include(CMakeParseArguments)

set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer-5.12/qt-scripted-modules)
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/UseSlicer.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/ExtensionConfig.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/ExtensionCPack.cmake)

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MODULE "WITH_GENERIC_TESTS;WITH_SUBDIR" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  foreach(needed NAME SCRIPTS)
    if(NOT MODULE_${needed})
      message(FATAL_ERROR "slicerMacroBuildScriptedModule: ${needed} is mandatory")
    endif()
  endforeach()
  if(MODULE_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule: ${MODULE_UNPARSED_ARGUMENTS} unknown")
  endif()
  set(_copies)
  foreach(_file ${MODULE_SCRIPTS} ${MODULE_RESOURCES})
    if(_file IN_LIST MODULE_SCRIPTS AND NOT _file MATCHES "\\.py$")
      string(APPEND _file ".py")
    endif()
    list(APPEND _copies COMMAND ${CMAKE_COMMAND} -E copy_if_different
      ${CMAKE_CURRENT_SOURCE_DIR}/${_file}
      ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${_file})
    get_filename_component(_folder ${_file} DIRECTORY)
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${_folder})
  endforeach()
  add_custom_target(Copy${MODULE_NAME}Scripts ALL ${_copies} VERBATIM)
endmacro()

macro(slicer_add_python_unittest)
  cmake_parse_arguments(UNITTEST "" "SCRIPT;TESTNAME_PREFIX" "SLICER_ARGS" ${ARGN})
  # The real one looks from the build tree: a relative path is not found there.
  if(NOT IS_ABSOLUTE "${UNITTEST_SCRIPT}" OR NOT EXISTS "${UNITTEST_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest: no script ${UNITTEST_SCRIPT}")
  endif()
  get_filename_component(_name ${UNITTEST_SCRIPT} NAME_WE)
  add_test(NAME py_${_name} COMMAND Slicer --testing --python-code ${_name})
endmacro()
