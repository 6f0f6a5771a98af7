// Replaces CUDA's header of the same name.
#pragma once

#include "half.h"

struct __half {
    std::uint16_t bits;
};
inline float __half2float(__half value) { return half_to_float(value.bits); }
