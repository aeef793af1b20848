# The real file sets compilers, paths and tests up.
include(CTest)
