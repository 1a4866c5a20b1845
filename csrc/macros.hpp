// Attributes that GCC and Clang spell alike.
#pragma once

#define PYROBERTA_INLINE inline __attribute__((always_inline))
#define PYROBERTA_RESTRICT __restrict

// Of a declaration: it is defined within this extension. So the linker refuses what is missing; without this the error
// would come when the extension is imported.
#define PYROBERTA_HERE __attribute__((visibility("hidden")))
