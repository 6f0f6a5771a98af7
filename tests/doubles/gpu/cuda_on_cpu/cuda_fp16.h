// Replaces CUDA's header of the same name.
#pragma once

#include "half.h"

struct __half {
    std::uint16_t bits;
};
inline float __half2float(__half value) { return half_to_float(value.bits); }

// The nearest half, of two equally near the even one, for values within its range.
inline __half __float2half_rn(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const std::uint32_t sign = bits >> 16 & 0x8000;
    float size;
    bits &= 0x7fffffff;
    std::memcpy(&size, &bits, sizeof size);
    if (size < 0x1p-14f) {  // subnormal: the sum rounds to multiples of 2^-24
        size += 0.5f;
        std::memcpy(&bits, &size, sizeof bits);
        return {static_cast<std::uint16_t>(sign | (bits - 0x3f000000))};
    }
    bits += 0xc8000fff + (bits >> 13 & 1);  // another bias of the exponent, and half of the last bit
    return {static_cast<std::uint16_t>(sign | bits >> 13)};
}
