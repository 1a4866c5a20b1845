// The lock of Python's interpreter.
#pragma once

#include <pybind11/pybind11.h>

namespace pyroberta {

// As long as there is one of these, this thread is without the GIL.
class WithoutGil {
   public:
    WithoutGil() : thread_(PyEval_SaveThread()) {}
    ~WithoutGil();
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

   private:
    PyThreadState* const thread_;
};

}  // namespace pyroberta
