// Half precision for compilers without a type for it.
#pragma once

#include <cstdint>
#include <cstring>

// The value of an IEEE 754 half given by its bits.
inline float half_to_float(std::uint16_t bits) {
    const bool finite = (bits & 0x7c00) != 0x7c00;
    const std::uint32_t shifted = (bits & 0x7fffu) << 13 | (finite ? 0 : 0x7f800000u);
    float value;
    std::memcpy(&value, &shifted, sizeof value);
    if (finite) value *= 0x1p112f;  // exponents count from 127 instead of 15; subnormals become normal
    return bits & 0x8000 ? -value : value;
}
